"""All breakers of one provider: one for each of its models, and one for the whole."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from outlast.core.breaker.evidence import Evidence
from outlast.core.breaker.policy import ANSWERED, DEFAULT, REACHED, BreakerPolicy
from outlast.core.breaker.state import Breaker
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health
from outlast_schemas.vitals import Vitals, Window

__all__ = ["ProviderBreaker", "together"]

CLOSED = Breaker()
NOT_YET_KNOWN: Final = 2**31
"""A limit that no ramp reaches: a new owner must not take the first worker for the whole pool."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker of the pool: when it was last heard, its share of the permits, and its calls.

    ``tripped`` are the models (``*`` for the provider) that it calls no more by itself.
    """

    at: int
    limit: int
    in_flight: int = 0
    tripped: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderBreaker:
    """One provider's breakers, by model; every event gives the next value. Instants in epoch ms.

    The whole (``*``) opens when connections fail or the account is blocked; that is nobody's
    model's fault. While it is not closed it speaks for all models, and theirs are closed.
    """

    provider: str
    breakers: Mapping[str, Breaker] = field(default_factory=lambda: {EVERY_MODEL: CLOSED})
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    workers: Mapping[str, Worker] = field(default_factory=dict)
    paused_until: int | None = None
    owned_since: int = 0

    def limit(self, now: int, policy: BreakerPolicy = DEFAULT) -> int:
        """How many calls all workers may have under way together, once all have been heard."""
        if now - self.owned_since < policy.fresh_ms:
            return NOT_YET_KNOWN
        return sum(worker.limit for worker in self.workers.values())

    @property
    def busy(self) -> int:
        """How many calls they have under way."""
        return sum(worker.in_flight for worker in self.workers.values())

    def saw(self, vitals: Vitals, now: int, policy: BreakerPolicy = DEFAULT) -> "ProviderBreaker":
        """Fold one worker's window in."""
        provider = self._heard(vitals, now)
        whole = together(vitals.models.values())
        if provider._of(EVERY_MODEL).state is not BreakerWord.CLOSED:
            return provider._moved(EVERY_MODEL, vitals, whole, now, policy)
        provider = provider._judged(EVERY_MODEL, vitals, whole, now, policy)
        if provider._of(EVERY_MODEL).state is not BreakerWord.CLOSED:
            return provider._whole_only()
        for model in {*vitals.models, *provider.breakers} - {EVERY_MODEL}:
            window = vitals.models.get(model, Window())
            if provider._of(model).state is BreakerWord.CLOSED:
                provider = provider._judged(model, vitals, window, now, policy)
            else:
                provider = provider._moved(model, vitals, window, now, policy)
        return provider._told(vitals, now, policy)

    def _told(self, vitals: Vitals, now: int, policy: BreakerPolicy) -> "ProviderBreaker":
        """Who has tripped calls nobody: its word is all that is left of what it saw.

        A new owner needs it, who was not there when the failures were told; and where all have
        tripped nothing will be added to what was seen, were it ever so little.
        """
        if not vitals.tripped or now - self.owned_since < policy.listen_ms:
            return self
        provider = self
        for key in sorted(vitals.tripped):  # "*", the whole, comes first
            if provider._of(EVERY_MODEL).state is BreakerWord.CLOSED:
                provider = provider._believed(key, vitals, now, policy)
        return provider

    def _believed(
        self, key: str, vitals: Vitals, now: int, policy: BreakerPolicy
    ) -> "ProviderBreaker":
        known = self.evidence.get(key)
        disproved = known is not None and known.is_disproved(vitals.worker, now, policy)
        if self._of(key).state is not BreakerWord.CLOSED:
            return self
        if disproved and not self._all_tripped(key, now, policy):
            return self
        why = f"{vitals.worker} found it down: {vitals.tripped[key]}"
        provider = self._with(key, self._of(key).opened(why, now, policy))._forgot(key)
        return provider._whole_only() if key == EVERY_MODEL else provider

    def _all_tripped(self, key: str, now: int, policy: BreakerPolicy) -> bool:
        fresh = (each for each in self.workers.values() if now - each.at < policy.fresh_ms)
        return all({key, EVERY_MODEL} & each.tripped for each in fresh)

    def _heard(self, vitals: Vitals, now: int) -> "ProviderBreaker":
        workers = self.workers
        if vitals.limit:
            worker = Worker(now, vitals.limit, vitals.in_flight, frozenset(vitals.tripped))
            workers = {**workers, vitals.worker: worker}
        paused = max(self.paused_until or 0, vitals.paused_until or 0)
        return replace(self, workers=workers, paused_until=paused if paused > now else None)

    def _of(self, model: str) -> Breaker:
        return self.breakers.get(model, CLOSED)

    def _with(self, model: str, breaker: Breaker) -> "ProviderBreaker":
        return replace(self, breakers={**self.breakers, model: breaker})

    def _judged(
        self, model: str, vitals: Vitals, window: Window, now: int, policy: BreakerPolicy
    ) -> "ProviderBreaker":
        """A closed breaker looks at the evidence."""
        known = self.evidence.get(model) or Evidence(is_whole=model == EVERY_MODEL)
        found = known.saw(vitals.worker, window, now, policy, told=vitals.at)
        if found is known:
            return self
        seen = replace(self, evidence={**self.evidence, model: found})
        why = found.why(now, policy) or found.why_few(now, policy)
        if why is None:
            return seen
        return seen._with(model, seen._of(model).opened(why, now, policy))._forgot(model)

    def _moved(
        self, model: str, vitals: Vitals, window: Window, now: int, policy: BreakerPolicy
    ) -> "ProviderBreaker":
        """One that is not closed looks at probes, and at the calls of its ramp."""
        breaker, limit = self._of(model), self.limit(now, policy)
        if vitals.probe is not None and (vitals.probe_of or EVERY_MODEL) == model:
            answered = REACHED if model == EVERY_MODEL else ANSWERED
            breaker = breaker.probed(vitals.worker, vitals.probe, vitals.note, now, limit, answered)
        breaker = breaker.called(window, now, limit, self.busy, policy)
        return self if breaker is self._of(model) else self._with(model, breaker)

    def _forgot(self, model: str) -> "ProviderBreaker":
        """What opened it must not open it again when it is closed."""
        evidence = {name: each for name, each in self.evidence.items() if name != model}
        return replace(self, evidence=evidence)

    def _whole_only(self) -> "ProviderBreaker":
        return replace(self, breakers={EVERY_MODEL: self._of(EVERY_MODEL)}, evidence={})

    def ticked(self, now: int, roll: float, policy: BreakerPolicy = DEFAULT) -> "ProviderBreaker":
        """Let time pass: name a prober where none is, or the named one is gone; one at a time."""
        fresh = {
            name: worker
            for name, worker in self.workers.items()
            if now - worker.at < policy.fresh_ms
        }
        provider = replace(self, workers=fresh)
        if self.paused_until is not None and self.paused_until <= now:
            provider = replace(provider, paused_until=None)
        for model in sorted(provider.breakers):
            provider = provider._asked(model, now, roll, policy)
        return provider

    def _asked(self, model: str, now: int, roll: float, policy: BreakerPolicy) -> "ProviderBreaker":
        breaker = self._of(model)
        if not breaker.wants_probe(now, policy):
            return self
        if breaker.waits_for_probe(now, breaker.prober in self.workers, policy):
            return self
        if any(each.is_probing for name, each in self.breakers.items() if name != model):
            return self
        prober = self._chosen(breaker.prober, roll)
        if prober is None:
            idle = breaker.without_prober()
            return self if idle == breaker else self._with(model, idle)
        wait = (
            0 if breaker.state is BreakerWord.RAMP else policy.probe_wait_ms(breaker.setbacks, roll)
        )
        return self._with(model, breaker.named(prober, now + wait))

    def _chosen(self, last: str | None, roll: float) -> str | None:
        """One of the workers, another than the last where there is a choice."""
        candidates = sorted(name for name in self.workers if name != last) or sorted(self.workers)
        return candidates[int(roll * len(candidates))] if candidates else None

    def health(self, epoch: int, now: int) -> Health:
        """What is written to the fleet."""
        return Health(
            provider=self.provider,
            epoch=epoch,
            at=now,
            models={model: each.verdict() for model, each in self.breakers.items()},
            paused_until=self.paused_until,
        )

    @classmethod
    def restored(cls, provider: str, health: Health | None, now: int) -> "ProviderBreaker":
        """Take over where the last owner of the provider's partition left off."""
        if health is None or not health.models:
            return cls(provider=provider)
        probers = {each.prober for each in health.models.values() if each.probe_at is not None}
        return cls(
            provider=provider,
            breakers={model: Breaker.restored(each, now) for model, each in health.models.items()},
            # Not heard yet, and no reason to ask another: its probe may be under way.
            workers={prober: Worker(now, 0) for prober in probers if prober is not None},
            paused_until=health.paused_until,
            owned_since=now,
        )


def together(windows: Iterable[Window]) -> Window:
    """All models' calls as one window.

    Whose call came last is not known: only one model alone has a streak that means something.
    """
    windows = [each for each in windows if each.calls or each.overdue]
    whole = Window(streak=windows[0].streak if len(windows) == 1 else 0)
    for each in windows:
        whole = replace(
            whole,
            succeeded=whole.succeeded + each.succeeded,
            failures=whole.failures + each.failures,
            unreached=whole.unreached + each.unreached,
            slow=whole.slow + each.slow,
            overdue=whole.overdue + each.overdue,
            late=whole.late + each.late,
            throttled=whole.throttled + each.throttled,
            blocked=whole.blocked + each.blocked,
            misrouted=whole.misrouted + each.misrouted,
            answered=whole.answered + each.answered,
            note=each.note or whole.note,
        )
    return whole
