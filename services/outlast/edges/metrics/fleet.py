"""What every process knows of the fleet: verdicts by provider, and what is left of each route."""

from collections.abc import Callable, Iterator
from typing import Final

from outlast.core.choose import STALE_MS, Fleet
from outlast.core.policy import Catalogue
from outlast.edges.metrics import families as m
from outlast.edges.metrics.families import Reading
from outlast_schemas.health import BreakerWord, Health

__all__ = ["fleet_readings"]

STATES: Final = {
    BreakerWord.CLOSED: 0,
    BreakerWord.HALF_OPEN: 1,
    BreakerWord.OPEN: 2,
    BreakerWord.RAMP: 3,
}


def fleet_readings(
    catalogue: Catalogue, fleet: Callable[[], Fleet], now: Callable[[], int]
) -> Iterator[Reading]:
    """The verdicts of now; ``now()`` is epoch ms on the brokers' clock."""
    known, at = fleet(), now()
    for provider in catalogue.providers:
        health = known.health.get(provider)
        if health is not None:
            yield from _verdicts(provider, health, at)
    for name, route in catalogue.routes.items():
        up = sum(known.is_up(target, at) for target in route.targets)
        yield m.ROUTE_TARGETS.of(name, value=len(route.targets))
        yield m.ROUTE_UP.of(name, value=up)


def _verdicts(provider: str, health: Health, now: int) -> Iterator[Reading]:
    yield m.VERDICT_AGE.of(provider, value=max(0, now - health.at) / 1000)
    yield m.PAUSED.of(provider, value=max(0, (health.paused_until or 0) - now) / 1000)
    if now - health.at <= STALE_MS:
        for model, verdict in health.models.items():
            yield m.BREAKER.of(provider, model, value=STATES[verdict.state])
