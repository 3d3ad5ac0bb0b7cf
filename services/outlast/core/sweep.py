"""When a sweep of the parked jobs is owed; how often some may be passed over for others."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from outlast_schemas.health import Health

__all__ = [
    "Passing",
    "Policy",
    "State",
    "due",
    "is_better",
    "is_worse",
    "may_pass",
    "may_tell",
    "passed",
    "reasoned",
    "swept",
    "told",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Spans in milliseconds.

    Attributes:
        every: between two sweeps while somebody is up.
        again: so long after each reason one more is owed, for what was written meanwhile.
        apart: between two sweeps while verdicts flap.
        flaps: so many reasons of one provider within ``span`` are flapping.
        span: how long a reason is remembered.
        expiry: between two passes of a partition for jobs that have expired.
        passes: between the first two passes for jobs that can go; then twice as long each time.
        each: so long for each job that was passed over is enough, however many passes there were.
        longest: between two such passes at the most.
        calm: after so long without one it begins anew.
    """

    every: int = 60_000
    again: tuple[int, ...] = (15_000, 60_000)
    apart: int = 60_000
    flaps: int = 3
    span: int = 180_000
    expiry: int = 200_000
    passes: int = 60_000
    each: int = 1_000
    longest: int = 3_600_000
    calm: int = 7_200_000


POLICY: Final = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is owed. Instants are epoch ms.

    Attributes:
        owed: when sweeps fall due, earliest first.
        reasons: the latest, each with when it was seen and whose it was.
        last: the last sweep.
    """

    owed: tuple[int, ...] = ()
    reasons: tuple[tuple[int, str], ...] = ()
    last: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """What was passed over in one partition, so that those behind could go. Epoch ms.

    Who is passed over is written anew, and a few late jobs behind a long backlog would have it all
    written again for each of them. So the first passes come soon after each other, and in the long
    run one job is passed over a second.

    Attributes:
        last: the last pass for jobs that could go.
        wait: the next such pass comes not sooner after it.
        told: the last pass for jobs that had expired.
    """

    last: int | None = None
    wait: int = 0
    told: int | None = None


def reasoned(state: State, now: int, of: str = "", policy: Policy = POLICY) -> State:
    """A reason: a better verdict ``of`` a provider, partitions that are new here."""
    owed = {*state.owed, now, *(now + span for span in policy.again)}
    # One that is overdue does for all that are.
    overdue = {at for at in owed if at <= now}
    fresh = tuple(each for each in state.reasons if each[0] > now - policy.span)
    others = (each for each in fresh if each[1] != of)
    its = (*(each for each in fresh if each[1] == of), (now, of))[-policy.flaps :]
    return replace(
        state, owed=tuple(sorted({min(overdue), *(owed - overdue)})), reasons=(*others, *its)
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


def may_pass(state: Passing, now: int) -> bool:
    """Whether jobs may be passed over for others that can go."""
    return state.last is None or now >= state.last + state.wait


def passed(state: Passing, now: int, jobs: int, policy: Policy = POLICY) -> Passing:
    """A pass for jobs that can go began, which so many others have to let by."""
    is_first = state.last is None or now >= state.last + policy.calm
    doubled = policy.passes if is_first else 2 * state.wait
    wait = min(doubled, max(policy.passes, jobs * policy.each), policy.longest)
    return replace(state, last=now, wait=wait)


def may_tell(state: Passing, now: int, policy: Policy = POLICY) -> bool:
    """Whether jobs may be passed over for others that have expired."""
    return state.told is None or now >= state.told + policy.expiry


def told(state: Passing, now: int) -> Passing:
    """A pass for jobs that have expired began."""
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
    """Whether one provider comes and goes: four that come back one after the other do not flap."""
    count = Counter(of for at, of in state.reasons if at > now - policy.span)
    return max(count.values(), default=0) >= policy.flaps
