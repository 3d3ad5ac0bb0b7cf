"""When work on a record begins: in what company, knowing what of it; and what rests meanwhile."""

import asyncio
from collections.abc import Collection
from types import TracebackType

from aiokafka import TopicPartition

from outlast.core.errors import Released
from outlast.core.progress import Start
from outlast.core.quarantine import SUSPECT
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.quarantine import Quarantine
from outlast_schemas.job import Job

__all__ = ["Resting", "Starts"]


class Resting:
    """While a job waits for its time nobody works on it, and it moves with its partition."""

    def __init__(self, starts: "Starts", tp: TopicPartition, offset: int) -> None:
        """Of one record."""
        self._starts = starts
        self.place = (tp, offset)
        self.is_lost = False
        self.task: asyncio.Task[object] | None = None

    async def __aenter__(self) -> None:
        """It rests from here on."""
        self.task = asyncio.current_task()
        self._starts.rests(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Its time has come. Raises ``Released`` when its partition is another's by now."""
        self._starts.rests_no_more(self)
        if self.is_lost and kind is asyncio.CancelledError and self.task is not None:
            self.task.uncancel()
            raise Released from None
        if kind is None:
            await self._starts.go_on(*self.place)


class Starts:
    """The starts of one feed's records."""

    def __init__(self, assignment: Assignment, quarantine: Quarantine) -> None:
        """``quarantine`` is the process's."""
        self._assignment = assignment
        self._records = assignment.records
        self._quarantine = quarantine
        self._resting: dict[tuple[TopicPartition, int], Resting] = {}
        self._asking: set[TopicPartition] = set()
        assignment.watch(self._let_go_of_lost)

    def may_start(self, tp: TopicPartition, offset: int, unclean: int) -> bool:
        """Take it into the company of what runs here; false while it, or another, is kept apart."""
        enters = self._quarantine.enters((tp, offset), unclean, tp)
        if not enters:
            self._asking.add(tp)
        return enters

    def only(self, partitions: Collection[TopicPartition]) -> None:
        """None but these can start anything now: what asks elsewhere must not stand in the way."""
        for tp in self._asking.difference(partitions):
            self.stands_back(tp)

    def stands_back(self, tp: TopicPartition) -> None:
        """Nothing of the partition asks to start any more."""
        self._asking.discard(tp)
        self._quarantine.withdraws(tp)

    def ended(self, tp: TopicPartition, offset: int) -> None:
        """It runs no more."""
        self._quarantine.leaves((tp, offset))

    def must_be_recorded(self, start: Start) -> bool:
        """Whether nothing may happen to it before a commit says that it was started."""
        return start.unclean >= SUSPECT or self._assignment.is_settling

    def is_doubtful(self, job: Job) -> bool:
        """Whether an earlier start of it may have been a call whose end nobody knows."""
        start = self._records.start(*_place(job))
        return start.unclean > 0 or start.cut

    async def recorded(self, job: Job) -> None:
        """Return when a commit says that it was started. Raises ``Released`` when it moved away."""
        await self._assignment.commits.recorded(_place(job)[0])

    @property
    def at_rest(self) -> int:
        """How many rest."""
        return len(self._resting)

    def resting(self, job: Job) -> Resting:
        """A context in which the job waits."""
        return Resting(self, *_place(job))

    def rests(self, resting: Resting) -> None:
        """It has begun to rest."""
        self._resting[resting.place] = resting
        self._records.rest(*resting.place)
        self._quarantine.leaves(resting.place)
        self._assignment.changed.set()  # others may move now

    def rests_no_more(self, resting: Resting) -> None:
        """It has ended."""
        if self._resting.get(resting.place) is resting:  # not when its log began anew meanwhile
            del self._resting[resting.place]

    async def go_on(self, tp: TopicPartition, offset: int) -> None:
        """Work on it again. Raises ``Released`` when its partition is another's by now."""
        start = self._records.start(tp, offset)
        await self._quarantine.entered((tp, offset), start.unclean)
        await self._assignment.steady()
        while self._is_ours(tp, offset) and not self._assignment.commits.is_current:
            # As for a new record: a process that stood still may have lost it without knowing.
            await self._assignment.commits.recorded(tp)
            await self._assignment.steady()
        if not self._is_ours(tp, offset):
            raise Released
        self._records.work(tp, offset)
        if self.must_be_recorded(start):
            await self._assignment.commits.recorded(tp)

    def _is_ours(self, tp: TopicPartition, offset: int) -> bool:
        return tp in self._records.owned and self._records.is_here(tp, offset)

    def _let_go_of_lost(self) -> None:
        owned = self._records.owned
        for (tp, _), resting in self._resting.items():
            if tp not in owned and resting.task is not None:
                resting.is_lost = True
                resting.task.cancel()


def _place(job: Job) -> tuple[TopicPartition, int]:
    origin = job.origin
    return TopicPartition(origin.topic, origin.partition), origin.offset
