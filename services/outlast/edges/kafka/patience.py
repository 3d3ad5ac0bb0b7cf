"""What becomes of a job whose stage raises: a bug is met with patience, then with a dead letter.

When several jobs raise and none passes, it is not these jobs that are wrong: then the feed stops,
instead of pouring a topic into the dead letters.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from outlast.core.admission import Fault
from outlast.core.errors import CallSpent, Released
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job

__all__ = ["Patience", "SetAside", "Stage"]

log = structlog.get_logger()

TRIES: Final = 5
BACKOFF_SECONDS: Final = 0.5
EVERYBODY: Final = 3
"""So many jobs that raise, while none passes, mean that the stage is wrong and not they."""

Stage = Callable[[Job], Awaitable[None]]
SetAside = Callable[[Job, Reason, str], Awaitable[None]]


class Patience:
    """Runs one stage on jobs, again and again if need be."""

    def __init__(
        self,
        name: str,
        stage: Stage,
        set_aside: SetAside,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """``sleep`` backs off, and raises ``Released`` when the process drains."""
        self._name = name
        self._stage = stage
        self._set_aside = set_aside
        self._sleep = sleep
        self._passed = self._gave_up = 0
        self._raising: set[str] = set()
        self._fatal: Exception | None = None
        self.failed: Exception | None = None
        """Why the feed must stop although what raised is set aside: its calls were paid for."""

    def saw_pass(self, jobs: int) -> None:
        """So many went on without the stage: it is not wrong with all of them."""
        self._passed += jobs

    async def carry(self, job: Job, fault: Fault | None) -> None:
        """Return when the job is through or set aside. Raises the bug when all jobs raise."""
        if fault is not None:
            await self._set_aside(job, fault.reason, fault.detail)
            return
        passed = self._passed
        try:
            for tries in range(1, TRIES + 1):
                bug = await self._raised(job, tries)
                if bug is None:
                    return
                if tries == TRIES or isinstance(bug, CallSpent):
                    await self._give_up(job, bug, self._passed > passed)
                    return
                await self._sleep(BACKOFF_SECONDS * 2**tries)
        finally:
            self._raising.discard(job.id)

    async def _raised(self, job: Job, tries: int) -> Exception | None:
        """Run the stage once; what it raises ends here, and only here."""
        try:
            await self._stage(job)
        except (Released, asyncio.CancelledError):
            raise
        except Exception as bug:
            self._raising.add(job.id)
            log.exception("feed.stage_raised", feed=self._name, job_id=job.id, tries=tries)
            return bug
        self._passed += 1
        return None

    async def _give_up(self, job: Job, bug: Exception, others_passed: bool) -> None:
        everybody = max(len(self._raising), self._gave_up + 1) >= EVERYBODY
        if self._fatal is not None or (everybody and not others_passed):
            self._fatal = self._fatal or bug
            if not isinstance(bug, CallSpent):
                raise bug
        self._gave_up = 0 if others_passed else self._gave_up + 1
        detail = f"the {self._name} stage failed on it: {type(bug).__name__}"
        await self._set_aside(job, Reason.INTERNAL_ERROR, detail)
        # A call that is paid for is never made again: only once it is set aside may all end.
        self.failed = self._fatal
