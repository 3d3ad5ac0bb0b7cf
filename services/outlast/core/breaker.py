"""When a provider counts as down for the whole fleet, and when it is trusted again.

Rules: only evidence opens (failures in a row, counted over all workers); while it is open one
named worker at a time probes with one real call; only a probe's success closes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals

__all__ = ["ANSWERED", "Breaker", "BreakerPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """The breaker's numbers; times in ms.

    ``failures_in_a_row`` open it; a probe follows ``probe_first_ms`` later, then after waits that
    double up to ``probe_most_ms``; a prober that has not answered within ``probe_patience_ms`` is
    replaced by another; a worker is known while its last vitals are younger than ``fresh_ms``.
    """

    failures_in_a_row: int = 5
    probe_first_ms: int = 1_000
    probe_most_ms: int = 10_000
    probe_patience_ms: int = 15_000
    fresh_ms: int = 5_000


DEFAULT: Final = BreakerPolicy()
ANSWERED: Final = frozenset(
    {
        VerdictWord.SUCCEEDED,
        VerdictWord.JOB_REJECTED,
        VerdictWord.CONTEXT_TOO_LONG,
        VerdictWord.CONTENT_POLICY,
        VerdictWord.MISROUTED,
    }
)
"""A probe that ends so was served: some models refuse one token, and a wrong name is no outage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One provider's breaker; every event gives the next one. Instants are epoch ms."""

    provider: str
    state: BreakerWord = BreakerWord.CLOSED
    since: int = 0
    streak: int = 0
    evidence: str = ""
    prober: str | None = None
    probe_at: int | None = None
    probes: int = 0
    workers: Mapping[str, int] = field(default_factory=dict)

    def saw(self, vitals: Vitals, now: int, policy: BreakerPolicy = DEFAULT) -> "Breaker":
        """Fold one worker's window in."""
        workers = {**self.workers, vitals.worker: now} if vitals.limit else self.workers
        seen = replace(self, workers=workers)
        if self.state is not BreakerWord.CLOSED:
            return seen._probed(vitals, now, policy)
        streak = vitals.streak if vitals.succeeded else self.streak + vitals.failures
        seen = replace(seen, streak=streak)
        return seen._opened(vitals, now) if streak >= policy.failures_in_a_row else seen

    def _opened(self, vitals: Vitals, now: int) -> "Breaker":
        last = f"; the last: {vitals.note}" if vitals.note else ""
        evidence = f"{self.streak} failures in a row{last}"
        return replace(self, state=BreakerWord.OPEN, since=now, evidence=evidence, probes=0)

    def _probed(self, vitals: Vitals, now: int, policy: BreakerPolicy) -> "Breaker":
        if vitals.probe is None or vitals.worker != self.prober or self.probe_at is None:
            return self
        if vitals.probe in ANSWERED:
            return Breaker(
                provider=self.provider,
                since=now,
                evidence=f"a probe by {vitals.worker} succeeded",
                workers=self.workers,
            )
        # The name stays, so that the next prober is another where there is a choice.
        return replace(self, state=BreakerWord.OPEN, probe_at=None, probes=self.probes + 1)

    def ticked(self, now: int, roll: float, policy: BreakerPolicy = DEFAULT) -> "Breaker":
        """Let time pass: name a prober when none is named or the named one is gone."""
        fresh = {worker: at for worker, at in self.workers.items() if now - at < policy.fresh_ms}
        breaker = replace(self, workers=fresh)
        if breaker.state is BreakerWord.CLOSED or breaker._waits_for_probe(now, policy):
            return breaker
        return breaker._named(now, roll, policy)

    def _waits_for_probe(self, now: int, policy: BreakerPolicy) -> bool:
        return (
            self.prober in self.workers
            and self.probe_at is not None
            and now < self.probe_at + policy.probe_patience_ms
        )

    def _named(self, now: int, roll: float, policy: BreakerPolicy) -> "Breaker":
        """Name one worker, another than the last where there is a choice; full jitter on half."""
        candidates = sorted(worker for worker in self.workers if worker != self.prober)
        candidates = candidates or sorted(self.workers)
        if not candidates:
            return replace(self, state=BreakerWord.OPEN, prober=None, probe_at=None)
        most = min(policy.probe_most_ms, policy.probe_first_ms * 2 ** min(self.probes, 16))
        return replace(
            self,
            state=BreakerWord.HALF_OPEN,
            prober=candidates[int(roll * len(candidates))],
            probe_at=now + int(most * (0.5 + roll / 2)),
        )

    def health(self, epoch: int, now: int) -> Health:
        """What is written to the fleet."""
        verdict = ModelHealth(
            state=self.state,
            since=self.since,
            evidence=self.evidence,
            prober=self.prober,
            probe_at=self.probe_at,
        )
        return Health(provider=self.provider, epoch=epoch, at=now, models={EVERY_MODEL: verdict})

    @classmethod
    def restored(cls, provider: str, health: Health | None) -> "Breaker":
        """Take over where the last owner of the provider's partition left off."""
        verdict = health.models.get(EVERY_MODEL) if health is not None else None
        if verdict is None:
            return cls(provider=provider)
        return cls(
            provider=provider,
            state=verdict.state,
            since=verdict.since,
            evidence=verdict.evidence,
            prober=verdict.prober,
            probe_at=verdict.probe_at,
        )
