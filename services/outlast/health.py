"""Reads ``outlast.vitals``; writes ``outlast.health``: one verdict per provider for the fleet.

The owner of a provider's partition folds what its workers saw into a breaker and writes a verdict
at every change, and again every ten seconds, so that readers can tell a living verdict from a
stale one.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from outlast.core.breaker import ProviderBreaker
from outlast.ports import HealthPorts
from outlast_schemas.health import BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals

__all__ = ["VerdictOwner"]

log = structlog.get_logger()

REWRITE_MS: Final = 10_000
SILENT_MS: Final = 30_000
"""A provider without vitals for so long is not written about any more: its verdict goes stale."""


class VerdictOwner:
    """Owns the verdicts of the providers whose vitals partitions this process reads."""

    def __init__(self, ports: HealthPorts, owns: Callable[[str], bool]) -> None:
        """``owns`` tells whether a provider's vitals are still this process's to fold."""
        self._ports = ports
        self._owns = owns
        self._breakers: dict[str, ProviderBreaker] = {}
        self._written: dict[str, int] = {}
        self._epoch: dict[str, int] = {}
        self._heard: dict[str, int] = {}

    async def saw(self, *heard: Vitals) -> None:
        """Fold windows in, in their order, and tell the fleet once if a verdict changed.

        Whoever is busy hears many at a time, and must not wait for an acknowledgement after each:
        it would fall behind for good.
        """
        before = dict[str, ProviderBreaker]()
        for vitals in heard:
            provider, now = vitals.provider, self._ports.clock.now()
            known = self._breaker(provider)
            before.setdefault(provider, known)
            self._heard[provider] = now
            self._breakers[provider] = known.saw(vitals, now)
            _tell(known, self._breakers[provider])
        await self._written_where_changed(before)

    async def tick(self) -> None:
        """Let time pass for every provider owned: name probers, rewrite what grows old."""
        before = dict[str, ProviderBreaker]()
        for provider in list(self._breakers):
            now, roll = self._ports.clock.now(), self._ports.clock.roll()
            if not self._owns(provider) or now - self._heard[provider] > SILENT_MS:
                self._forget(provider)
                continue
            before[provider] = known = self._breakers[provider]
            self._breakers[provider] = known.ticked(now, roll)
            _tell(known, self._breakers[provider])
        await self._written_where_changed(before)

    def _breaker(self, provider: str) -> ProviderBreaker:
        if provider not in self._breakers:
            known, now = self._ports.known(provider), self._ports.clock.now()
            self._breakers[provider] = ProviderBreaker.restored(provider, known, now)
            self._epoch[provider] = now if known is None else max(now, known.epoch + 1)
        return self._breakers[provider]

    def _forget(self, provider: str) -> None:
        for kept in (self._breakers, self._written, self._epoch, self._heard):
            kept.pop(provider, None)

    async def _written_where_changed(self, before: Mapping[str, ProviderBreaker]) -> None:
        """All at once: one acknowledgement may take a second where much else is written."""
        due = [name for name, each in before.items() if self._is_due(name, each)]
        await asyncio.gather(*(self._ports.verdicts.publish(self._verdict(name)) for name in due))

    def _is_due(self, provider: str, before: ProviderBreaker) -> bool:
        is_old = self._ports.clock.now() - self._written.get(provider, 0) >= REWRITE_MS
        return is_old or before.health(0, 0) != self._breakers[provider].health(0, 0)

    def _verdict(self, provider: str) -> Health:
        now = self._written[provider] = self._ports.clock.now()
        return self._breakers[provider].health(self._epoch[provider], now)


def _tell(before: ProviderBreaker, after: ProviderBreaker) -> None:
    """What an operator wants to know: what went down, what is tried again, what is well."""
    was = before.health(0, 0).models
    for model, verdict in after.health(0, 0).models.items():
        event = _event(was.get(model), verdict)
        if event is not None:
            evidence = verdict.evidence
            log.warning(event, provider=after.provider, model=model, evidence=evidence)


def _event(before: ModelHealth | None, after: ModelHealth) -> str | None:
    was = before.state if before is not None else BreakerWord.CLOSED
    match was, after.state:
        case ((BreakerWord.CLOSED | BreakerWord.RAMP), BreakerWord.OPEN):
            return "health.opened"
        case ((BreakerWord.OPEN | BreakerWord.HALF_OPEN), BreakerWord.RAMP):
            return "health.ramp"
        case BreakerWord.RAMP, BreakerWord.CLOSED:
            return "health.closed"
        case _:
            return None
