"""This process's part of a provider's pool: its permits, what it saw, its probes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final

from outlast.core.budget import RetryBudget, is_repeat
from outlast.core.choose import Fleet
from outlast.core.policy import Permit, Provider, Target
from outlast.core.tokens import used
from outlast.core.verdict import Verdict
from outlast.edges.clock import BrokerClock
from outlast.edges.pool.alarms import Alarms
from outlast.edges.pool.outcomes import Outcomes
from outlast.edges.pool.permits import Gate, Permits
from outlast.edges.pool.probing import Probe, Probing
from outlast.edges.pool.rates import Rates
from outlast.edges.pool.rejections import Rejections
from outlast.edges.pool.share import Share
from outlast.edges.pool.throttling import Throttling
from outlast.edges.pool.trips import Trips
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health
from outlast_schemas.job import Job
from outlast_schemas.vitals import Vitals, Window

__all__ = ["ProviderPool", "Share"]

EVERY_SECONDS: Final = 1.0
TURN_MS: Final = 2_000
"""How long the few permits of a ramp stay with the same partitions."""


class ProviderPool:
    """Permits for calls, and the window of outcomes that becomes the next vitals."""

    def __init__(
        self,
        *,
        provider: Provider,
        worker: str,
        clock: BrokerClock,
        share: Share,
        queued: Callable[[], int],
        tokens: Callable[[Job], int],
        fleet: Callable[[], Fleet],
        tell: Callable[[Vitals], Awaitable[None]],
        probe: Probe,
        resting: Callable[[Job], AbstractAsyncContextManager[None]],
    ) -> None:
        """Prepare; nothing is told until :meth:`run`.

        Args:
            provider: whose pool it is.
            worker: this process's incarnation, by which a prober is named.
            clock: broker time.
            share: how many of the pool's permits this process has now.
            queued: how many jobs wait in the partitions that this process owns.
            tokens: how many tokens a job may use; asked for only where they are bounded.
            fleet: the fleet's verdicts.
            tell: writes vitals.
            probe: one real call of one token.
            resting: a context in which a job waits.
        """
        self._provider = provider
        self._worker = worker
        self._clock = clock
        self._share = share
        self._queued = queued
        self._fleet = fleet
        self._tell = tell
        self._trips = Trips(provider.name)
        slow_ms = int(provider.clocks.slow_seconds * 1000)
        self.outcomes = Outcomes(worker, slow_ms, clock.now)
        self._rates = Rates(provider.limits, share, clock.now)
        self._throttling = Throttling(clock, lambda: fleet().paused_until(provider.name))
        gate = Gate(
            share=share,
            ramp=lambda model: fleet().ramp(Target(provider.name, model), clock.now()),
            of_ramp=lambda permits: share.of_ramp(permits, clock.now() // TURN_MS),
            is_up=lambda model: self.fleet().is_up(Target(provider.name, model), clock.now()),
            throttling=self._throttling,
            rates=self._rates,
            tokens=tokens,
        )
        self._permits = Permits(gate, resting)
        self._urgent = asyncio.Event()
        self._probing = Probing(provider.name, worker, clock, probe, self._urgent.set, slow_ms)
        self._paused_until = 0
        self._budget = RetryBudget()
        self._alarms = Alarms(provider.name)
        self._rejections = Rejections(provider.name, worker)

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return self._permits.calls

    @property
    def limit(self) -> int:
        """How many may be, by this process."""
        return self._share()

    @property
    def rates(self) -> Mapping[str, tuple[float, float]]:
        """By what is bounded (``requests``, ``tokens``): what is left now, and the share."""
        return self._rates.left()

    @property
    def paused_until(self) -> int:
        """Until when (epoch ms) the provider wishes that nobody calls it."""
        return max(self._paused_until, self._fleet().paused_until(self._provider.name))

    @property
    def room(self) -> int:
        """How many jobs are worth having here: what waits for longer waits in Kafka."""
        bounds = (self._rates.ahead(), self._throttling.ahead())
        soon = [self._permits.calls + ahead for ahead in bounds if ahead is not None]
        return min([self._share(), *soon])

    def is_up(self, models: Iterable[str]) -> bool:
        """Whether some model of these may be called, as far as is known here; none: the pool."""
        fleet, now = self.fleet(), self._clock.now()
        targets = [Target(self._provider.name, each) for each in models]
        targets = targets or [Target(self._provider.name, EVERY_MODEL)]
        return any(fleet.is_up(target, now) for target in targets)

    def fleet(self) -> Fleet:
        """The fleet's verdicts, and what this process holds against its own provider."""
        fleet = self._fleet()
        return Fleet(fleet.health, tripped=self._trips.targets) if self._trips.targets else fleet

    def may_try(self, job: Job) -> bool:
        """Whether the retry budget has room, where this provider has failed the job before."""
        return not self._is_repeat(job) or self._budget.may_repeat(self._clock.now())

    def _is_repeat(self, job: Job) -> bool:
        return is_repeat(job.state.attempts, self._provider.name)

    def _tried(self, job: Job) -> None:
        now = self._clock.now()
        budget = self._budget
        self._budget = budget.repeated(now) if self._is_repeat(job) else budget.first(now)

    @asynccontextmanager
    async def calling(self, job: Job, target: Target) -> AsyncIterator[Permit]:
        """Hold a permit; the job rests until it has one, when this process's share is taken.

        Raises ``Released`` when the pool lets go, or the job's partition moves away.
        """
        permit = await self._permits.take(job, target.model)
        if permit.used is None:
            self._tried(job)
        self.outcomes.began(permit, target.model)
        try:
            yield permit
        finally:
            self.outcomes.gone(permit)
            self._permits.put(permit)

    def ended(self, permit: Permit, job_id: str, verdict: Verdict) -> None:
        """Count what the call made with this permit says of the provider."""
        permit.used = _used(permit, verdict)
        self._throttling.ended(permit, verdict)
        self._alarms.ended(verdict, self._clock.now())
        self._rejections.ended(permit.model, job_id, verdict, self._clock.now())
        if verdict.word is VerdictWord.RETRY_LATER and verdict.retry_after is not None:
            self._pause(verdict.retry_after)
        if self.outcomes.ended(permit, job_id, verdict, self._fair_since(permit.model)):
            self._urgent.set()

    def _pause(self, seconds: float) -> None:
        until = self._clock.now() + int(seconds * 1000)
        if until > self._paused_until:
            self._paused_until = until
            self._urgent.set()

    def _fair_since(self, model: str) -> int:
        """Since when calls speak of how the provider is now: it was found down before that."""
        health = self._fleet().health.get(self._provider.name)
        if health is None:
            return 0
        fair = (BreakerWord.CLOSED, BreakerWord.RAMP)
        verdicts = (health.models.get(model), health.models.get(EVERY_MODEL))
        return max((each.since for each in verdicts if each and each.state in fair), default=0)

    def failed_over_from(self, provider: str) -> None:
        """A job is called here for the first time that would have gone to that provider first."""
        self.outcomes.failed_over[provider] += 1

    def is_suspect(self, target: Target, verdict: Verdict) -> bool:
        """Whether so many different jobs were rejected in these words that they may be good."""
        return self._rejections.is_suspect(target.model, verdict)

    def refuted(self, target: Target, note: str | None) -> None:
        """A job was served here that this target, of another provider, had just rejected."""
        self._rejections.refuted(target, note)
        self._urgent.set()

    def does_well(self, job_id: str) -> bool:
        """Whether under 10 % of the others' calls of the last 30 s failed, and some were made."""
        return self.outcomes.does_well(job_id)

    async def run(self) -> None:
        """Tell what was seen, every second and when it is urgent, until cancelled.

        Raises ``WatchdogTripped`` when calls fail here while the fleet finds the provider well.
        """
        while True:
            self._urgent.clear()
            vitals = self._vitals()
            self._judge()
            await self._tell(replace(vitals, tripped=self._trips.held))
            for refutation in self._rejections.take(self._clock.now()):
                await self._tell(refutation)
            self._permits.grant()
            try:
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._urgent.wait()
            except TimeoutError:
                continue

    def _judge(self) -> None:
        """Trip on the own evidence; forget what the fleet has taken over."""
        health = self._fleet().health.get(self._provider.name)
        now = self._clock.now()
        if self._trips.take(self.outcomes.against(), health, now):
            self._permits.grant()
        for key in self._trips.review(health, now):
            self.outcomes.forget(key)

    def _vitals(self) -> Vitals:
        windows = self.outcomes.window(self._fair_since)
        probed = self._probing.take()
        note = next((each.note for each in windows.values() if each.note), None)
        paused = self._paused_until if self._paused_until > self._clock.now() else None
        return Vitals(
            provider=self._provider.name,
            worker=self._worker,
            at=self._clock.now(),
            succeeded=_sum(windows.values(), "succeeded"),
            failures=_sum(windows.values(), "failures"),
            streak=_sum(windows.values(), "streak"),
            note=probed.verdict.note if probed is not None else note,
            probe=probed.verdict.word.value if probed is not None else None,
            probe_of=probed.key if probed is not None else None,
            in_flight=self._permits.calls,
            limit=self._share(),
            queued=self._queued(),
            served=self.outcomes.served,
            failed=self.outcomes.failed,
            failed_over=dict(self.outcomes.failed_over),
            paused_until=paused,
            models=windows,
        )

    def saw(self, before: Health | None, after: Health) -> None:
        """A new verdict: probe where it names this worker, and let who waits look again."""
        if after.provider == self._provider.name:
            self._probing.saw(after)
            self._judge_again(after)
            self._permits.grant()

    def _judge_again(self, health: Health) -> None:
        for key in self._trips.review(health, self._clock.now()):
            self.outcomes.forget(key)

    def grant(self) -> None:
        """There may be more permits than before."""
        self._permits.grant()

    def let_go(self) -> None:
        """Who waits for a permit is not to wait any more: the process drains."""
        self._permits.let_go()

    def stop(self) -> None:
        """Give up a probe that is under way."""
        self._probing.stop()


def _used(permit: Permit, verdict: Verdict) -> int:
    """The tokens of a call: of an answer by its own account, of one cut off all that it might."""
    if verdict.served is not None:
        tokens = used(verdict.served)
        return permit.tokens if tokens is None else tokens
    return permit.tokens if verdict.word is VerdictWord.AMBIGUOUS else 0


def _sum(windows: Iterable[Window], name: str) -> int:
    return sum(getattr(each, name) for each in windows)
