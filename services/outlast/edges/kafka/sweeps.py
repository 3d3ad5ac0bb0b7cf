"""When parked jobs are looked at again, and when those that may go have room to go to."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import structlog
from aiokafka import TopicPartition

from outlast.core import sweep
from outlast.core.choose import Fleet
from outlast.core.errors import Released
from outlast.core.policy import Catalogue, Target
from outlast.edges.clock import BrokerClock
from outlast.edges.kafka.waiting import Waiting
from outlast_schemas.health import Health
from outlast_schemas.job import Job

__all__ = ["Passes", "Room", "Sweeps"]

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0


class Room(Protocol):
    """How many jobs a target has room for."""

    def room(self, target: Target) -> int:
        """How many more may go there now."""
        ...

    def sent(self, target: Target) -> None:
        """One more goes there."""
        ...


class Passes(Protocol):
    """Who has to let others by; see :mod:`.passes`."""

    def is_in_the_way(self, job: Job, target: Target | None = None) -> bool:
        """Whether it has to let others by, unless it waits for room where they go to."""
        ...

    def watch(self, began: Callable[[Mapping[TopicPartition, int]], None]) -> None:
        """Call ``began(ends)`` when others are to be let by, with where they end."""
        ...

    def stop(self, provider: str) -> None:
        """This provider is worse: nobody goes there any more."""
        ...


class Sweeps:
    """Each sweep reaches, per partition, to the end as it was when its reason was seen.

    What it finds and cannot place stays where it is and waits for the next, unless it stands in
    the way: then it returns to the tail, beyond that end. Where nobody is up any more it stops.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        clock: BrokerClock,
        fleet: Callable[[], Fleet],
        ends: Callable[[], Awaitable[Mapping[TopicPartition, int]]],
        passes: Passes,
        pace: Room,
    ) -> None:
        """Prepare.

        Args:
            catalogue: whose targets somebody may want.
            clock: broker time.
            fleet: the verdicts.
            ends: where each owned partition of the parked topic ends now.
            passes: who stands in the way of others.
            pace: how many jobs may go to a target.
        """
        self._catalogue = catalogue
        self._clock = clock
        self._fleet = fleet
        self._ends = ends
        self._passes = passes
        self._state = sweep.State()
        self._sweeps = 0
        self._reach: dict[tuple[str, int], int] = {}
        self._waiting = Waiting(pace, clock.now)
        self._owed = asyncio.Event()
        self._called = asyncio.Event()
        self._letting_go = False
        passes.watch(self._passing)

    def covers(self, job: Job) -> bool:
        """Whether a sweep has reached the job's record."""
        origin = job.origin
        return origin.offset < self._reach.get((origin.topic, origin.partition), 0)

    async def wait(self, job: Job) -> None:
        """Return when a sweep covers the job, or its deadline passes. Raises ``Released``."""
        while not self.covers(job):
            if self._letting_go:
                raise Released
            left = job.state.deadline - self._clock.now()
            if left <= 0:
                return
            await self._next_call(left / 1000)

    async def stays(self, job: Job) -> bool:
        """Whether it may stay where it is: ``True`` when the next sweep covers it.

        ``True`` also when its deadline passes; ``False`` as soon as it stands in the way. Raises
        ``Released``.
        """
        sweeps = self._sweeps
        while not self._letting_go:
            if self.is_in_the_way(job):
                return False
            left = job.state.deadline - self._clock.now()
            if left <= 0 or (sweeps != self._sweeps and self.covers(job)):
                return True
            await self._next_call(left / 1000)
        raise Released

    def is_in_the_way(self, job: Job, target: Target | None = None) -> bool:
        """Whether it keeps others from leaving that could; ``target``: the one it waits for."""
        return self._passes.is_in_the_way(job, target)

    async def room(self, job: Job, target: Target) -> bool:
        """Whether the target has room, which is the job's then; ``False``: decide anew.

        Returns at once where there is room, else when there is, the verdicts change, the deadline
        passes or the job stands in the way. Raises ``Released``.
        """
        if self._letting_go:
            raise Released
        if self._waiting.take(target):
            return True
        if self.is_in_the_way(job, target):
            return False
        has_room = await self._waiting.room(job, target)
        if self._letting_go and not has_room:
            raise Released
        return has_room

    async def _next_call(self, seconds: float) -> None:
        called = self._called
        try:
            async with asyncio.timeout(seconds):
                await called.wait()
        except TimeoutError:
            return

    def saw(self, before: Health | None, after: Health) -> None:
        """A new verdict: a sweep is owed when some model is let through that was not before."""
        if sweep.is_better(before, after):
            self.owe(after.provider)
        elif sweep.is_worse(before, after):
            self._passes.stop(after.provider)
            if not self._somebody_is_up():
                self._reach.clear()
                log.info("park.sweep_stopped")
        if before is None or before.models != after.models:
            self._waiting.call_all()

    def free(self, target: Target) -> int:
        """How much room there is that no job in hand waits for."""
        return self._waiting.free(target)

    def busy(self, provider: str) -> None:
        """New vitals: there may be room at this provider."""
        self._waiting.call(provider)

    def owe(self, provider: str = "") -> None:
        """A sweep is owed: a provider is better, or the partitions are new here."""
        self._state = sweep.reasoned(self._state, self._clock.now(), provider)
        self._owed.set()

    async def run(self) -> None:
        """Sweep when it is owed and somebody is up, until cancelled."""
        while True:
            if self._is_due():
                await self.sweep()
            await self._owed_within(LOOK_SECONDS)
            self._waiting.look()

    async def _owed_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._owed.wait()
        except TimeoutError:
            return
        self._owed.clear()

    def _is_due(self) -> bool:
        now = self._clock.now()
        at = sweep.due(self._state, now)
        return at is not None and at <= now and self._somebody_is_up()

    def _somebody_is_up(self) -> bool:
        fleet, now = self._fleet(), self._clock.now()
        return any(
            fleet.is_up(target, now)
            for route in self._catalogue.routes.values()
            for target in route.targets
        )

    async def sweep(self) -> None:
        """Reach to the ends as they are now."""
        self._state = sweep.swept(self._state, self._clock.now())
        self._sweeps += 1
        for tp, end in (await self._ends()).items():
            self._reach[(tp.topic, tp.partition)] = end
        log.debug("park.sweep", partitions=len(self._reach))
        self._call()

    def _passing(self, ends: Mapping[TopicPartition, int]) -> None:
        """Some are to be let by, wherever the last sweep had come to."""
        for tp, end in ends.items():
            place = (tp.topic, tp.partition)
            self._reach[place] = max(self._reach.get(place, 0), end)
        self._call()
        self._waiting.call_all()

    def let_go(self) -> None:
        """All who wait stop waiting: the process drains."""
        self._letting_go = True
        self._call()
        self._waiting.call_all()

    def _call(self) -> None:
        called, self._called = self._called, asyncio.Event()
        called.set()
