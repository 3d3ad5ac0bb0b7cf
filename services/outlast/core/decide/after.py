"""What a call's verdict means for the job."""

from collections.abc import Mapping
from typing import Final

from outlast.core.choose import Send, eligible
from outlast.core.decide.situation import (
    AVOID_MS,
    Situation,
    avoiding,
    chosen,
    deferred,
    starting_over,
)
from outlast.core.lifecycle import Complete, Decision, Expire, Park, SetAside, Wait
from outlast.core.policy import Route, Target
from outlast.core.verdict import Verdict
from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job
from outlast_schemas.state import KEPT_ATTEMPTS

__all__ = ["after_call"]

BLOCKED_MS: Final = 600_000
"""How long a job stays away from a blocked account or a misrouted target."""
BACKOFF_LEAST_MS: Final = 3_000
"""All were just tried: the fleet's verdict takes up to three seconds where much was served just
before, and may spare the next round."""
BACKOFF_FIRST: Final = 2.0
BACKOFF_MOST: Final = 60.0
THROTTLE_FIRST: Final = 1.0
THROTTLE_MOST: Final = 10.0
FAILED: Final = frozenset({VerdictWord.PROVIDER_DOWN, VerdictWord.AMBIGUOUS})


def after_call(
    job: Job,
    target: Target,
    verdict: Verdict,
    attempt: Attempt,
    does_well: bool,
    s: Situation,
    *,
    is_suspect: bool = False,
) -> Decision:
    """What a call's verdict means for the job.

    Args:
        job: as it was before the call.
        target: who was called.
        verdict: what the call came to.
        attempt: the call, as the state shall remember it.
        does_well: whether the provider does well with other jobs; only then is a failure charged.
        s: everything else that counts.
        is_suspect: whether the target rejects so many jobs alike that it may be at fault itself.
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
    if verdict.word is VerdictWord.JOB_REJECTED and is_suspect:
        return _second_opinion(job, target, verdict, s)
    return _after_failure(job, target, verdict, s)


def _second_opinion(job: Job, target: Target, verdict: Verdict, s: Situation) -> Decision:
    """Another provider, uncharged; what two of them reject is the job's fault."""
    allowed = eligible(s.route, s.operation, s.scope, s.catalogue)
    others = [each for each in allowed if each.provider != target.provider]
    run = job.state.attempts[-job.state.calls :]
    rejected = {each.provider for each in run if each.verdict is VerdictWord.JOB_REJECTED}
    if not others or rejected - {target.provider} or _spent(job, s.route):
        return _aside(job, Reason.JOB_REJECTED, verdict)
    moved = deferred(job, {target.provider: s.now + BLOCKED_MS})
    # Nobody up is no second opinion: it waits for one.
    is_up = any(s.fleet.is_up(each, s.now) for each in others)
    return Wait(moved, s.now) if is_up else Park(moved)


def _after_failure(job: Job, target: Target, verdict: Verdict, s: Situation) -> Decision:
    match verdict.word:
        case VerdictWord.JOB_REJECTED if verdict.is_oversized:
            return _aside(job, Reason.ANSWER_TOO_LARGE, verdict)
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
            return Park(deferred(job, {target.provider: s.now + BLOCKED_MS}))
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
    """The alternate now; when all that are up were tried, back off and start over.

    Whom all have failed once calls one after the other from then on, with a back-off after each:
    in an outage of all, every round at once would be as many calls in vain as there are targets.
    """
    moved = avoiding(job, {target.provider: s.now + AVOID_MS})
    is_left = isinstance(chosen(moved, s), Send)
    rounds = _rounds(job, s)
    if is_left and not rounds:
        return Wait(moved, s.now)
    wait = BACKOFF_LEAST_MS + _backoff_ms(BACKOFF_FIRST, BACKOFF_MOST, rounds, s.roll)
    return Wait(moved if is_left else starting_over(job, s.now), s.now + wait)


def _rounds(job: Job, s: Situation) -> int:
    """How many times over those that may take it had failed it, before its last call."""
    providers = {each.provider for each in eligible(s.route, s.operation, s.scope, s.catalogue)}
    run = job.state.attempts[-job.state.calls :]
    failures = sum(each.verdict in FAILED for each in run)
    return max(0, failures - 1) // max(1, len(providers))


def _throttled(job: Job, target: Target, verdict: Verdict, s: Situation) -> Decision:
    """Wait on the same target as long as the route allows; then, or if told longer, elsewhere."""
    streak = _streak(job, target)
    since = job.state.attempts[-streak].at
    wait = _backoff_ms(THROTTLE_FIRST, THROTTLE_MOST, streak - 1, s.roll)
    if verdict.retry_after is not None:
        wait = int(verdict.retry_after * 1000)
    due = s.now + wait
    job = deferred(job)
    if due - since <= s.route.throttle_wait_seconds * 1000:
        return Wait(job, due)
    moved = avoiding(job, {target.provider: max(due, s.now + AVOID_MS)})
    return Wait(moved, s.now) if isinstance(chosen(moved, s), Send) else Wait(job, due)


def _alternate_or_park(job: Job, avoid: Mapping[str, int], s: Situation) -> Decision:
    moved = deferred(job, avoid)
    return Wait(moved, s.now) if isinstance(chosen(moved, s), Send) else Park(moved)


def _elsewhere(
    job: Job, target: Target, verdict: Verdict, reason: Reason, s: Situation
) -> Decision:
    """Another target for what this one refuses for its own reasons; once each, no starting over."""
    moved = avoiding(job, {str(target): job.state.deadline})
    allowed = eligible(s.route, s.operation, s.scope, s.catalogue)
    left = [each for each in allowed if moved.state.avoid.get(str(each), 0) < job.state.deadline]
    if _exhausted(moved, s.route) or not left:
        return _aside(job, reason, verdict)
    if any(s.fleet.is_up(each, s.now) for each in left):
        return Wait(moved, s.now)
    return Park(deferred(moved))


def _exhausted(job: Job, route: Route) -> bool:
    return job.state.charged >= route.max_attempts or _spent(job, route)


def _spent(job: Job, route: Route) -> bool:
    return job.state.calls >= route.max_calls


def _remembered(job: Job, attempt: Attempt, charge: bool) -> Job:
    state = job.state
    attempts = (*state.attempts, attempt)[-KEPT_ATTEMPTS:]
    charged = state.charged + charge
    return job.with_state(state.called(attempts, charged))


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
    note, status = verdict.note or verdict.word.value, f"HTTP {verdict.status}"
    is_told = verdict.status is None or note.startswith(status)
    return SetAside(job, reason, note if is_told else f"{note} ({status})", verdict.word.value)
