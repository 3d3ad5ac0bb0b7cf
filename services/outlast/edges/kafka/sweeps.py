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

__all__ = ["Room", "Sweeps"]

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


class Sweeps:
    """Each sweep reaches, per partition, to the end as it was when its reason was seen.

    What it finds and cannot place returns to the tail, beyond that end, and waits for the next.
    Where nobody is up any more it stops: what it has not reached stays as it is.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        clock: BrokerClock,
        fleet: Callable[[], Fleet],
        ends: Callable[[], Awaitable[Mapping[TopicPartition, int]]],
        is_crowded: Callable[[], bool],
        pace: Room,
    ) -> None:
        """Prepare.

        Args:
            catalogue: whose targets somebody may want.
            clock: broker time.
            fleet: the verdicts.
            ends: where each owned partition of the parked topic ends now.
            is_crowded: whether jobs are parked that wait unseen, behind those in flight here.
            pace: how many jobs may go to a target.
        """
        self._catalogue = catalogue
        self._clock = clock
        self._fleet = fleet
        self._ends = ends
        self._is_crowded = is_crowded
        self._state = sweep.State()
        self._reach: dict[tuple[str, int], int] = {}
        self._returned: dict[tuple[str, int], int] = {}
        self._waiting = Waiting(pace, clock.now)
        self._owed = asyncio.Event()
        self._called = asyncio.Event()
        self._letting_go = False

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
        self._note(job)

    async def room(self, job: Job, target: Target) -> bool:
        """Whether the target has room, which is the job's then; ``False``: decide anew.

        Returns at once where there is room, else when there is, the verdicts change or the
        deadline passes. Raises ``Released``.
        """
        if self._letting_go:
            raise Released
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

    def _note(self, job: Job) -> None:
        """What may return to the tail lies behind others there, and cannot wake by itself."""
        place = (job.origin.topic, job.origin.partition)
        known = self._returned.get(place, job.state.deadline)
        self._returned[place] = min(known, job.state.deadline)

    def saw(self, before: Health | None, after: Health) -> None:
        """A new verdict: a sweep is owed when some model is let through that was not before."""
        if sweep.is_better(before, after):
            self.owe()
        elif sweep.is_worse(before, after) and not self._somebody_is_up():
            self._reach.clear()
            log.info("park.sweep_stopped")
        if before is None or before.models != after.models:
            self._waiting.call_all()

    def busy(self, provider: str) -> None:
        """New vitals: there may be room at this provider."""
        self._waiting.call(provider)

    def owe(self) -> None:
        """A sweep is owed: something is better, or the partitions are new here."""
        self._state = sweep.reasoned(self._state, self._clock.now())
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
        if at is not None and at <= now and self._somebody_is_up():
            return True
        told = sweep.told(self._state, now, min(self._returned.values(), default=None))
        if told is None or not self._is_crowded():
            return False
        self._state = told
        return True

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
        self._returned.clear()
        for tp, end in (await self._ends()).items():
            self._reach[(tp.topic, tp.partition)] = end
        log.info("park.sweep", partitions=len(self._reach))
        self._call()

    def let_go(self) -> None:
        """All who wait stop waiting: the process drains."""
        self._letting_go = True
        self._call()
        self._waiting.call_all()

    def _call(self) -> None:
        called, self._called = self._called, asyncio.Event()
        called.set()
