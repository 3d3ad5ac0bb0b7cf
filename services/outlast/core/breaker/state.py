"""One breaker: closed, open, half-open or ramping, and what moves it on."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from outlast.core.breaker.policy import ANSWERED, DEFAULT, BreakerPolicy
from outlast_schemas.health import BreakerWord, ModelHealth
from outlast_schemas.vitals import Window

__all__ = ["Breaker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """A breaker's state; every event gives the next one. Instants are epoch ms.

    ``permits``, ``served``, ``failed`` and ``throttled`` belong to the present step of the ramp, of
    which the last call ended at ``active_at``, and which began at ``step_at``.
    """

    state: BreakerWord = BreakerWord.CLOSED
    since: int = 0
    evidence: str = ""
    prober: str | None = None
    probe_at: int | None = None
    setbacks: int = 0
    permits: int | None = None
    served: int = 0
    failed: int = 0
    throttled: int = 0
    active_at: int = 0
    step_at: int = 0

    @property
    def is_probing(self) -> bool:
        """Whether somebody was asked to probe and has not answered."""
        return self.probe_at is not None

    def opened(self, why: str, now: int, policy: BreakerPolicy = DEFAULT) -> "Breaker":
        """Enough speaks against it. Who was trusted again only just now has a setback more."""
        was_calm = self.state is BreakerWord.CLOSED and now - self.since >= policy.calm_ms
        return Breaker(
            state=BreakerWord.OPEN,
            since=now,
            evidence=why,
            prober=self.prober,
            setbacks=0 if was_calm or not self.since else self.setbacks + 1,
        )

    def named(self, prober: str, probe_at: int) -> "Breaker":
        """This worker is to probe then."""
        half = BreakerWord.HALF_OPEN if self.state is BreakerWord.OPEN else self.state
        return replace(self, state=half, prober=prober, probe_at=probe_at)

    def without_prober(self) -> "Breaker":
        """Nobody is there to probe."""
        half = BreakerWord.OPEN if self.state is BreakerWord.HALF_OPEN else self.state
        return replace(self, state=half, prober=None, probe_at=None)

    def probed(
        self,
        worker: str,
        verdict: str,
        note: str | None,
        now: int,
        limit: int,
        answered: Collection[str] = ANSWERED,
    ) -> "Breaker":
        """The probe that was asked for has ended; ``limit`` is what the whole pool may do."""
        if worker != self.prober or not self.is_probing:
            return self
        if verdict not in answered:
            why = self.evidence  # what made it suspect tells more than that it still is
            if self.state is BreakerWord.RAMP:
                why = f"a probe by {worker} failed: {note or verdict}"
            # The name stays, so that the next prober is another where there is a choice.
            return replace(self.opened(why, now), since=self._down_since(now))
        if self.state is BreakerWord.RAMP:
            return self._next_step(now, limit)
        return Breaker(
            state=BreakerWord.RAMP,
            since=now,
            evidence=f"a probe by {worker} succeeded",
            setbacks=self.setbacks,
            permits=1,
            active_at=now,
            step_at=now,
        )

    def _down_since(self, now: int) -> int:
        return now if self.state is BreakerWord.RAMP else self.since

    def called(
        self, window: Window, now: int, limit: int, busy: int, policy: BreakerPolicy = DEFAULT
    ) -> "Breaker":
        """Calls of a step of the ramp have ended; ``busy`` are still under way."""
        if self.state is not BreakerWord.RAMP or not (window.calls or window.overdue):
            return self
        bad = window.failures + window.blocked + window.misrouted + window.slow + window.overdue
        well = window.succeeded + window.answered - window.slow
        step = replace(
            self,
            served=self.served + well,
            failed=self.failed + bad,
            throttled=self.throttled + window.throttled,
            active_at=now,
        )
        if not step.served and step.throttled >= policy.ramp_throttled:
            return step.opened(
                f"{step.throttled} calls of the ramp were throttled, none served", now
            )
        permits, ended = step.permits or 1, step.served + step.failed
        is_enough = ended >= min(permits, policy.ramp_calls)
        if is_enough and step.failed > policy.failure_rate * ended:
            why = f"{step.failed} of {ended} calls of the ramp failed"
            return step.opened(f"{why}; the last: {window.note}" if window.note else why, now)
        has_lasted = now - step.step_at >= policy.ramp_step_ms
        if step.served >= permits or (step.served and has_lasted and busy < permits):
            return step._next_step(now, limit)
        return step

    def _next_step(self, now: int, limit: int) -> "Breaker":
        permits = 2 * (self.permits or 1)
        if permits >= limit:
            return Breaker(
                since=now, evidence="it was trusted again step by step", setbacks=self.setbacks
            )
        return replace(
            self,
            permits=permits,
            evidence=f"up to {permits} calls at a time",
            prober=None,
            probe_at=None,
            served=0,
            failed=0,
            throttled=0,
            active_at=now,
            step_at=now,
        )

    def wants_probe(self, now: int, policy: BreakerPolicy = DEFAULT) -> bool:
        """Whether somebody has to be named: it is down, or a step of its ramp sees no call."""
        match self.state:
            case BreakerWord.CLOSED:
                return False
            case BreakerWord.RAMP if not self.is_probing:
                return now - self.active_at >= policy.ramp_idle_ms
            case _:
                return True

    def waits_for_probe(self, now: int, known: bool, policy: BreakerPolicy = DEFAULT) -> bool:
        """Whether the named prober, ``known`` to be alive or not, still has time."""
        return (
            known and self.probe_at is not None and now < self.probe_at + policy.probe_patience_ms
        )

    def verdict(self) -> ModelHealth:
        """What is written to the fleet."""
        return ModelHealth(
            state=self.state,
            since=self.since,
            evidence=self.evidence,
            prober=self.prober,
            probe_at=self.probe_at,
            permits=self.permits,
            setbacks=self.setbacks,
        )

    @classmethod
    def restored(cls, verdict: ModelHealth, now: int) -> "Breaker":
        """Take over where the last owner left off; a step of a ramp begins anew."""
        return cls(
            state=verdict.state,
            since=verdict.since,
            evidence=verdict.evidence,
            prober=verdict.prober,
            probe_at=verdict.probe_at,
            setbacks=verdict.setbacks,
            permits=verdict.permits,
            active_at=now,
            step_at=now,
        )
