"""When parked jobs are looked at again: after each better verdict, and every minute."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from aiokafka import TopicPartition

from outlast.core.choose import Fleet
from outlast.core.errors import Released
from outlast.core.policy import Catalogue
from outlast.edges.clock import BrokerClock
from outlast_schemas.health import BreakerWord, Health
from outlast_schemas.job import Job

__all__ = ["Sweeps"]

log = structlog.get_logger()

EVERY_SECONDS: Final = 60.0
EXPIRY_SECONDS: Final = 240.0
"""Parked jobs are looked at this often at least, so that expiry is told within five minutes."""


class Sweeps:
    """Each sweep reaches, per partition, to the end as it was when its reason was seen.

    What it finds and cannot place returns to the tail, beyond that end, and waits for the next.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        clock: BrokerClock,
        fleet: Callable[[], Fleet],
        ends: Callable[[], Awaitable[Mapping[TopicPartition, int]]],
        is_crowded: Callable[[], bool],
    ) -> None:
        """Prepare.

        Args:
            catalogue: whose targets somebody may want.
            clock: broker time.
            fleet: the verdicts.
            ends: where each owned partition of the parked topic ends now.
            is_crowded: whether jobs are parked that wait unseen, behind those in flight here.
        """
        self._catalogue = catalogue
        self._clock = clock
        self._fleet = fleet
        self._ends = ends
        self._is_crowded = is_crowded
        self._reach: dict[tuple[str, int], int] = {}
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

    async def _next_call(self, seconds: float) -> None:
        called = self._called
        try:
            async with asyncio.timeout(seconds):
                await called.wait()
        except TimeoutError:
            return

    def saw(self, before: Health | None, after: Health) -> None:
        """A new verdict: a sweep is owed when some model is let through that was not before."""
        if before is None:
            return
        shut = {
            name for name, each in before.models.items() if each.state is not BreakerWord.CLOSED
        }
        if any(after.models[name].state is BreakerWord.CLOSED for name in shut & set(after.models)):
            self.owe()

    def owe(self) -> None:
        """A sweep is owed: something is better, or the partitions are new here."""
        self._owed.set()

    async def run(self) -> None:
        """Sweep after every better verdict, and by the clock, until cancelled."""
        idle = 0.0
        while True:
            better = await self._owed_within(EVERY_SECONDS)
            idle += EVERY_SECONDS
            # Jobs in flight here wake at their own deadline; those behind them have to be reached.
            unseen = idle >= EXPIRY_SECONDS and self._is_crowded()
            if better or unseen or self._somebody_is_up():
                idle = 0.0
                await self.sweep()

    async def _owed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._owed.wait()
        except TimeoutError:
            return False
        self._owed.clear()
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
        for tp, end in (await self._ends()).items():
            self._reach[(tp.topic, tp.partition)] = end
        log.info("park.sweep", partitions=len(self._reach))
        self._call()

    def let_go(self) -> None:
        """All who wait stop waiting: the process drains."""
        self._letting_go = True
        self._call()

    def _call(self) -> None:
        called, self._called = self._called, asyncio.Event()
        called.set()
