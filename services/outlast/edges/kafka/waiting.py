"""Who waits for room at which provider: the oldest goes first."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from outlast.core.policy import Target
from outlast_schemas.job import Job

__all__ = ["Waiting"]

Place = tuple[int, int, int]
"""Since when it is in Outlast's hands, and where it lies: of parked jobs the oldest is first."""


class _Pace(Protocol):
    def room(self, target: Target) -> int: ...

    def sent(self, target: Target) -> None: ...


class Waiting:
    """The jobs that may go and have no room to go to, by provider."""

    def __init__(self, pace: _Pace, now: Callable[[], int]) -> None:
        """``now`` is broker time in epoch ms."""
        self._pace = pace
        self._now = now
        self._jobs: dict[str, dict[Place, tuple[Target, asyncio.Future[bool]]]] = {}

    def free(self, target: Target) -> int:
        """How much room there is that nobody waits for."""
        return 0 if self._jobs.get(target.provider) else self._pace.room(target)

    def take(self, target: Target) -> bool:
        """Whether there is room that nobody waits for, which is the one's who asks then."""
        if self.free(target) <= 0:
            return False
        self._pace.sent(target)
        return True

    async def room(self, job: Job, target: Target) -> bool:
        """Whether there is room, which is the job's then; ``False``: decide anew."""
        if self.take(target):
            return True
        jobs = self._jobs.setdefault(target.provider, {})
        place = (job.state.accepted, job.origin.partition, job.origin.offset)
        called: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        jobs[place] = (target, called)
        try:
            async with asyncio.timeout((job.state.deadline - self._now()) / 1000):
                return await called
        except TimeoutError:
            return False
        finally:
            jobs.pop(place, None)

    def call(self, provider: str) -> None:
        """The oldest go for which there is room."""
        jobs = self._jobs.get(provider)
        if not jobs:
            return
        full: set[Target] = set()
        for place in sorted(jobs):
            target, called = jobs[place]
            if called.done() or target in full:
                continue
            if self._pace.room(target) <= 0:
                full.add(target)
                continue
            self._pace.sent(target)
            called.set_result(True)

    def look(self) -> None:
        """Time has passed: where no worker is known, that alone makes room."""
        for provider in self._jobs:
            self.call(provider)

    def call_all(self) -> None:
        """The verdicts have changed: all decide anew, the oldest first."""
        for jobs in self._jobs.values():
            for place in sorted(jobs):
                if not jobs[place][1].done():
                    jobs[place][1].set_result(False)
