"""When a sweep of the parked jobs is owed, and when it may be."""

from dataclasses import dataclass, replace
from typing import Final

from outlast_schemas.health import Health

__all__ = ["Policy", "State", "due", "is_better", "is_worse", "reasoned", "swept", "told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Spans in milliseconds.

    Attributes:
        every: between two sweeps while somebody is up.
        again: so long after each reason one more is owed, for what was written meanwhile.
        apart: between two sweeps while verdicts flap.
        flaps: so many reasons within ``span`` are flapping.
        span: how long a reason is remembered.
        expiry: between two sweeps that only tell jobs that they have expired.
    """

    every: int = 60_000
    again: tuple[int, ...] = (15_000, 60_000)
    apart: int = 60_000
    flaps: int = 3
    span: int = 180_000
    expiry: int = 300_000


POLICY: Final = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is owed. Instants are epoch ms.

    Attributes:
        owed: when sweeps fall due, earliest first.
        reasons: when the latest reasons were seen.
        last: the last sweep.
        told: the last sweep that was for expiry.
    """

    owed: tuple[int, ...] = ()
    reasons: tuple[int, ...] = ()
    last: int | None = None
    told: int | None = None


def reasoned(state: State, now: int, policy: Policy = POLICY) -> State:
    """A reason: a better verdict, partitions that are new here, another configuration."""
    owed = {*state.owed, now, *(now + span for span in policy.again)}
    # One that is overdue does for all that are.
    overdue = {at for at in owed if at <= now}
    kept = tuple(at for at in state.reasons if at > now - policy.span)[-policy.flaps :]
    return replace(
        state, owed=tuple(sorted({min(overdue), *(owed - overdue)})), reasons=(*kept, now)
    )


def due(state: State, now: int, policy: Policy = POLICY) -> int | None:
    """When the next sweep is due while somebody is up; ``None`` before the first reason."""
    regular = () if state.last is None else (state.last + policy.every,)
    at: int | None = min((*state.owed, *regular), default=None)
    if at is not None and state.last is not None and _flaps(state, now, policy):
        at = max(at, state.last + policy.apart)
    return at


def swept(state: State, now: int) -> State:
    """A sweep began: it does for all that were due."""
    return replace(state, owed=tuple(at for at in state.owed if at > now), last=now)


def told(state: State, now: int, deadline: int | None, policy: Policy = POLICY) -> State | None:
    """The state after a sweep for expiry, if the earliest deadline seen makes one due."""
    if deadline is None or deadline > now:
        return None
    if state.told is not None and now < state.told + policy.expiry:
        return None
    return replace(state, told=now)


def is_better(before: Health | None, after: Health) -> bool:
    """Whether some model is let through that was not before."""
    if before is None:
        return False
    shut = {name for name, each in before.models.items() if not each.lets_through}
    return any(after.models[name].lets_through for name in shut & set(after.models))


def is_worse(before: Health | None, after: Health) -> bool:
    """Whether some model is not let through any more, as far as was known."""
    known = before.models if before is not None else {}
    shut = (name for name, each in after.models.items() if not each.lets_through)
    return any(name not in known or known[name].lets_through for name in shut)


def _flaps(state: State, now: int, policy: Policy) -> bool:
    return sum(1 for at in state.reasons if at > now - policy.span) >= policy.flaps
