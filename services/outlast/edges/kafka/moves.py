"""Records that only go on to another topic: many in one task, one by one they cost twice as much.

A move is what a stage can decide at once and without a call. All else, and all that is doubtful,
is left to the stage, each record in a task of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka import TopicPartition

from outlast.core.lifecycle import Hop
from outlast.core.progress import Start
from outlast.edges.codec import Decoded, Record
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.copies import Copies, Identity, identity
from outlast.edges.kafka.starts import Starts
from outlast.edges.kafka.tasks import Tasks
from outlast_schemas.job import Job

__all__ = ["MOST", "Moves", "Onward", "SendAll", "nowhere"]

MOST: Final = 256
"""So many are decided in a row, some ten milliseconds: then the loop has its turn."""

Onward = Callable[[Job], Hop | None]
"""Where a job goes at once, decided without waiting; ``None``: the stage itself has to run."""

SendAll = Callable[[Sequence[Hop], Callable[[int], None]], Awaitable[None]]


def nowhere(_: Job) -> Hop | None:
    """The quick way of a stage that has none."""
    return None


@dataclass(slots=True)
class _Move:
    tp: TopicPartition
    record: Record
    life: int
    who: Identity
    hop: Hop


class Moves:
    """Of one feed: the batch that is being filled, and those on their way."""

    def __init__(
        self,
        *,
        assignment: Assignment,
        starts: Starts,
        copies: Copies,
        tasks: Tasks,
        onward: Onward,
        send_all: SendAll,
        passed: Callable[[int], None],
    ) -> None:
        """Begin with nothing.

        Args:
            assignment: the partitions and their trackers.
            starts: in what company a record started.
            copies: what repeats what.
            tasks: carry the batches.
            onward: the stage's quick way.
            send_all: writes a batch; tells of each record when it is acknowledged.
            passed: is told how many went on, for who judges whether a stage is wrong.
        """
        self._assignment = assignment
        self._starts = starts
        self._copies = copies
        self._tasks = tasks
        self._onward = onward
        self._send_all = send_all
        self._passed = passed
        self._batch: list[_Move] = []
        self._ended: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the batch has to go before another record is looked at."""
        return len(self._batch) >= MOST

    def takes(
        self, tp: TopicPartition, record: Record, decoded: Decoded, start: Start, life: int
    ) -> bool:
        """Whether the admitted record goes on with the batch; else nothing was done with it."""
        if decoded.fault is not None or start.unclean or start.cut:
            return False
        who = identity(decoded.job)
        if self._starts.must_be_recorded(start) or not self._copies.is_new(who):
            return False
        hop = self._hop(decoded.job)
        if hop is None:
            return False
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        self._copies.look(who, self._ended)
        self._batch.append(_Move(tp, record, life, who, hop))
        return True

    def _hop(self, job: Job) -> Hop | None:
        try:
            return self._onward(job)
        except Exception:  # noqa: BLE001  # a bug is met with the patience that the stage has
            return None

    def go(self) -> None:
        """Send what was taken."""
        if self._ended is not None:
            batch, ended = self._batch, self._ended
            self._batch, self._ended = [], None
            carried = [(move.tp, move.record) for move in batch]
            self._tasks.begin(self._carry(batch, ended), carried)

    async def _carry(self, batch: Sequence[_Move], ended: "asyncio.Future[None]") -> None:
        """From admitted to done: each as soon as its next record is acknowledged."""
        left = dict(enumerate(batch))
        try:
            await self._send_all(
                [move.hop for move in batch], lambda n: self._done(left.pop(n), ended)
            )
        except asyncio.CancelledError:
            pass  # what is acknowledged is done, of the rest nobody knows: it is read again
        finally:
            for move in left.values():
                self._give_up(move, ended)
            ended.set_result(None)
            self._passed(len(batch) - len(left))

    def _done(self, move: _Move, ended: "asyncio.Future[None]") -> None:
        # After its next record was acknowledged: the guarantee.
        self._assignment.records.done(move.tp, move.record.offset, move.life)
        self._copies.ended(move.who, ended)
        self._starts.ended(move.tp, move.record.offset)

    def _give_up(self, move: _Move, ended: "asyncio.Future[None]") -> None:
        self._copies.gave_up(move.who)
        self._copies.ended(move.who, ended)
        if self._assignment.records.release(move.tp, move.record.offset, move.life):
            self._assignment.read_again(move.tp)
        self._starts.ended(move.tp, move.record.offset)
