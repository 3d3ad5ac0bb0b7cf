"""Sweeps are owed, deferred under flapping, and never dropped."""

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.sweep import POLICY, State, due, reasoned, swept, told

SECOND, MINUTE = 1_000, 60_000


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


def test_for_expiry_it_sweeps_only_past_the_earliest_deadline_and_not_too_often() -> None:
    assert told(State(), 10, None) is None
    assert told(State(), 10, 11) is None
    state = told(State(), 10, 10)
    assert state is not None
    assert told(state, 9 + POLICY.expiry, 10) is None
    assert told(state, 10 + POLICY.expiry, 10) is not None
