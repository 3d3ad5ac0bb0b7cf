"""The probes that the fleet's verdicts ask of this worker."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from outlast.core.verdict import Verdict
from outlast.edges.clock import BrokerClock
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, Health

__all__ = ["Probe", "Probing"]

log = structlog.get_logger()

Probe = Callable[[str | None], Awaitable[Verdict]]
"""One real call of one token, of that model; of any where none is named."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe came to, and which verdict had asked for it."""

    key: str
    verdict: Verdict


class Probing:
    """Makes one probe at a time, at the time it is asked for."""

    def __init__(
        self,
        provider: str,
        worker: str,
        clock: BrokerClock,
        probe: Probe,
        done: Callable[[], None],
        slow_ms: int,
    ) -> None:
        """``done`` is told when a probe has ended; :meth:`take` says how.

        From ``slow_ms`` on it was too slow for a model to be well.
        """
        self._provider = provider
        self._worker = worker
        self._clock = clock
        self._probe = probe
        self._done = done
        self._slow_ms = slow_ms
        self._task: asyncio.Task[None] | None = None
        self._asked: tuple[str, int] | None = None
        self._probed: Probed | None = None

    def saw(self, health: Health) -> None:
        """A new verdict: where it names this worker, probe at the time it says."""
        for key, verdict in health.models.items():
            if verdict.prober != self._worker or verdict.probe_at is None:
                continue
            if self._asked != (key, verdict.probe_at):
                self._asked = (key, verdict.probe_at)
                self.stop()
                self._task = asyncio.ensure_future(self._probe_once(key, verdict.probe_at))

    async def _probe_once(self, key: str, at: int) -> None:
        await asyncio.sleep(max(0.0, (at - self._clock.now()) / 1000))
        # Without a permit: hung calls may hold them all, and the fleet makes one probe at a time.
        began = self._clock.now()
        verdict = await self._probe(None if key == EVERY_MODEL else key)
        verdict = self._judged(key, verdict, self._clock.now() - began)
        log.info(
            "work.probed",
            provider=self._provider,
            model=key,
            verdict=verdict.word.value,
            note=verdict.note,
        )
        self._probed = Probed(key, verdict)
        self._done()

    def _judged(self, key: str, verdict: Verdict, ms: int) -> Verdict:
        """A model that takes so long for one token would be found down again by its first job.

        Of the whole (``*``) a probe asks no more than whether anybody is there.
        """
        if verdict.word is not VerdictWord.SUCCEEDED or key == EVERY_MODEL or ms < self._slow_ms:
            return verdict
        note = f"one token took {ms / 1000:.1f} s; from {self._slow_ms / 1000:g} s on it is slow"
        return replace(verdict, word=VerdictWord.PROVIDER_DOWN, note=note)

    def take(self) -> Probed | None:
        """What a probe came to since this was asked last. Raises what the probe raised."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            task, self._task = self._task, None
            task.result()
        probed, self._probed = self._probed, None
        return probed

    def stop(self) -> None:
        """Give up a probe that is under way."""
        if self._task is not None:
            self._task.cancel()
