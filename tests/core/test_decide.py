"""What happens next to a job: a row for every verdict, and what waits, spends and ends."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import pytest

from outlast.core.capability import Operation
from outlast.core.choose import Fleet
from outlast.core.decide import (
    Go,
    Situation,
    View,
    after_call,
    before_call,
    next_step,
    next_target,
    situation,
)
from outlast.core.lifecycle import Ask, Complete, Decision, Expire, Park, SetAside, Wait
from outlast.core.policy import OnAmbiguous, Route, Target
from outlast.core.verdict import Verdict
from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.dead_letter import Reason
from outlast_schemas.health import BreakerWord
from outlast_schemas.job import Job
from outlast_schemas.result import Served
from outlast_schemas.state import KEPT_ATTEMPTS, State
from tests.core.given import (
    CATALOGUE,
    CHAT,
    FLASH,
    HAIKU,
    HOUR,
    LUNA,
    NOW,
    PRIVATE,
    TINY,
    a_fleet,
    a_job,
    an_attempt,
)

ALL_UP: Final = Fleet({})
MINUTE: Final = 60_000
ANSWER: Final = Served(body=b"{}", provider="deepseek", model="flash")
V = VerdictWord


def a_situation(
    *,
    route: Route = CHAT,
    operation: Operation = "chat.completions",
    fleet: Fleet = ALL_UP,
    scope: frozenset[str] | None = None,
    on_ambiguous: OnAmbiguous = "alternate",
    now: int = NOW,
    roll: float = 0.5,
) -> Situation:
    """All up, nothing asked for, the dice in the middle."""
    return Situation(
        route=route,
        operation=operation,
        scope=scope,
        on_ambiguous=on_ambiguous,
        fleet=fleet,
        catalogue=CATALOGUE,
        now=now,
        roll=roll,
    )


def a_verdict(
    word: VerdictWord, *, retry_after: float | None = None, evidence: bool = True
) -> Verdict:
    """What a call came to, with an HTTP status and a note."""
    return Verdict(
        word=word,
        status=503,
        note="overloaded",
        retry_after=retry_after,
        evidence=evidence,
        served=ANSWER if word is V.SUCCEEDED else None,
    )


def decided(
    job: Job,
    verdict: VerdictWord | Verdict,
    *,
    target: Target = FLASH,
    does_well: bool = True,
    at: int = NOW,
    s: Situation | None = None,
    is_suspect: bool = False,
) -> Decision:
    """The decision after one more call of ``target`` that began ``at``."""
    verdict = a_verdict(verdict) if isinstance(verdict, VerdictWord) else verdict
    attempt = an_attempt(target, verdict.word, n=job.state.calls + 1, at=at)
    s = s or a_situation()
    return after_call(job, target, verdict, attempt, does_well, s, is_suspect=is_suspect)


def avoiding(*, by: int = MINUTE, **names: str) -> dict[str, int]:
    """Avoid these until ``by`` ms from now."""
    return {name: NOW + by for name in names.values()}


@pytest.mark.parametrize(
    ("verdict", "kind", "due", "avoid"),
    [
        # wait on the same target: half of the first second
        (V.RETRY_LATER, Wait, NOW + 500, {}),
        (V.PROVIDER_DOWN, Wait, NOW, {"deepseek": NOW + MINUTE}),
        (V.AMBIGUOUS, Wait, NOW, {"deepseek": NOW + MINUTE}),
        (V.ACCOUNT_BLOCKED, Wait, NOW, {"deepseek": NOW + 10 * MINUTE}),
        # only the target is suspended: the provider may have the right model
        (V.MISROUTED, Wait, NOW, {"deepseek/flash": NOW + 10 * MINUTE}),
        (V.CONTEXT_TOO_LONG, Wait, NOW, {"deepseek/flash": NOW + HOUR}),
        (V.SUCCEEDED, Complete, None, {}),
        (V.JOB_REJECTED, SetAside, None, {}),
        (V.CONTENT_POLICY, SetAside, None, {}),
    ],
)
def test_every_verdict_has_its_decision(
    verdict: VerdictWord, kind: type[Decision], due: int | None, avoid: dict[str, int]
) -> None:
    decision = decided(a_job(), verdict)

    assert isinstance(decision, kind)
    assert decision.job.state.avoid == avoid
    assert getattr(decision, "due", None) == due


@pytest.mark.parametrize("verdict", VerdictWord)
@pytest.mark.parametrize("does_well", [True, False])
def test_only_a_failure_at_a_provider_that_does_well_is_charged(
    verdict: VerdictWord, does_well: bool
) -> None:
    decision = decided(a_job(charged=2, calls=5), verdict, does_well=does_well)
    charged = verdict in {V.PROVIDER_DOWN, V.AMBIGUOUS} and does_well

    assert decision.job.state.charged == 2 + charged
    assert decision.job.state.calls == 6


def test_a_call_that_the_deadline_of_the_job_cut_is_not_charged() -> None:
    decision = decided(a_job(), a_verdict(V.AMBIGUOUS, evidence=False))

    assert decision.job.state.charged == 0
    assert decision.job.state.calls == 1


def test_every_call_is_remembered_up_to_the_last_twenty() -> None:
    job = a_job(
        attempts=tuple(an_attempt(n=n) for n in range(1, KEPT_ATTEMPTS + 1)), calls=KEPT_ATTEMPTS
    )
    state = decided(job, V.PROVIDER_DOWN).job.state

    assert [attempt.n for attempt in state.attempts] == list(range(2, KEPT_ATTEMPTS + 2))
    assert state.calls == KEPT_ATTEMPTS + 1


# --- succeeded ------------------------------------------------------------------------------


def test_an_answer_completes_the_job() -> None:
    assert decided(a_job(), V.SUCCEEDED) == Complete(
        a_job(calls=1, attempts=(an_attempt(FLASH, V.SUCCEEDED),)), ANSWER
    )


def test_an_answer_that_came_in_before_the_cut_counts_after_the_deadline() -> None:
    decision = decided(a_job(deadline=NOW), V.SUCCEEDED)

    assert isinstance(decision, Complete)


def test_a_success_without_an_answer_is_a_failure() -> None:
    decision = decided(a_job(), Verdict(word=V.SUCCEEDED, status=200))

    assert isinstance(decision, Wait)
    assert decision.job.state.avoid == {"deepseek": NOW + MINUTE}


def test_an_answer_counts_on_the_last_call_allowed() -> None:
    decision = decided(a_job(calls=CHAT.max_calls - 1), V.SUCCEEDED)

    assert isinstance(decision, Complete)


def failed(
    *targets: Target, route: str = "chat", avoid: Mapping[str, int] = MappingProxyType({})
) -> Job:
    """A job that these have failed, one after the other."""
    attempts = tuple(an_attempt(each, n=n) for n, each in enumerate(targets, 1))[-KEPT_ATTEMPTS:]
    return a_job(attempts=attempts, calls=len(targets), route=route, avoid=avoid)


# --- provider_down, and what is like it -----------------------------------------------------


def test_a_spent_job_moves_to_the_alternate_provider() -> None:
    failed = decided(a_job(), V.PROVIDER_DOWN)
    next_ = next_target(failed.job, a_situation())

    assert isinstance(failed, Wait)
    assert isinstance(next_, Ask)
    assert next_.target == LUNA


def test_when_all_were_tried_it_backs_off_and_starts_over() -> None:
    job = a_job(calls=2, avoid=avoiding(a="openai", b="anthropic"))
    decision = decided(job, V.PROVIDER_DOWN)

    assert isinstance(decision, Wait)
    assert decision.due == NOW + 4_000
    assert decision.job.state.avoid == {}


@pytest.mark.parametrize(
    ("failed_before", "most"),
    [(0, 2), (1, 4), (2, 8), (3, 16), (4, 32), (5, 60), (6, 60), (30, 60)],
)
@pytest.mark.parametrize("roll", [0.0, 0.25, 0.999])
def test_the_back_off_doubles_with_every_round_up_to_a_minute_with_full_jitter(
    failed_before: int, most: int, roll: float
) -> None:
    decision = decided(
        failed(*[TINY] * failed_before, route="private"),
        V.PROVIDER_DOWN,
        target=TINY,
        does_well=False,
        s=a_situation(route=PRIVATE, roll=roll),
    )

    assert isinstance(decision, Wait)
    assert decision.due == NOW + 3_000 + int(roll * most * 1_000)  # the verdict takes its time


def test_a_round_is_over_when_every_target_had_its_call() -> None:
    """Three targets: the sixth failure ends the second round, whose back-off is up to 4 s."""
    five = failed(FLASH, LUNA, HAIKU, FLASH, LUNA, avoid=avoiding(a="deepseek", b="openai"))
    decision = decided(five, V.PROVIDER_DOWN, target=HAIKU, does_well=False)

    assert isinstance(decision, Wait)
    assert decision.due == NOW + 5_000
    assert decision.job.state.avoid == {}


def test_whom_all_have_failed_calls_one_after_the_other_with_a_back_off() -> None:
    job = a_job(target=str(FLASH))
    called: list[Target] = []
    waits: list[int] = []
    for target in (FLASH, LUNA, HAIKU) * 2:
        now = NOW + sum(waits)
        waiting = decided(
            job, V.PROVIDER_DOWN, target=target, does_well=False, s=a_situation(now=now)
        )
        assert isinstance(waiting, Wait)
        waits.append(waiting.due - now)
        ask = next_target(waiting.job, a_situation(now=waiting.due))
        assert isinstance(ask, Ask)
        job = ask.job
        called.append(ask.target)

    assert called == [LUNA, HAIKU, FLASH] * 2
    assert waits == [0, 0, 4_000, 5_000, 5_000, 5_000]


@pytest.mark.parametrize(
    ("before", "scope", "waits"),
    [
        # two may take it, so the third failure is of the second round
        ((FLASH, LUNA), frozenset({"deepseek", "openai"}), 5_000),
        ((FLASH,), frozenset({"deepseek", "openai"}), 0),
        ((FLASH, LUNA), None, 0),
    ],
)
def test_a_round_is_of_those_that_may_take_the_job(
    before: tuple[Target, ...], scope: frozenset[str] | None, waits: int
) -> None:
    decision = decided(failed(*before), V.PROVIDER_DOWN, s=a_situation(scope=scope))

    assert isinstance(decision, Wait)
    assert decision.due == NOW + waits


def test_throttling_and_the_calls_of_an_earlier_run_are_no_round() -> None:
    throttled = [an_attempt(FLASH, V.RETRY_LATER, n=n) for n in range(1, 7)]
    earlier = [an_attempt(each) for each in (FLASH, LUNA, HAIKU)]

    for job in (
        a_job(attempts=tuple(throttled), calls=6),
        a_job(attempts=tuple(earlier), calls=0, replays=1),
    ):
        decision = decided(job, V.PROVIDER_DOWN)
        assert isinstance(decision, Wait)
        assert decision.due == NOW


def test_an_alternate_that_is_down_is_not_waited_for() -> None:
    decision = decided(
        a_job(), V.PROVIDER_DOWN, s=a_situation(fleet=a_fleet("openai", "anthropic"))
    )

    assert isinstance(decision, Wait)
    assert decision.due == NOW + 4_000


def test_starting_over_does_not_return_to_a_target_the_job_is_too_long_for() -> None:
    too_long = decided(a_job(), V.CONTEXT_TOO_LONG)
    luna = decided(too_long.job, V.PROVIDER_DOWN, target=LUNA)
    haiku = decided(luna.job, V.PROVIDER_DOWN, target=HAIKU)
    next_ = next_target(haiku.job, a_situation(now=NOW + 2_000))

    assert isinstance(next_, Ask)
    assert next_.target == LUNA


@pytest.mark.parametrize(
    ("verdict", "suspended"),
    [(V.MISROUTED, "deepseek/flash"), (V.ACCOUNT_BLOCKED, "deepseek")],
)
def test_starting_over_does_not_lift_a_suspension(verdict: VerdictWord, suspended: str) -> None:
    blocked = decided(a_job(), verdict)
    luna = decided(blocked.job, V.PROVIDER_DOWN, target=LUNA)
    haiku = decided(luna.job, V.PROVIDER_DOWN, target=HAIKU)

    assert haiku.job.state.avoid == {suspended: NOW + 10 * MINUTE}


# --- exhaustion -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charged", "calls", "does_well", "ends"),
    [
        (6, 6, True, False),
        (7, 7, True, True),
        # an outage charges nothing, so it exhausts nobody
        (7, 7, False, False),
        (0, 38, False, False),
        (0, 39, False, True),
    ],
)
def test_a_job_ends_with_its_last_charged_call_or_its_last_call_of_any_kind(
    charged: int, calls: int, does_well: bool, ends: bool
) -> None:
    decision = decided(a_job(charged=charged, calls=calls), V.PROVIDER_DOWN, does_well=does_well)

    assert isinstance(decision, SetAside) is ends
    assert not isinstance(decision, SetAside) or decision.reason is Reason.ATTEMPTS_EXHAUSTED


def test_the_limits_of_attempts_are_the_routes_own() -> None:
    route = replace(CHAT, max_attempts=1)
    decision = decided(a_job(), V.PROVIDER_DOWN, s=a_situation(route=route))

    assert isinstance(decision, SetAside)
    assert decision.reason is Reason.ATTEMPTS_EXHAUSTED


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (V.PROVIDER_DOWN, Reason.ATTEMPTS_EXHAUSTED),
        (V.MISROUTED, Reason.ATTEMPTS_EXHAUSTED),
        # what the provider says about the job itself tells more
        (V.JOB_REJECTED, Reason.JOB_REJECTED),
        (V.CONTEXT_TOO_LONG, Reason.CONTEXT_TOO_LONG),
        (V.CONTENT_POLICY, Reason.CONTENT_POLICY),
    ],
)
def test_a_job_out_of_calls_ends_with_the_reason_that_tells_most(
    verdict: VerdictWord, reason: Reason
) -> None:
    decision = decided(a_job(calls=CHAT.max_calls - 1), verdict)

    assert isinstance(decision, SetAside)
    assert decision.reason is reason


@pytest.mark.parametrize("verdict", [V.RETRY_LATER, V.ACCOUNT_BLOCKED])
def test_waiting_for_a_limit_or_an_operator_exhausts_nobody(verdict: VerdictWord) -> None:
    decision = decided(a_job(calls=CHAT.max_calls - 1), verdict)

    assert isinstance(decision, Park)


def test_a_dead_letter_says_what_the_last_call_came_to() -> None:
    decision = decided(a_job(), V.JOB_REJECTED)
    silent = decided(a_job(), Verdict(word=V.JOB_REJECTED))

    assert isinstance(decision, SetAside)
    assert (decision.detail, decision.verdict) == ("overloaded (HTTP 503)", "job_rejected")
    assert isinstance(silent, SetAside)
    assert silent.detail == "job_rejected"


def test_a_status_that_the_note_begins_with_is_told_once() -> None:
    verdict = replace(a_verdict(V.JOB_REJECTED), note="HTTP 503 bad_field: no such tool")

    decision = decided(a_job(), verdict)

    assert isinstance(decision, SetAside)
    assert decision.detail == "HTTP 503 bad_field: no such tool"


# --- retry_later ----------------------------------------------------------------------------


def throttled(*started: int) -> tuple[Attempt, ...]:
    """Calls of the first target that were throttled, begun so many ms ago."""
    return tuple(
        an_attempt(FLASH, V.RETRY_LATER, n=n, at=NOW - ago) for n, ago in enumerate(started, 1)
    )


@pytest.mark.parametrize(
    ("before", "retry_after", "wait", "stays"),
    [
        ((), None, 500, True),
        ((5_000,), None, 1_000, True),
        ((9_000, 5_000), None, 2_000, True),
        ((9_000, 8_000, 7_000), None, 4_000, True),
        # at most ten seconds, half of it by the dice
        ((9_000, 8_000, 7_000, 6_000), None, 5_000, True),
        ((9_000, 8_000, 7_000, 6_000, 5_000), None, 5_000, True),
        # the provider's own wish stands in place of ours
        ((), 0.25, 250, True),
        ((), 30.0, 30_000, True),
        ((), 30.001, 0, False),
        ((), 3_600.0, 0, False),
        # thirty seconds in all, from the first of the calls in a row
        ((25_000,), 5.0, 5_000, True),
        ((25_000,), 5.001, 0, False),
        ((29_900,), None, 0, False),
    ],
)
def test_a_throttled_job_waits_as_long_as_its_route_allows_then_goes_elsewhere(
    before: tuple[int, ...], retry_after: float | None, wait: int, stays: bool
) -> None:
    job = a_job(attempts=throttled(*before), calls=len(before))
    decision = decided(job, a_verdict(V.RETRY_LATER, retry_after=retry_after))

    assert isinstance(decision, Wait)
    assert decision.due == NOW + wait
    assert (decision.job.state.avoid == {}) is stays
    assert decision.job.state.deferrals == 1


def test_a_throttled_job_stays_away_as_long_as_the_provider_asked() -> None:
    short = decided(a_job(), a_verdict(V.RETRY_LATER, retry_after=31.0))
    long = decided(a_job(), a_verdict(V.RETRY_LATER, retry_after=600.0))

    assert short.job.state.avoid == {"deepseek": NOW + MINUTE}
    assert long.job.state.avoid == {"deepseek": NOW + 600_000}


def test_a_throttled_job_without_an_alternate_waits_as_long_as_it_is_told() -> None:
    decision = decided(
        a_job(),
        a_verdict(V.RETRY_LATER, retry_after=45.0),
        s=a_situation(fleet=a_fleet("openai", "anthropic")),
    )

    assert isinstance(decision, Wait)
    assert decision.due == NOW + 45_000
    assert decision.job.state.avoid == {}


def test_a_wait_interrupted_by_another_verdict_begins_anew() -> None:
    attempts = (*throttled(29_000), an_attempt(LUNA, V.PROVIDER_DOWN, n=2, at=NOW - 9_000))
    decision = decided(a_job(attempts=attempts, calls=2), V.RETRY_LATER)

    assert isinstance(decision, Wait)
    assert decision.due == NOW + 500


def test_the_wait_of_a_throttled_job_is_the_routes_own() -> None:
    route = replace(CHAT, throttle_wait_seconds=0.1)
    decision = decided(a_job(), V.RETRY_LATER, s=a_situation(route=route))

    assert isinstance(decision, Wait)
    assert decision.due == NOW
    assert "deepseek" in decision.job.state.avoid


# --- ambiguous ------------------------------------------------------------------------------


def test_an_ambiguous_job_on_hold_is_never_sent_again() -> None:
    decision = decided(a_job(), V.AMBIGUOUS, s=a_situation(on_ambiguous="hold"))

    assert isinstance(decision, SetAside)
    assert decision.reason is Reason.AMBIGUOUS


def test_a_job_on_hold_is_sent_again_when_nothing_was_executed() -> None:
    decision = decided(a_job(), V.PROVIDER_DOWN, s=a_situation(on_ambiguous="hold"))

    assert isinstance(decision, Wait)


def test_an_ambiguous_job_that_asked_for_it_is_tried_at_the_same_target_first() -> None:
    first = decided(a_job(), V.AMBIGUOUS, s=a_situation(on_ambiguous="retry"))
    second = decided(first.job, V.AMBIGUOUS, s=a_situation(on_ambiguous="retry"))

    assert isinstance(first, Wait)
    assert first.due == NOW + 1_000
    assert first.job.state.avoid == {}
    assert isinstance(second, Wait)
    assert second.due == NOW
    assert second.job.state.avoid == {"deepseek": NOW + MINUTE}


def test_an_ambiguous_job_goes_to_the_alternate_unless_it_says_otherwise() -> None:
    assert decided(a_job(), V.AMBIGUOUS, s=a_situation(on_ambiguous="alternate")) == decided(
        a_job(), V.AMBIGUOUS
    )
    assert isinstance(decided(a_job(), V.AMBIGUOUS), Wait)


# --- account_blocked, misrouted -------------------------------------------------------------


@pytest.mark.parametrize("verdict", [V.ACCOUNT_BLOCKED, V.MISROUTED])
def test_without_an_alternate_a_blocked_job_is_parked(verdict: VerdictWord) -> None:
    decision = decided(a_job(), verdict, s=a_situation(fleet=a_fleet("openai", "anthropic")))

    assert isinstance(decision, Park)
    assert decision.job.state.deferrals == 1
    assert decision.job.state.charged == 0


# --- context_too_long, content_policy -------------------------------------------------------


def test_a_job_too_long_for_every_target_is_set_aside() -> None:
    avoid = {"openai/luna": NOW + HOUR, "anthropic/haiku": NOW + HOUR}
    decision = decided(a_job(avoid=avoid), V.CONTEXT_TOO_LONG)

    assert isinstance(decision, SetAside)
    assert decision.reason is Reason.CONTEXT_TOO_LONG


def test_a_job_too_long_for_one_target_waits_for_an_untried_one_that_is_down() -> None:
    """An outage ends no job: the alternate, which may have room, was never asked."""
    decision = decided(
        a_job(), V.CONTEXT_TOO_LONG, s=a_situation(fleet=a_fleet("openai", "anthropic"))
    )

    assert isinstance(decision, Wait | Park)
    assert decision.job.state.avoid == {"deepseek/flash": NOW + HOUR}


def test_a_refused_content_goes_to_the_alternate_when_its_route_says_so() -> None:
    route = replace(CHAT, on_content_policy="alternate")
    decision = decided(a_job(), V.CONTENT_POLICY, s=a_situation(route=route))

    assert isinstance(decision, Wait)
    assert decision.due == NOW
    assert decision.job.state.avoid == {"deepseek/flash": NOW + HOUR}


def test_a_content_that_every_target_refuses_is_set_aside() -> None:
    route = replace(CHAT, on_content_policy="alternate")
    avoid = {"openai/luna": NOW + HOUR, "anthropic/haiku": NOW + HOUR}
    decision = decided(a_job(avoid=avoid), V.CONTENT_POLICY, s=a_situation(route=route))

    assert isinstance(decision, SetAside)
    assert decision.reason is Reason.CONTENT_POLICY


# --- a suspect that rejects -----------------------------------------------------------------


def test_a_job_that_a_suspect_rejects_is_shown_to_another_provider_first() -> None:
    decision = decided(a_job(), V.JOB_REJECTED, is_suspect=True)
    next_ = next_target(decision.job, a_situation())

    assert isinstance(decision, Wait)
    assert decision.due == NOW
    assert decision.job.state.avoid == {"deepseek": NOW + 10 * MINUTE}
    assert decision.job.state.charged == 0
    assert isinstance(next_, Ask)
    assert next_.target == LUNA


@pytest.mark.parametrize("is_suspect", [True, False])
def test_what_two_providers_reject_is_set_aside(is_suspect: bool) -> None:
    first = decided(a_job(), V.JOB_REJECTED, is_suspect=True)
    second = decided(first.job, V.JOB_REJECTED, target=LUNA, is_suspect=is_suspect)

    assert isinstance(second, SetAside)
    assert second.reason is Reason.JOB_REJECTED


def test_a_rejection_of_the_run_before_is_no_opinion_in_this_one() -> None:
    before = an_attempt(LUNA, V.JOB_REJECTED, at=NOW - HOUR)
    decision = decided(a_job(attempts=(before,), calls=0), V.JOB_REJECTED, is_suspect=True)

    assert isinstance(decision, Wait)


def test_a_job_for_which_there_is_no_other_provider_is_set_aside() -> None:
    decision = decided(
        a_job(route="private"),
        V.JOB_REJECTED,
        target=TINY,
        s=a_situation(route=PRIVATE),
        is_suspect=True,
    )

    assert isinstance(decision, SetAside)


def test_a_second_opinion_is_waited_for_while_nobody_can_give_it() -> None:
    s = a_situation(fleet=a_fleet("openai", "anthropic"))
    decision = decided(a_job(), V.JOB_REJECTED, s=s, is_suspect=True)

    assert isinstance(decision, Park)
    assert decision.job.state.avoid == {"deepseek": NOW + 10 * MINUTE}


def test_a_job_out_of_calls_gets_no_second_opinion() -> None:
    decision = decided(a_job(calls=CHAT.max_calls - 1), V.JOB_REJECTED, is_suspect=True)

    assert isinstance(decision, SetAside)
    assert decision.reason is Reason.JOB_REJECTED


@pytest.mark.parametrize("verdict", [V.CONTENT_POLICY, V.SUCCEEDED, V.MISROUTED])
def test_a_suspicion_changes_nothing_but_rejections(verdict: VerdictWord) -> None:
    assert decided(a_job(), verdict, is_suspect=True) == decided(a_job(), verdict)


# --- the deadline ---------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [word for word in VerdictWord if word is not V.SUCCEEDED])
def test_after_its_deadline_only_an_answer_still_counts(verdict: VerdictWord) -> None:
    decision = decided(a_job(deadline=NOW), verdict)

    assert isinstance(decision, Expire)
    assert decision.job.state.calls == 1


@pytest.mark.parametrize(("left", "expires"), [(1, False), (0, True), (-1, True)])
def test_a_job_past_its_deadline_is_neither_sent_on_nor_called(left: int, expires: bool) -> None:
    job = a_job(deadline=NOW + left, target="deepseek/flash")

    assert isinstance(next_target(job, a_situation()), Expire) is expires
    assert isinstance(before_call(job, "deepseek", a_situation()), Expire) is expires


# --- who takes it now -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fleet", "avoid", "expected"),
    [
        (ALL_UP, {}, Ask(a_job(), FLASH)),
        (a_fleet("deepseek"), {}, Ask(a_job(), LUNA)),
        (a_fleet("deepseek", "openai", "anthropic"), {}, Park(a_job(deferrals=1))),
    ],
)
def test_a_job_goes_to_the_first_target_that_is_up_or_is_parked(
    fleet: Fleet, avoid: dict[str, int], expected: Decision
) -> None:
    assert next_target(a_job(avoid=avoid), a_situation(fleet=fleet)) == expected


def test_a_job_that_avoids_all_who_are_up_waits_for_the_first_of_them() -> None:
    avoid = {"deepseek": NOW + 9, "openai": NOW + 5, "anthropic": NOW + 7}
    decision = next_target(a_job(avoid=avoid), a_situation())

    assert decision == Wait(a_job(avoid=avoid, deferrals=1), NOW + 5)


def test_a_job_that_nobody_may_take_is_set_aside() -> None:
    decision = next_target(a_job(), a_situation(scope=frozenset({"local"})))

    assert isinstance(decision, SetAside)
    assert decision.reason is Reason.SCOPE
    assert decision.verdict is None


# --- the last look before a call ------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "provider", "route", "expected"),
    [
        ("deepseek/flash", "deepseek", CHAT, Go(FLASH)),
        ("openai/luna", "openai", CHAT, Go(LUNA)),
        # a record of an operator's hand, without a target: the provider's first
        (None, "openai", CHAT, Go(LUNA)),
    ],
)
def test_a_job_is_called_where_it_was_sent(
    target: str | None, provider: str, route: Route, expected: Go
) -> None:
    assert before_call(a_job(target=target), provider, a_situation(route=route)) == expected


@pytest.mark.parametrize(
    ("target", "provider", "scope", "anew"),
    [
        # the scope of the job, or the configuration here, no longer allows it
        ("deepseek/flash", "deepseek", frozenset({"jurisdiction:us"}), LUNA),
        ("deepseek/pro", "deepseek", None, LUNA),
        # it lies in the wrong topic
        ("openai/luna", "deepseek", None, LUNA),
        ("local/tiny", "local", None, FLASH),
    ],
)
def test_a_job_that_may_not_go_there_any_more_is_chosen_for_anew(
    target: str, provider: str, scope: frozenset[str] | None, anew: Target
) -> None:
    decision = before_call(a_job(target=target), provider, a_situation(scope=scope))

    away = {provider: NOW + 5_000}
    assert decision == Ask(a_job(target=target, deferrals=1, avoid=away), anew)


def test_a_job_that_two_configurations_send_round_in_circles_waits() -> None:
    job = a_job(target="deepseek/pro")
    first = before_call(job, "deepseek", a_situation())
    assert isinstance(first, Ask)
    second = before_call(first.job, "deepseek", a_situation())

    assert isinstance(second, Wait)
    assert second.due > NOW


RAMPING: Final = replace(
    a_fleet("deepseek"),
    health={
        **a_fleet("deepseek").health,
        **a_fleet("openai", state=BreakerWord.RAMP).health,
    },
)


@pytest.mark.parametrize(
    ("fleet", "avoid", "scope", "alternate"),
    [
        (a_fleet("deepseek"), {}, None, LUNA),
        (a_fleet("deepseek", "openai"), {}, None, HAIKU),
        (a_fleet("deepseek"), {"openai": NOW + 1}, None, HAIKU),
        (a_fleet("deepseek"), {}, frozenset({"anthropic"}), HAIKU),
        # nobody up, nobody yet, nobody else allowed: RETRY decides which of them it is
        (a_fleet("deepseek", "openai", "anthropic"), {}, None, None),
        (a_fleet("deepseek"), {"openai": NOW + 1, "anthropic": NOW + 1}, None, None),
        (a_fleet("deepseek"), {}, frozenset({"deepseek"}), None),
        # what a provider gets that is trusted step by step is counted by RETRY
        (RAMPING, {}, None, None),
        (RAMPING, {"openai": NOW + 1}, None, HAIKU),
    ],
)
def test_a_drained_job_is_handed_on_at_once_and_uncharged(
    fleet: Fleet,
    avoid: Mapping[str, int],
    scope: frozenset[str] | None,
    alternate: Target | None,
) -> None:
    job = a_job(target="deepseek/flash", avoid=avoid)
    decision = before_call(job, "deepseek", a_situation(fleet=fleet, scope=scope))

    state = replace(job.state, deferrals=1, avoid={**avoid, "deepseek": NOW + 5_000})
    drained = job.with_state(state)
    assert decision == (Wait(drained, NOW) if alternate is None else Ask(drained, alternate))


def test_a_job_that_all_pools_hand_on_comes_to_each_of_them_once_and_waits() -> None:
    """As when each worker has tripped by itself and the fleet does not know it yet."""
    job, seen = a_job(target=str(FLASH)), [FLASH]
    while isinstance(on := before_call(job, seen[-1].provider, _tripped(seen[-1])), Ask):
        job, seen = (
            on.job.with_state(replace(on.job.state, target=str(on.target))),
            [*seen, on.target],
        )

    assert seen == [FLASH, LUNA, HAIKU]
    assert isinstance(on, Wait)
    assert isinstance(waits := next_target(on.job, a_situation()), Wait)
    assert waits.due == NOW + 5_000


def _tripped(target: Target) -> Situation:
    return a_situation(fleet=Fleet({}, tripped=(target.provider,)))


def test_a_job_drained_again_within_a_moment_waits_longer() -> None:
    job = a_job(target="deepseek/flash", avoid={"deepseek": NOW + 1})
    decision = before_call(job, "deepseek", a_situation(fleet=a_fleet("deepseek")))

    assert isinstance(decision, Wait)
    assert decision.due == NOW + 5_000


def test_a_drained_job_does_not_come_straight_back_from_a_stage_that_knows_less() -> None:
    job = a_job(target="deepseek/flash")
    drained = before_call(job, "deepseek", a_situation(fleet=a_fleet("deepseek")))
    assert isinstance(drained, Ask)
    next_ = next_target(drained.job, a_situation())

    assert isinstance(next_, Ask)
    assert next_.target == LUNA


# --- from the job's headers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "route", "expected"),
    [
        (None, CHAT, "alternate"),
        (None, replace(CHAT, on_ambiguous="hold"), "hold"),
        (b"retry", replace(CHAT, on_ambiguous="hold"), "retry"),
    ],
)
def test_what_the_job_asks_for_goes_before_what_its_route_says(
    header: bytes | None, route: Route, expected: str
) -> None:
    catalogue = replace(CATALOGUE, routes={"chat": route})
    view = View(catalogue=catalogue, fleet=ALL_UP, now=NOW, roll=0.5)
    found = situation(a_job(("outlast-on-ambiguous", header)), view)

    assert isinstance(found, Situation)
    assert found.on_ambiguous == expected


def test_the_scope_in_the_header_decides_who_takes_it() -> None:
    view = View(catalogue=CATALOGUE, fleet=ALL_UP, now=NOW, roll=0.5)
    decision = next_step(a_job(("outlast-scope", b"anthropic")), view)

    assert isinstance(decision, Ask)
    assert decision.target == HAIKU


def test_a_job_of_one_target_alone_needs_no_route_in_the_configuration() -> None:
    view = View(catalogue=CATALOGUE, fleet=ALL_UP, now=NOW, roll=0.5)
    decision = next_step(a_job(route="openai/any-model"), view)

    assert isinstance(decision, Ask)
    assert decision.target == Target("openai", "any-model")


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (a_job(route="gone"), Reason.UNKNOWN_ROUTE),
        (a_job(("outlast-scope", b"nobody")), Reason.SCOPE),
        (a_job(("outlast-on-ambiguous", b"maybe")), Reason.BAD_HEADER),
    ],
)
def test_a_job_that_the_configuration_here_cannot_read_is_set_aside(
    job: Job, reason: Reason
) -> None:
    view = View(catalogue=CATALOGUE, fleet=ALL_UP, now=NOW, roll=0.5)
    decision = next_step(job, view)

    assert isinstance(decision, SetAside)
    assert decision.reason is reason


def test_the_situation_of_a_job_at_a_later_moment_keeps_what_the_job_asks_for() -> None:
    before = a_situation(scope=frozenset({"openai"}), on_ambiguous="hold")
    view = View(catalogue=CATALOGUE, fleet=a_fleet("openai"), now=NOW + 7, roll=0.9)

    assert before.at(view) == replace(before, fleet=view.fleet, now=NOW + 7, roll=0.9)


# --- an outage, told from end to end --------------------------------------------------------


def test_a_job_in_an_outage_of_everybody_is_parked_and_has_spent_nothing() -> None:
    job: Job = a_job()
    for target, down in [
        (FLASH, ("deepseek",)),
        (LUNA, ("deepseek", "openai")),
        (HAIKU, ("deepseek", "openai", "anthropic")),
    ]:
        s = a_situation(fleet=a_fleet(*down))
        job = decided(job, V.PROVIDER_DOWN, target=target, does_well=False, s=s).job
    parked = next_target(job, a_situation(fleet=a_fleet("deepseek", "openai", "anthropic")))
    state: State = parked.job.state

    assert isinstance(parked, Park)
    assert (state.charged, state.calls) == (0, 3)
    assert isinstance(next_target(parked.job, a_situation()), Ask)


# --- capability -----------------------------------------------------------------------------


def test_a_provider_that_cannot_do_it_is_not_called_whoever_sent_the_job_there() -> None:
    """As when the configuration changed the family of a provider with a backlog."""
    job = a_job(target=str(FLASH))
    decision = before_call(job, "deepseek", a_situation(operation="embeddings"))

    assert isinstance(decision, Ask)
    assert decision.target == LUNA
    assert decision.job.state.charged == 0


def test_what_fails_at_the_only_one_who_can_waits_for_it_and_for_nobody_else() -> None:
    route = Route(name="embed", targets=(FLASH, LUNA, HAIKU))
    s = a_situation(route=route, operation="embeddings")
    down = decided(a_job(), V.PROVIDER_DOWN, target=LUNA, s=s)

    assert isinstance(down, Wait)
    assert down.due == NOW + 4_000  # there is no alternate
    assert down.job.state.avoid == {}


def test_what_is_too_long_for_all_who_can_do_it_ends() -> None:
    route = Route(name="embed", targets=(FLASH, LUNA))
    s = a_situation(route=route, operation="embeddings")

    assert isinstance(decided(a_job(), V.CONTEXT_TOO_LONG, target=LUNA, s=s), SetAside)


@pytest.mark.parametrize(
    ("targets", "expected"), [((FLASH, LUNA), Ask), ((FLASH,), SetAside), ((HAIKU,), SetAside)]
)
def test_the_operation_is_read_from_the_header_wherever_a_target_is_asked_for(
    targets: tuple[Target, ...], expected: type[Ask | SetAside]
) -> None:
    route = Route(name="chat", targets=targets)
    catalogue = replace(CATALOGUE, routes={"chat": route})
    job = a_job(("outlast-operation", b"embeddings"), body=b'{"input":"hello"}')
    decision = next_step(job, View(catalogue=catalogue, fleet=ALL_UP, now=NOW, roll=0.5))

    assert isinstance(decision, expected)
    if isinstance(decision, SetAside):
        assert decision.reason is Reason.NO_CAPABLE_TARGET
    if isinstance(decision, Ask):
        assert decision.target == LUNA
