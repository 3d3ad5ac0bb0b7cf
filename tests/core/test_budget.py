"""Jobs that come back to who failed them add a fifth to its load, and ten a second, not more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.budget import BudgetPolicy, RetryBudget, is_repeat
from outlast_schemas.attempt import Attempt, VerdictWord
from tests.core.given import NOW

START = NOW - NOW % 1_000


def repeats_allowed(budget: RetryBudget, now: int) -> int:
    """How many repeats can follow one another at this instant."""
    count = 0
    while budget.may_repeat(now):
        budget = budget.repeated(now)
        count += 1
    return count


def after_firsts(count: int, now: int = START) -> RetryBudget:
    """A budget that has seen so many first tries."""
    budget = RetryBudget()
    for _ in range(count):
        budget = budget.first(now)
    return budget


@pytest.mark.parametrize(("firsts", "repeats"), [(0, 100), (4, 100), (5, 101), (1_000, 300)])
def test_a_fifth_of_the_first_tries_and_ten_a_second_may_be_repeats(
    firsts: int, repeats: int
) -> None:
    assert repeats_allowed(after_firsts(firsts), START) == repeats


@pytest.mark.parametrize(("later", "repeats"), [(9_999, 300), (10_000, 100), (3_600_000, 100)])
def test_a_first_try_counts_for_ten_seconds(later: int, repeats: int) -> None:
    assert repeats_allowed(after_firsts(1_000), START + later) == repeats


@pytest.mark.parametrize(("later", "repeats"), [(0, 0), (9_999, 0), (10_000, 100)])
def test_what_was_spent_comes_back_after_ten_seconds(later: int, repeats: int) -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget = budget.repeated(START)

    assert repeats_allowed(budget, START + later) == repeats


def test_a_clock_that_steps_back_neither_forgets_nor_fails() -> None:
    budget = RetryBudget()
    for _ in range(500):
        budget = budget.first(START + 5_000).first(START)

    assert repeats_allowed(budget, START) == 300
    assert len(budget.steps) <= 10


def test_the_numbers_are_the_policys() -> None:
    policy = BudgetPolicy(share=0.5, per_second=0.0, ttl_ms=1_000)
    budget = RetryBudget(policy)
    for _ in range(4):
        budget = budget.first(START)

    assert repeats_allowed(budget, START) == 2
    assert repeats_allowed(budget, START + 1_000) == 0


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 3_000), st.integers(1, 40)), min_size=1, max_size=40
    )
)
def test_in_no_ten_seconds_there_are_more_repeats_than_that(
    events: list[tuple[bool, int, int]],
) -> None:
    budget, now, tries = RetryBudget(), START, list[tuple[int, bool]]()
    for is_first, step, count in events:
        now += step
        for _ in range(count):
            if is_first:
                budget = budget.first(now)
            elif budget.may_repeat(now):
                budget = budget.repeated(now)
            else:
                continue
            tries.append((now, is_first))

    assert len(budget.steps) <= 10
    for end, _ in tries:
        window = [is_first for at, is_first in tries if end - 9_000 < at <= end]
        # of a repeat of nine seconds ago the first tries may be of eighteen seconds ago
        firsts = sum(is_first for at, is_first in tries if end - 20_000 < at <= end)
        assert window.count(False) <= 100 + 0.2 * firsts


def an_attempt(provider: str, verdict: VerdictWord) -> Attempt:
    return Attempt(n=1, provider=provider, model="m", at=NOW, ms=10, verdict=verdict)


@pytest.mark.parametrize(
    ("verdict", "repeats"),
    [
        (VerdictWord.PROVIDER_DOWN, True),
        (VerdictWord.AMBIGUOUS, True),
        # a limit is no failure, and waiting for it adds nothing
        (VerdictWord.RETRY_LATER, False),
        (VerdictWord.ACCOUNT_BLOCKED, False),
        (VerdictWord.CONTEXT_TOO_LONG, False),
    ],
)
def test_a_repeat_is_a_call_of_a_provider_that_failed_the_job(
    verdict: VerdictWord, repeats: bool
) -> None:
    attempts = (an_attempt("p", verdict), an_attempt("q", VerdictWord.RETRY_LATER))

    assert is_repeat(attempts, "p") == repeats
    assert not is_repeat(attempts, "q")
    assert not is_repeat(attempts, "r")
    assert not is_repeat((), "p")
