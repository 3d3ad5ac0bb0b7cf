"""What happens next to a job: before a call, after a call, and when a stage looks at it again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from outlast.core.admission import Fault, terms
from outlast.core.choose import (
    Fleet,
    Later,
    NobodyUp,
    Refuse,
    Send,
    avoided_until,
    choose,
    eligible,
)
from outlast.core.lifecycle import Ask, Complete, Decision, Expire, Park, SetAside, Wait
from outlast.core.policy import Catalogue, OnAmbiguous, Route, Target
from outlast.core.verdict import Verdict
from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job
from outlast_schemas.state import KEPT_ATTEMPTS

__all__ = [
    "Go",
    "Situation",
    "View",
    "after_call",
    "before_call",
    "next_step",
    "next_target",
    "situation",
]

AVOID_MS: Final = 60_000
"""How long a job stays away from a provider that just failed it, unless it starts over sooner."""
BLOCKED_MS: Final = 600_000
"""How long a job stays away from a blocked account or a misrouted target."""
DRAINED_MS: Final = 5_000
"""How long a job stays away from the pool that just handed it over untouched."""
BACKOFF_FIRST: Final = 2.0
BACKOFF_MOST: Final = 60.0
THROTTLE_FIRST: Final = 1.0
THROTTLE_MOST: Final = 10.0
FAILED: Final = frozenset({VerdictWord.PROVIDER_DOWN, VerdictWord.AMBIGUOUS})


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The world at one moment: ``now`` is epoch ms of the broker's clock, ``roll`` in [0, 1)."""

    catalogue: Catalogue
    fleet: Fleet
    now: int
    roll: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a decision looks at beside the job: the world, and what the job asks for."""

    route: Route
    scope: frozenset[str] | None
    on_ambiguous: OnAmbiguous
    fleet: Fleet
    catalogue: Catalogue
    now: int
    roll: float

    def at(self, view: View) -> "Situation":
        """The same job's situation at another moment; what it asks for has not changed."""
        return replace(self, fleet=view.fleet, now=view.now, roll=view.roll)


@dataclass(frozen=True, slots=True)
class Go:
    """Nothing speaks against calling the target now."""

    target: Target


def situation(job: Job, view: View) -> Situation | Fault:
    """What the job asks for, read anew against this process's own configuration."""
    route = view.catalogue.route(job.state.route)
    if route is None:
        name = job.state.route[:200]
        return Fault(Reason.UNKNOWN_ROUTE, f"route {name!r} is not in the configuration any more")
    asked = terms(job.headers, view.catalogue)
    if isinstance(asked, Fault):
        return asked
    return Situation(
        route=route,
        scope=asked.scope,
        on_ambiguous=asked.on_ambiguous or route.on_ambiguous,
        fleet=view.fleet,
        catalogue=view.catalogue,
        now=view.now,
        roll=view.roll,
    )


def next_step(job: Job, view: View) -> Decision:
    """Where a job goes that waits for nothing but a target: route, retry and park ask this."""
    match situation(job, view):
        case Fault(reason, detail):
            return SetAside(job, reason, detail)
        case Situation() as found:
            return next_target(job, found)


def next_target(job: Job, situation: Situation) -> Decision:
    """The first target that may and can take the job; else it waits, is parked, or ends."""
    if situation.now >= job.state.deadline:
        return Expire(job)
    match _choose(job, situation):
        case Send(target):
            return Ask(job, target)
        case Later(due):
            return Wait(_deferred(job), due)
        case NobodyUp():
            return Park(_deferred(job))
        case Refuse(reason, detail):
            return SetAside(job, reason, detail)


def before_call(job: Job, provider: str, situation: Situation) -> Go | Decision:
    """The last look before a call: deadline, scope and health as this process knows them.

    A job whose provider is down is handed on untouched and uncharged, and avoids the provider
    for a moment; handed on again within that moment it waits in a longer tier, so that nothing
    spins between two processes that disagree.
    """
    if situation.now >= job.state.deadline:
        return Expire(job)
    target = _addressed(job, provider, situation)
    if target is None:
        # Scope or route changed since it was sent here: let the retry stage choose anew.
        return Wait(_deferred(job), situation.now)
    if situation.fleet.is_up(target, situation.now):
        return Go(target)
    again = avoided_until(target, job.state.avoid) > situation.now
    job = _avoiding(_deferred(job), {provider: situation.now + DRAINED_MS})
    return Wait(job, situation.now + (DRAINED_MS if again else 0))


def _addressed(job: Job, provider: str, situation: Situation) -> Target | None:
    """The target this pool was asked to call, if scope and route still allow it."""
    allowed = eligible(situation.route, situation.scope, situation.catalogue)
    mine = [target for target in allowed if target.provider == provider]
    return next((target for target in mine if str(target) == job.state.target), None) or (
        mine[0] if mine and job.state.target is None else None
    )


def after_call(
    job: Job, target: Target, verdict: Verdict, attempt: Attempt, does_well: bool, s: Situation
) -> Decision:
    """What a call's verdict means for the job.

    Args:
        job: as it was before the call.
        target: who was called.
        verdict: what the call came to.
        attempt: the call, as the state shall remember it.
        does_well: whether the provider does well with other jobs; only then is a failure charged.
        s: everything else that counts.
    """
    charge = verdict.word in FAILED and does_well and verdict.evidence
    job = _remembered(job, attempt, charge)
    if verdict.word is VerdictWord.SUCCEEDED and verdict.served is not None:
        return Complete(job, verdict.served)
    if verdict.word is VerdictWord.AMBIGUOUS and s.on_ambiguous == "hold":
        # Even past the deadline: what may have run must never look as if it had not.
        return _aside(job, Reason.AMBIGUOUS, verdict)
    if s.now >= job.state.deadline:
        return Expire(job)
    return _after_failure(job, target, verdict, s)


def _after_failure(job: Job, target: Target, verdict: Verdict, s: Situation) -> Decision:
    match verdict.word:
        case VerdictWord.JOB_REJECTED:
            return _aside(job, Reason.JOB_REJECTED, verdict)
        case VerdictWord.CONTENT_POLICY if s.route.on_content_policy == "dead_letter":
            return _aside(job, Reason.CONTENT_POLICY, verdict)
        case VerdictWord.CONTENT_POLICY:
            return _elsewhere(job, target, verdict, Reason.CONTENT_POLICY, s)
        case VerdictWord.CONTEXT_TOO_LONG:
            return _elsewhere(job, target, verdict, Reason.CONTEXT_TOO_LONG, s)
        case VerdictWord.RETRY_LATER | VerdictWord.ACCOUNT_BLOCKED if _spent(job, s.route):
            # Waiting for a limit or for an operator exhausts nobody: it asks with the sweeps.
            return Park(_avoiding(_deferred(job), {target.provider: s.now + BLOCKED_MS}))
    if _exhausted(job, s.route):
        return _aside(job, Reason.ATTEMPTS_EXHAUSTED, verdict)
    match verdict.word:
        case VerdictWord.RETRY_LATER:
            return _throttled(job, target, verdict, s)
        case VerdictWord.AMBIGUOUS if s.on_ambiguous == "retry" and _streak(job, target) < 2:
            return Wait(job, s.now + _backoff_ms(BACKOFF_FIRST, BACKOFF_MOST, 0, s.roll))
        case VerdictWord.ACCOUNT_BLOCKED:
            return _alternate_or_park(job, {target.provider: s.now + BLOCKED_MS}, s)
        case VerdictWord.MISROUTED:
            return _alternate_or_park(job, {str(target): s.now + BLOCKED_MS}, s)
        case _:
            return _failed_over(job, target, s)


def _failed_over(job: Job, target: Target, s: Situation) -> Decision:
    """The alternate now; when all that are up were tried, back off and start over."""
    moved = _avoiding(job, {target.provider: s.now + AVOID_MS})
    if isinstance(_choose(moved, s), Send):
        return Wait(moved, s.now)
    rounds = max(0, job.state.calls - 1) // max(1, len(s.route.targets))
    fresh = replace(job, state=replace(job.state, avoid=_lasting(job, s.now)))
    return Wait(fresh, s.now + _backoff_ms(BACKOFF_FIRST, BACKOFF_MOST, rounds, s.roll))


def _lasting(job: Job, now: int) -> Mapping[str, int]:
    """What is avoided for more than a provider's failure: that is not started over."""
    return {
        name: until
        for name, until in job.state.avoid.items()
        if "/" in name or until > now + AVOID_MS
    }


def _throttled(job: Job, target: Target, verdict: Verdict, s: Situation) -> Decision:
    """Wait on the same target as long as the route allows; then, or if told longer, elsewhere."""
    streak = _streak(job, target)
    since = job.state.attempts[-streak].at
    wait = _backoff_ms(THROTTLE_FIRST, THROTTLE_MOST, streak - 1, s.roll)
    if verdict.retry_after is not None:
        wait = int(verdict.retry_after * 1000)
    due = s.now + wait
    job = _deferred(job)
    if due - since <= s.route.throttle_wait_seconds * 1000:
        return Wait(job, due)
    moved = _avoiding(job, {target.provider: max(due, s.now + AVOID_MS)})
    return Wait(moved, s.now) if isinstance(_choose(moved, s), Send) else Wait(job, due)


def _alternate_or_park(job: Job, avoid: Mapping[str, int], s: Situation) -> Decision:
    moved = _avoiding(_deferred(job), avoid)
    return Wait(moved, s.now) if isinstance(_choose(moved, s), Send) else Park(moved)


def _elsewhere(
    job: Job, target: Target, verdict: Verdict, reason: Reason, s: Situation
) -> Decision:
    """Another target for what this one refuses for its own reasons; once each, no starting over."""
    moved = _avoiding(job, {str(target): job.state.deadline})
    allowed = eligible(s.route, s.scope, s.catalogue)
    left = [each for each in allowed if moved.state.avoid.get(str(each), 0) < job.state.deadline]
    if _exhausted(moved, s.route) or not left:
        return _aside(job, reason, verdict)
    if any(s.fleet.is_up(each, s.now) for each in left):
        return Wait(moved, s.now)
    return Park(_deferred(moved))


def _choose(job: Job, s: Situation) -> Send | Later | NobodyUp | Refuse:
    return choose(s.route, s.scope, job.state.avoid, s.fleet, s.catalogue, s.now)


def _exhausted(job: Job, route: Route) -> bool:
    return job.state.charged >= route.max_attempts or _spent(job, route)


def _spent(job: Job, route: Route) -> bool:
    return job.state.calls >= route.max_calls


def _remembered(job: Job, attempt: Attempt, charge: bool) -> Job:
    state = job.state
    attempts = (*state.attempts, attempt)[-KEPT_ATTEMPTS:]
    return replace(
        job,
        state=replace(
            state, attempts=attempts, calls=state.calls + 1, charged=state.charged + charge
        ),
    )


def _deferred(job: Job) -> Job:
    return replace(job, state=replace(job.state, deferrals=job.state.deferrals + 1))


def _avoiding(job: Job, avoid: Mapping[str, int]) -> Job:
    return replace(job, state=replace(job.state, avoid={**job.state.avoid, **avoid}))


def _streak(job: Job, target: Target) -> int:
    """How many of the last attempts in a row had this target and the last one's verdict."""
    last = job.state.attempts[-1].verdict
    count = 0
    for attempt in reversed(job.state.attempts):
        if (attempt.provider, attempt.model, attempt.verdict) != (
            target.provider,
            target.model,
            last,
        ):
            break
        count += 1
    return count


def _backoff_ms(first: float, most: float, round_: int, roll: float) -> int:
    """Full jitter: anything up to ``first`` seconds doubled each round, at most ``most``."""
    return int(roll * min(most, first * 2.0 ** min(round_, 16)) * 1000)


def _aside(job: Job, reason: Reason, verdict: Verdict) -> SetAside:
    status = "" if verdict.status is None else f" (HTTP {verdict.status})"
    return SetAside(job, reason, f"{verdict.note or verdict.word}{status}", verdict.word.value)
