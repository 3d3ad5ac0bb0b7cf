"""Which target takes a job now: the one decision behind route, retry and park."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from outlast.core.capability import Operation, can, families_with
from outlast.core.policy import Catalogue, Provider, Route, Target
from outlast_schemas.dead_letter import Reason
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health

__all__ = [
    "Choice",
    "Fleet",
    "Later",
    "NobodyUp",
    "Ramp",
    "Refuse",
    "Send",
    "choose",
    "eligible",
    "is_eligible",
]

STALE_MS = 30_000
"""A verdict older than this counts as unknown, and unknown as closed."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """A provider (``key`` is ``*``) or one model of it is trusted again since then (epoch ms).

    ``permits`` calls of the whole fleet may be under way.
    """

    key: str
    since: int
    permits: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is known of all providers.

    Attributes:
        health: the fleet's verdicts, by provider.
        tripped: targets that this process itself has just found down, and told the fleet.
        full: ramping providers to which just now no more may be sent.
    """

    health: Mapping[str, Health]
    tripped: Collection[str] = ()
    full: Collection[str] = ()

    def is_up(self, target: Target, now: int) -> bool:
        """Whether it may be called; nothing known counts as up."""
        if self.tripped and (target.provider in self.tripped or str(target) in self.tripped):
            return False
        known = self.health.get(target.provider)
        if known is None or now - known.at > STALE_MS:
            return True
        own, whole = known.models.get(target.model), known.models.get(EVERY_MODEL)
        return (own is None or own.lets_through) and (whole is None or whole.lets_through)

    def may_send(self, target: Target, now: int) -> bool:
        """Whether jobs may be sent there now: it is up, and if it ramps, it has room for more."""
        if not self.is_up(target, now):
            return False
        return target.provider not in self.full or self.ramp(target, now) is None

    def ramp(self, target: Target, now: int) -> "Ramp | None":
        """How it is trusted again step by step; ``None`` where it does not ramp."""
        known = self.health.get(target.provider)
        if known is None or now - known.at > STALE_MS:
            return None
        for key in (EVERY_MODEL, target.model):
            each = known.models.get(key)
            if each is not None and each.state is BreakerWord.RAMP:
                return Ramp(key, each.since, each.permits or 1)
        return None

    def paused_until(self, provider: str) -> int:
        """Until when (epoch ms) the provider wishes to be left alone; 0 where it does not."""
        known = self.health.get(provider)
        return (known.paused_until or 0) if known is not None else 0


@dataclass(frozen=True, slots=True)
class Send:
    """Send it to this target now."""

    target: Target


@dataclass(frozen=True, slots=True)
class Later:
    """Somebody is up, but the job avoids all of them until ``due`` (epoch ms)."""

    due: int


@dataclass(frozen=True, slots=True)
class NobodyUp:
    """No eligible provider is up: wait, free of charge."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody in the configuration may or can ever take it."""

    reason: Reason
    detail: str


Choice = Send | Later | NobodyUp | Refuse


def choose(
    route: Route,
    operation: Operation,
    scope: frozenset[str] | None,
    avoid: Mapping[str, int],
    fleet: Fleet,
    catalogue: Catalogue,
    now: int,
) -> Choice:
    """Pick the first eligible target that is up and not avoided.

    Args:
        route: the targets in order of preference, and the route's own scope.
        operation: what the job asks for; who cannot do it is not chosen.
        scope: what the job allows; ``None`` allows all.
        avoid: provider or ``provider/model`` → epoch ms until which it is not chosen.
        fleet: the verdicts.
        catalogue: the configured providers, for their jurisdictions and families.
        now: epoch ms, the broker's clock.
    """
    somebody = False
    due: list[int] = []
    for target in route.targets:
        if not is_eligible(target, route, operation, scope, catalogue):
            continue
        somebody = True
        if fleet.may_send(target, now):
            until = max(avoided_until(target, avoid), _left_alone_until(target, route, fleet, now))
            if until <= now:
                return Send(target)
            due.append(until)
    if due:
        return Later(min(due))
    return NobodyUp() if somebody else _refused(route, operation, scope, catalogue)


def _left_alone_until(target: Target, route: Route, fleet: Fleet, now: int) -> int:
    """Until when (epoch ms) nobody asks it, if that is longer than the route wants to wait."""
    until = fleet.paused_until(target.provider)
    return until if until - now > route.throttle_wait_seconds * 1000 else 0


def avoided_until(target: Target, avoid: Mapping[str, int]) -> int:
    """Until when (epoch ms) a job avoids the target, be it by its provider or by itself."""
    if not avoid:
        return 0
    return max(avoid.get(target.provider, 0), avoid.get(str(target), 0))


def eligible(
    route: Route, operation: Operation, scope: frozenset[str] | None, catalogue: Catalogue
) -> tuple[Target, ...]:
    """The route's targets that the job may go to and that can do what it asks for, in order.

    Allowed is what both the job's scope and the route's own allow.
    """
    return tuple(
        [each for each in route.targets if is_eligible(each, route, operation, scope, catalogue)]
    )


def is_eligible(
    target: Target,
    route: Route,
    operation: Operation,
    scope: frozenset[str] | None,
    catalogue: Catalogue,
) -> bool:
    """Whether the job may go to this target of the route, and it can do what the job asks for."""
    provider = catalogue.providers.get(target.provider)
    return (
        provider is not None
        and can(provider.family, operation)
        and _allowed(provider, route, scope)
    )


def _refused(
    route: Route, operation: Operation, scope: frozenset[str] | None, catalogue: Catalogue
) -> Refuse:
    """Why nobody is eligible: none is allowed, or of those that are none can do it."""
    known = ((target, catalogue.providers.get(target.provider)) for target in route.targets)
    unable = [
        f"{target} (family {provider.family})"
        for target, provider in known
        if provider is not None and _allowed(provider, route, scope)
    ]
    if not unable:
        return Refuse(Reason.SCOPE, f"no target of route {route.name} lies within the job's scope")
    return Refuse(
        Reason.NO_CAPABLE_TARGET,
        f"no target of route {route.name} that the job may go to serves {operation}: "
        f"{', '.join(unable)}; families that serve it: {', '.join(families_with(operation))}",
    )


def _allowed(provider: Provider, route: Route, scope: frozenset[str] | None) -> bool:
    return (scope is None or _within(provider, scope)) and (
        not route.scope or _within(provider, route.scope)
    )


def _within(provider: Provider, scope: Iterable[str]) -> bool:
    return any(
        entry == provider.name
        or (provider.jurisdiction is not None and entry == f"jurisdiction:{provider.jurisdiction}")
        for entry in scope
    )
