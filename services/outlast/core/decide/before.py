"""Where a job goes that waits for a target, and the last look before a call."""

from dataclasses import dataclass
from typing import Final

from outlast.core.admission import Fault
from outlast.core.choose import Later, NobodyUp, Refuse, Send, is_eligible
from outlast.core.decide.situation import (
    Situation,
    View,
    chosen,
    deferred,
    situation,
    starting_over,
)
from outlast.core.lifecycle import Ask, Decision, Expire, Park, SetAside, Wait
from outlast.core.policy import Target
from outlast_schemas.job import Job

__all__ = [
    "Go",
    "back_to_parking",
    "before_call",
    "next_after_parking",
    "next_step",
    "next_target",
    "over_budget",
]

OVER_BUDGET_MS: Final = 30_000
"""How long a repeat waits that the retry budget has no room for."""
DRAINED_MS: Final = 5_000
"""How long a job stays away from the pool that just handed it over untouched."""


@dataclass(frozen=True, slots=True)
class Go:
    """Nothing speaks against calling the target now."""

    target: Target


def next_step(job: Job, view: View) -> Decision:
    """Where a job goes that waits for nothing but a target: route and retry ask this."""
    match situation(job, view):
        case Fault(reason, detail):
            return SetAside(job, reason, detail)
        case Situation() as found:
            return next_target(job, found)


def next_target(job: Job, situation: Situation) -> Decision:
    """The first target that may and can take the job; else it waits, is parked, or ends."""
    if situation.now >= job.state.deadline:
        return Expire(job)
    match chosen(job, situation):
        case Send(target):
            return Ask(job, target)
        case Later(due):
            return Wait(deferred(job), due)
        case NobodyUp():
            return Park(deferred(job))
        case Refuse(reason, detail):
            return SetAside(job, reason, detail)


def before_call(job: Job, provider: str, situation: Situation) -> Go | Decision:
    """The last look before a call: deadline, scope, capability and health as known here.

    A job that cannot be called here now is handed on untouched and uncharged, and avoids the
    provider for a moment: straight to an alternate's pool where one is up, as a whole backlog does
    when its provider is down. Handed on again within that moment it waits in a longer tier, so
    that nothing spins between two processes that disagree.
    """
    if situation.now >= job.state.deadline:
        return Expire(job)
    target = _addressed(job, provider, situation)
    paused = left_alone_until(provider, situation)
    if target is not None and situation.fleet.is_up(target, situation.now) and not paused:
        return Go(target)
    # Down, or scope or route changed since it was sent here: somebody else, or later.
    again = job.state.avoid.get(provider, 0) > situation.now
    until = max(paused, situation.now + DRAINED_MS)
    job = deferred(job, {provider: until})
    return Wait(job, situation.now + DRAINED_MS) if again else _handed_on(job, situation)


def _handed_on(job: Job, s: Situation) -> Ask | Wait:
    """To the alternate at once; what is no plain case is for RETRY to decide.

    So is who takes what of a provider that is trusted step by step: a pool does not count that.
    """
    match chosen(job, s):
        case Send(target) if s.fleet.ramp(target, s.now) is None:
            return Ask(job, target)
        case _:
            return Wait(job, s.now)


def over_budget(job: Job, s: Situation) -> Decision:
    """Where a job goes that would be one repeat too many at a provider that failed it before."""
    return Wait(deferred(job), s.now + OVER_BUDGET_MS)


def left_alone_until(provider: str, s: Situation) -> int:
    """Until when (epoch ms) the provider wants no calls, if that is longer than the job waits."""
    until = s.fleet.paused_until(provider)
    return until if until - s.now > s.route.throttle_wait_seconds * 1000 else 0


def next_after_parking(job: Job, view: View) -> Decision:
    """Where a swept job goes: it starts over, and waits nowhere but among the parked."""
    match next_step(starting_over(job, view.now), view):
        case Wait(later):
            return Park(later)
        case decision:
            return decision


def back_to_parking(job: Job, now: int) -> Park:
    """Where a swept job goes that stands in the way of one that can leave: it returns to the tail.

    What it stays away from it forgets as at any sweep.
    """
    return Park(deferred(starting_over(job, now)))


def _addressed(job: Job, provider: str, situation: Situation) -> Target | None:
    """The target this pool was asked to call, if it is still one of the job's."""
    named, s = job.state.target, situation
    for target in s.route.targets:
        if (
            target.provider == provider
            and named in (None, str(target))
            and is_eligible(target, s.route, s.operation, s.scope, s.catalogue)
        ):
            return target
    return None
