"""Sweeps are owed, deferred under flapping, and never dropped; passes become seldom."""

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.sweep import (
    POLICY,
    Passing,
    State,
    due,
    may_pass,
    may_tell,
    passed,
    reasoned,
    swept,
    told,
)

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000


def simulated(reasons: list[int], until: int) -> list[int]:
    """When sweeps happen, looked at each second while somebody is up."""
    state, sweeps = State(), list[int]()
    for now in range(0, until, SECOND):
        for _ in range(reasons.count(now)):
            state = reasoned(state, now)
        at = due(state, now)
        if at is not None and at <= now:
            state = swept(state, now)
            sweeps.append(now)
    return sweeps


def test_each_reason_owes_one_at_once_and_two_for_what_was_written_meanwhile() -> None:
    assert simulated([0], 100 * SECOND) == [0, 15 * SECOND, MINUTE]


def test_providers_that_come_back_one_after_the_other_do_not_flap() -> None:
    """After an outage of all of them: what was parked meanwhile must not wait for a minute."""
    state, sweeps = State(), list[int]()
    for now in range(0, 40 * SECOND, SECOND):
        if now % (10 * SECOND) == 0:
            state = reasoned(state, now, of=f"provider-{now}")
        at = due(state, now)
        if at is not None and at <= now:
            state = swept(state, now)
            sweeps.append(now)

    assert {now * SECOND for now in (0, 10, 20, 30)} <= set(sweeps)


def test_before_the_first_reason_nothing_is_owed() -> None:
    assert due(State(), 0) is None


moments = st.lists(st.integers(0, 900).map(lambda second: second * SECOND), min_size=1, max_size=60)


@given(moments)
def test_every_reason_is_swept_for_within_a_minute_and_never_too_often(reasons: list[int]) -> None:
    sweeps = simulated(reasons, 1_000 * SECOND)
    for reason in reasons:
        assert any(reason <= at <= reason + MINUTE for at in sweeps)
    for first in sweeps:
        within = [at for at in sweeps if first <= at < first + 3 * MINUTE]
        # Two reasons owe three each, the clock three; from the third on they are a minute apart.
        assert len(within) <= 3 * (POLICY.flaps - 1) + 3 + POLICY.flaps


def passes(jobs: int, until: int, first: int = 0) -> list[int]:
    """When one partition is passed, in which there is always somebody who can go."""
    state, found = Passing(), list[int]()
    for now in range(first, until, SECOND):
        if may_pass(state, now):
            state = passed(state, now, jobs)
            found.append(now)
    return found


def test_passes_come_at_once_and_then_after_waits_that_double_up_to_an_hour() -> None:
    found = passes(jobs=100_000, until=4 * HOUR)

    assert [at // MINUTE for at in found] == [0, 1, 3, 7, 15, 31, 63, 123, 183]


def test_where_few_are_passed_over_the_waits_stay_short() -> None:
    assert [at // MINUTE for at in passes(jobs=1, until=5 * MINUTE)] == [0, 1, 2, 3, 4]


@given(st.integers(1, 20_000), st.integers(1, 24))
def test_in_the_long_run_one_job_is_passed_over_a_second(jobs: int, hours: int) -> None:
    found = passes(jobs, until=hours * HOUR)
    # While the waits still double there are seven at most; an hour is the longest wait.
    assert len(found) <= 7 + hours * HOUR / min(HOUR, max(MINUTE, jobs * SECOND))


def test_after_two_calm_hours_they_begin_anew() -> None:
    state = passed(passed(Passing(), 0, 10_000), MINUTE, 10_000)
    assert not may_pass(state, 2 * MINUTE)
    state = passed(state, MINUTE + POLICY.calm, 10_000)
    assert may_pass(state, 2 * MINUTE + POLICY.calm)


def test_passes_for_the_expired_are_apart_whatever_else_there_was() -> None:
    state = told(Passing(), 10)
    assert may_pass(state, 10)
    assert not may_tell(state, 9 + POLICY.expiry)
    assert may_tell(state, 10 + POLICY.expiry)
    assert may_tell(passed(Passing(), 10, 1), 10)
