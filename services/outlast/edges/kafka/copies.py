"""What repeats what: a record read twice at two offsets runs once.

A copy is dropped only once its first is done, here or at another worker: were it dropped before,
and the first then given up, nobody would run either.
"""

import asyncio
from collections.abc import Hashable
from typing import NamedTuple

from aiokafka import TopicPartition

from outlast.core.errors import Released
from outlast.core.seen import Key, Place, Seen, Sight
from outlast.edges.kafka.records import Records
from outlast_schemas.job import Job

__all__ = ["Copies", "Identity", "identity"]


class Identity(NamedTuple):
    """What tells copies: key and place; the body only where the same id may come with another."""

    key: Key
    place: Place
    body: Hashable


class Copies:
    """The memory of one feed, and who waits for whom."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.dropped = 0
        """How many were found to repeat another."""
        self._seen = Seen()
        self._firsts: dict[Key, asyncio.Future[None]] = {}
        self._lent: dict[tuple[TopicPartition, int], tuple[Key, asyncio.Future[None]]] = {}

    def remember(self, job: Job) -> None:
        """It is done: what repeats it is a copy."""
        self._seen.look(*identity(job))

    def first_of(self, who: Identity) -> "asyncio.Future[None] | None":
        """Whom this one has to wait for: the record that it repeats, while that still runs."""
        first = self._firsts.get(who.key)
        if first is None or first is asyncio.current_task():
            return None
        return None if self._seen.is_first(who.key, who.place) else first

    @staticmethod
    def check(first: "asyncio.Future[None]") -> None:
        """Raise ``Released`` when it cannot be told here any more how the first has ended."""
        if not first.cancelled() and isinstance(first.exception(), Released):
            raise Released

    def is_new(self, who: Identity) -> bool:
        """Whether it repeats nothing that is remembered."""
        return self._seen.is_first(who.key, who.place)

    def look(self, who: Identity, runner: "asyncio.Future[None] | None" = None) -> Sight:
        """What the record is. Of what is new ``runner``, or this task, is the first by now."""
        sight = self._seen.look(*who)
        first = runner or asyncio.current_task()
        if sight is Sight.NEW and first is not None:
            self._firsts[who.key] = first
        self.dropped += sight is Sight.COPY
        return sight

    def gave_up(self, who: Identity) -> None:
        """It was not done: what comes next is no copy of it."""
        self._seen.forget(who.key, who.place)

    def ended(self, who: Identity, runner: "asyncio.Future[None] | None" = None) -> None:
        """``runner``, or this task, is through with it."""
        if self._firsts.get(who.key) is (runner or asyncio.current_task()):
            del self._firsts[who.key]

    def lent(self, tp: TopicPartition, offset: int, job: Job) -> None:
        """Another process runs it."""
        who = identity(job)
        if (tp, offset) in self._lent or self._seen.look(*who) is not Sight.NEW:
            return
        ended = asyncio.get_running_loop().create_future()
        self._lent[(tp, offset)] = (who.key, ended)
        self._firsts.setdefault(who.key, ended)

    def returned(self, tp: TopicPartition, offset: int, *, is_done: bool) -> None:
        """What another process ran came back."""
        if (lent := self._lent.pop((tp, offset), None)) is None:
            return
        key, ended = lent
        if not is_done:
            self._seen.forget(key, (tp.topic, tp.partition, offset))
        if self._firsts.get(key) is ended:
            del self._firsts[key]
        ended.set_result(None)

    def review(self, records: Records) -> None:
        """After a rebalance: what is not lent any more has ended, or is another's to know."""
        for tp, offset in list(self._lent):
            if tp not in records.owned:
                self._lose(tp, offset)
            elif not records.marks[tp].is_lent(offset):
                self.returned(tp, offset, is_done=records.is_done(tp, offset))

    def _lose(self, tp: TopicPartition, offset: int) -> None:
        key, ended = self._lent.pop((tp, offset))
        self._seen.forget(key, (tp.topic, tp.partition, offset))
        if self._firsts.get(key) is ended:
            del self._firsts[key]
        ended.set_exception(Released())
        ended.exception()  # nobody may be waiting for it


def identity(job: Job) -> Identity:
    """What tells whether a record is a copy."""
    state, origin = job.state, job.origin
    return Identity(
        (job.id, state.replays, state.hop),
        (origin.topic, origin.partition, origin.offset),
        hash(job.body) if state.hop == 0 else None,
    )
