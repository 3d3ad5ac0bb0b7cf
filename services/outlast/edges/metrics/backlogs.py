"""How much of a feed's partitions is not done, and how old the oldest of it is, read or not.

A commit says which offset is the lowest that is not done. When that record was appended is known
while it runs here or was fetched; where it was not, or another worker runs it, it is read once
more, by a reader of its own. Until that has come, it is as old as it has been seen waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from aiokafka import TopicPartition

from outlast.core.watermark import Watermark
from outlast.edges.codec import Record

__all__ = ["Backlog", "Standing", "look_at"]

log = structlog.get_logger()

LOOK_SECONDS: Final = 5.0
GLANCE_MS: Final = 30_000
"""Records are read for their age at most once in so long."""

Appended = Callable[[Mapping[TopicPartition, int]], Awaitable[Mapping[TopicPartition, int]]]


class _Feed(Protocol):
    @property
    def running(self) -> Sequence[Record]: ...

    @property
    def held(self) -> Mapping[TopicPartition, Sequence[Record]]: ...


class _Records(Protocol):
    @property
    def marks(self) -> Mapping[TopicPartition, Watermark]: ...


class _Assignment(Protocol):
    @property
    def owned(self) -> frozenset[TopicPartition]: ...

    @property
    def records(self) -> _Records: ...

    async def ends(self) -> Mapping[TopicPartition, int]: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """A topic's partitions that are owned here: how many records are not done, the oldest's age."""

    jobs: int
    oldest_seconds: float


class Backlog:
    """One feed's."""

    def __init__(
        self, feed: _Feed, assignment: _Assignment, appended: Appended, now: Callable[[], int]
    ) -> None:
        """Know nothing yet.

        Args:
            feed: what it runs, and what it has fetched.
            assignment: which partitions it owns, and how far they are done.
            appended: reads the append times (epoch ms) of records by partition and offset.
            now: epoch ms on the brokers' clock.
        """
        self._feed = feed
        self._assignment = assignment
        self._appended = appended
        self._now = now
        self._ends: dict[TopicPartition, int] = {}
        self._known: dict[TopicPartition, tuple[int, int]] = {}
        self._seen: dict[TopicPartition, tuple[int, int]] = {}
        self._glanced: int | None = None

    async def look(self) -> None:
        """Ask where the partitions end, and how old those records are that nobody here knows."""
        self._ends |= await self._assignment.ends()
        self._ends = {tp: end for tp, end in self._ends.items() if tp in self._assignment.owned}
        unknown = self._unknown()
        now = self._now()
        if not unknown or (self._glanced is not None and now - self._glanced < GLANCE_MS):
            return
        self._glanced = now
        for tp, at in (await self._appended(unknown)).items():
            self._known[tp] = (unknown[tp], at)

    def _unknown(self) -> Mapping[TopicPartition, int]:
        """Partition and lowest offset, where it has waited for a while and its age is not known."""
        lows = dict(self._lows())
        here = self._here(lows)
        before = {tp: low for tp, (low, _) in self._seen.items()}
        self._see(lows)
        return {
            tp: low
            for tp, low in lows.items()
            if tp not in here and before.get(tp) == low and self._read_before(tp, low) is None
        }

    def _see(self, lows: Mapping[TopicPartition, int]) -> None:
        """Remember since when each lowest offset has been the lowest."""
        now = self._now()
        self._seen = {
            tp: kept if (kept := self._seen.get(tp)) is not None and kept[0] == low else (low, now)
            for tp, low in lows.items()
        }

    def _lows(self) -> Iterator[tuple[TopicPartition, int]]:
        for tp, mark in self._marks():
            if self._jobs(tp, mark):
                yield tp, mark.low

    def _marks(self) -> Iterator[tuple[TopicPartition, Watermark]]:
        marks = self._assignment.records.marks
        return ((tp, marks[tp]) for tp in sorted(self._assignment.owned) if tp in marks)

    def _jobs(self, tp: TopicPartition, mark: Watermark) -> int:
        unread = max(0, self._ends.get(tp, 0) - mark.high)
        return unread + len(mark.progress().incomplete)

    def _here(self, lows: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """When the lowest was appended (epoch ms), where it runs here or was fetched."""
        fetched = (held[0] for held in self._feed.held.values() if held)
        found = {}
        for record in (*fetched, *self._feed.running):
            place = (record.topic, record.partition)  # as good as a TopicPartition, and cheaper
            if lows.get(place) == record.offset:
                found[TopicPartition(*place)] = record.timestamp
        return found

    def _read_before(self, tp: TopicPartition, low: int) -> int | None:
        offset, at = self._known.get(tp, (-1, 0))
        return at if offset == low else None

    def standings(self) -> Mapping[str, Standing]:
        """By topic; those of which no partition is owned here are absent."""
        lows, now = dict(self._lows()), self._now()
        here = self._here(lows)
        found: dict[str, Standing] = {}
        for tp, mark in self._marks():
            before = found.get(tp.topic, Standing(0, 0.0))
            age = max(0, now - self._since(tp, lows, here, now)) / 1000
            jobs = before.jobs + self._jobs(tp, mark)
            found[tp.topic] = Standing(jobs, max(before.oldest_seconds, age))
        return found

    def _since(
        self,
        tp: TopicPartition,
        lows: Mapping[TopicPartition, int],
        here: Mapping[TopicPartition, int],
        now: int,
    ) -> int:
        low = lows.get(tp)
        if low is None:
            return now
        known = here.get(tp) or self._read_before(tp, low)
        if known is not None:
            return known
        offset, since = self._seen.get(tp, (-1, now))
        return since if offset == low else now


async def look_at(backlogs: Iterable[Backlog]) -> None:
    """Keep them up to date until cancelled; what fails here ends nothing."""
    watched = tuple(backlogs)
    while True:
        for each in watched:
            try:
                await each.look()
            except Exception:  # who only watches must not end who works
                log.exception("metrics.look_failed")
        await asyncio.sleep(LOOK_SECONDS)
