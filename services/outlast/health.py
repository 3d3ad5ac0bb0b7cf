"""Reads ``outlast.vitals``; writes ``outlast.health``: one verdict per provider for the fleet.

The owner of a provider's partition folds what its workers saw into a breaker and writes a verdict
at every change, and again every ten seconds, so that readers can tell a living verdict from a
stale one.
"""

from collections.abc import Callable
from typing import Final

import structlog

from outlast.core.breaker import ProviderBreaker
from outlast.ports import HealthPorts
from outlast_schemas.health import BreakerWord, ModelHealth
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

    async def saw(self, vitals: Vitals) -> None:
        """Fold one window in, and tell the fleet if the verdict changed."""
        before = self._breaker(vitals.provider)
        self._heard[vitals.provider] = self._ports.clock.now()
        after = before.saw(vitals, self._ports.clock.now())
        await self._replace(before, after)

    async def tick(self) -> None:
        """Let time pass for every provider owned: name probers, rewrite what grows old."""
        for provider in list(self._breakers):
            now, roll = self._ports.clock.now(), self._ports.clock.roll()
            if not self._owns(provider) or now - self._heard[provider] > SILENT_MS:
                self._forget(provider)
                continue
            before = self._breakers[provider]
            await self._replace(before, before.ticked(now, roll))

    def _breaker(self, provider: str) -> ProviderBreaker:
        if provider not in self._breakers:
            known, now = self._ports.known(provider), self._ports.clock.now()
            self._breakers[provider] = ProviderBreaker.restored(provider, known, now)
            self._epoch[provider] = now if known is None else max(now, known.epoch + 1)
        return self._breakers[provider]

    def _forget(self, provider: str) -> None:
        for kept in (self._breakers, self._written, self._epoch, self._heard):
            kept.pop(provider, None)

    async def _replace(self, before: ProviderBreaker, after: ProviderBreaker) -> None:
        provider, now = after.provider, self._ports.clock.now()
        self._breakers[provider] = after
        _tell(before, after)
        old = now - self._written.get(provider, 0) >= REWRITE_MS
        if old or before.health(0, 0) != after.health(0, 0):
            self._written[provider] = now
            await self._ports.verdicts.publish(after.health(self._epoch[provider], now))


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
