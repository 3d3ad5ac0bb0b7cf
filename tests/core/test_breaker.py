"""A breaker opens only on evidence, asks one prober at a time, and closes step by step."""

from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outlast.core.breaker import (
    ANSWERED,
    REACHED,
    Breaker,
    BreakerPolicy,
    Evidence,
    ProviderBreaker,
)
from outlast.core.decide.after import BACKOFF_LEAST_MS
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health
from outlast_schemas.vitals import Vitals, Window
from tests.core.given import NOW

POLICY: Final = BreakerPolicy()
V: Final = VerdictWord
W: Final = BreakerWord
CLOSED: Final = ProviderBreaker(provider="deepseek")
rolls = st.floats(0, 1, exclude_max=True)


def a_window(**counts: Any) -> Window:
    """Unless told otherwise its failures came last, in a row."""
    return Window(**{"streak": counts.get("failures", 0), **counts})


def seen(
    worker: str = "w1",
    *,
    model: str = "flash",
    limit: int = 8,
    probe: VerdictWord | None = None,
    probe_of: str | None = "flash",
    note: str | None = None,
    at: int = NOW,
    **counts: Any,
) -> Vitals:
    """What a worker saw of one model."""
    return Vitals(
        provider="deepseek",
        worker=worker,
        at=at,
        limit=limit,
        probe=probe,
        probe_of=probe_of if probe is not None else None,
        note=note,
        models={model: a_window(note=note, **counts)} if counts else {},
    )


def unreached(count: int, worker: str = "w1", model: str = "flash") -> Vitals:
    """So many connections that failed."""
    return seen(worker, model=model, failures=count, unreached=count)


def after(*windows: Vitals, breaker: ProviderBreaker = CLOSED, now: int = NOW) -> ProviderBreaker:
    """The breakers once they have seen these windows."""
    for window in windows:
        breaker = breaker.saw(window, now)
    return breaker


def state(breaker: ProviderBreaker, model: str = "flash") -> BreakerWord:
    return breaker.breakers[model].state if model in breaker.breakers else W.CLOSED


def an_open(*workers: str, limit: int = 8) -> ProviderBreaker:
    """One whose model five failures opened, with these workers alive."""
    alive = (seen(worker, limit=limit) for worker in workers)
    return after(*alive, seen(workers[0], limit=limit, failures=5))


def a_ramp(*workers: str, limit: int = 8, permits: int = 1) -> ProviderBreaker:
    """One whose model a probe has let begin its ramp, at the step with so many permits."""
    probing = an_open(*workers, limit=limit).ticked(NOW, 0.0)
    prober = probing.breakers["flash"].prober or ""
    ramp = after(seen(prober, limit=limit, probe=V.SUCCEEDED), breaker=probing)
    while (ramp.breakers["flash"].permits or permits) < permits:
        step = ramp.breakers["flash"].permits
        ramp = after(seen(workers[0], limit=limit, succeeded=step), breaker=ramp)
    return ramp


# --- evidence on a model --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([], W.CLOSED),
        ([seen(failures=4)], W.CLOSED),
        ([seen(failures=5)], W.OPEN),
        ([seen(failures=4), seen(failures=1)], W.OPEN),
        # counted over all workers
        ([seen("w1", failures=3), seen("w2", failures=2)], W.OPEN),
        # a quiet window neither counts nor forgives
        ([seen(failures=3), seen(), seen(failures=2)], W.OPEN),
        # nor does a rejected job, or a 429
        ([seen(failures=4), seen(answered=9), seen(failures=1)], W.OPEN),
        ([seen(failures=4), seen(throttled=9), seen(failures=1)], W.OPEN),
        # a success forgives what came before it, not what came after, whoever had it
        ([seen(failures=4), seen(succeeded=1), seen(failures=4)], W.CLOSED),
        ([seen("w1", failures=4), seen("w2", succeeded=1), seen("w1", failures=4)], W.CLOSED),
        ([seen(failures=9, succeeded=1, streak=4)], W.CLOSED),
        ([seen(failures=9, succeeded=1, streak=5)], W.OPEN),
        ([seen(failures=9, succeeded=1, streak=4), seen(failures=1)], W.OPEN),
        # a model that is not there
        ([seen(misrouted=1)], W.CLOSED),
        ([seen(misrouted=1), seen(succeeded=1), seen("w2", misrouted=1)], W.OPEN),
        # a rate needs forty calls
        ([seen(succeeded=30, failures=9, streak=0)], W.CLOSED),
        ([seen(succeeded=30, failures=10, streak=0)], W.OPEN),
        ([seen(succeeded=31, failures=9, streak=0)], W.CLOSED),
        ([seen("w1", succeeded=15, failures=5, streak=0)] * 2, W.OPEN),
        # whoever finds fault with a job is well
        ([seen(succeeded=10, answered=21, failures=9, streak=0)], W.CLOSED),
        # brownout: half of them slow, be they over or not
        ([seen(succeeded=40, slow=19)], W.CLOSED),
        ([seen(succeeded=40, slow=20)], W.OPEN),
        ([seen(overdue=39)], W.CLOSED),
        ([seen(overdue=40)], W.OPEN),
        ([seen(succeeded=20, slow=5), seen(overdue=20)], W.OPEN),
        # throttling is not an outage
        ([seen(throttled=5_000)], W.CLOSED),
        ([seen(succeeded=1, throttled=5_000)], W.CLOSED),
        ([seen(succeeded=1_000)], W.CLOSED),
        ([seen(answered=1_000)], W.CLOSED),
    ],
)
def test_a_model_goes_down_on_evidence(windows: list[Vitals], expected: BreakerWord) -> None:
    found = after(*windows)

    assert state(found) is expected
    assert state(found, EVERY_MODEL) is W.CLOSED


@pytest.mark.parametrize(
    ("window", "evidence"),
    [
        (seen(failures=6, note="HTTP 503"), "6 failures in a row; the last: HTTP 503"),
        (seen(misrouted=2, note="404"), "the model is not there (2 jobs); the last: 404"),
        (seen(succeeded=30, failures=10, streak=0), "10 of 40 calls failed within 30 s"),
        (seen(succeeded=40, slow=30), "30 of 40 calls were slow within 30 s"),
    ],
)
def test_the_verdict_says_on_what_evidence(window: Vitals, evidence: str) -> None:
    opened = after(window).breakers["flash"]

    assert (opened.state, opened.evidence, opened.since) == (W.OPEN, evidence, NOW)


@pytest.mark.parametrize(
    ("later", "expected"), [(POLICY.window_ms - 1, W.OPEN), (POLICY.window_ms, W.CLOSED)]
)
def test_what_counts_for_a_rate_is_half_a_minute(later: int, expected: BreakerWord) -> None:
    first = after(seen(succeeded=15, failures=9, streak=0))
    second = after(seen(succeeded=15, failures=1, streak=0), breaker=first, now=NOW + later)

    assert state(second) is expected


def throttling(seconds: int, *more: tuple[int, Vitals]) -> ProviderBreaker:
    """Refused with 429 once a second, and what came between at which second."""
    breaker = CLOSED
    for second in range(seconds + 1):
        now = NOW + second * 1_000
        breaker = after(seen(throttled=1), breaker=breaker, now=now)
        breaker = after(*(w for at, w in more if at == second), breaker=breaker, now=now)
    return breaker


def test_an_outage_that_speaks_429_is_one_when_nothing_was_served_for_a_minute() -> None:
    assert state(throttling(59)) is W.CLOSED
    assert state(throttling(60)) is W.OPEN
    assert throttling(60).breakers["flash"].evidence == (
        "61 calls in a row were throttled within 60 s"
    )


def test_a_limit_that_lets_some_through_is_no_outage() -> None:
    served = tuple((second, seen(succeeded=1)) for second in range(0, 300, 50))

    assert state(throttling(300, *served)) is W.CLOSED


@pytest.mark.parametrize("every", [20, 30])
def test_who_asks_as_seldom_as_it_is_told_to_finds_out_in_a_minute_as_well(every: int) -> None:
    """Behind the one call that asks all others wait: they are not to wait for ten of them."""
    breaker = CLOSED
    for second in range(0, 60, every):
        breaker = after(seen(throttled=1), breaker=breaker, now=NOW + second * 1_000)
    assert state(breaker) is W.CLOSED

    assert state(after(seen(throttled=1), breaker=breaker, now=NOW + 60_000)) is W.OPEN


def test_a_few_refusals_over_a_long_time_are_no_outage() -> None:
    breaker = CLOSED
    for minute in range(9):
        breaker = after(seen(throttled=1), breaker=breaker, now=NOW + minute * 60_000)

    assert state(breaker) is W.CLOSED


# --- where few calls are made ---------------------------------------------------------------


def told(*windows: tuple[int, Vitals], breaker: ProviderBreaker = CLOSED) -> ProviderBreaker:
    """The breakers once each was told, and heard, so many ms from the beginning."""
    for ms, window in windows:
        breaker = after(replace(window, at=NOW + ms), breaker=breaker, now=NOW + ms)
    return breaker


ONE: Final = seen(failures=1)
LIMIT: Final = seen(throttled=1)
LIMITED: Final = [(ms, LIMIT) for ms in range(10_000, 40_001, 5_000)]


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        # one call a second, and nobody is served
        ([(0, ONE), (1_000, ONE)], W.CLOSED),
        ([(0, ONE), (1_000, ONE), (2_000, ONE)], W.OPEN),
        ([(0, ONE), (1_000, seen("w2", failures=1)), (2_000, seen("w3", failures=1))], W.OPEN),
        # a burst is one accident, until it goes on
        ([(0, seen(failures=3))], W.CLOSED),
        ([(0, seen(failures=2)), (499, ONE)], W.CLOSED),
        ([(0, seen(failures=2)), (500, ONE)], W.OPEN),
        ([(0, seen(failures=4)), (500, ONE)], W.OPEN),
        # a job that comes again may be what is between them
        ([(0, ONE), (1_999, ONE), (3_998, ONE)], W.OPEN),
        ([(0, ONE), (2_000, ONE), (2_500, ONE)], W.CLOSED),
        ([(0, ONE), (1_000, ONE), (3_000, ONE)], W.CLOSED),
        ([(0, ONE), (2_000, ONE), (3_000, ONE), (4_000, ONE)], W.OPEN),
        # whoever was served just before the last, or finds fault with a job, is well
        ([(0, seen(succeeded=1)), (300, ONE), (600, ONE), (999, ONE)], W.CLOSED),
        ([(0, seen(succeeded=1)), (300, ONE), (600, ONE), (1_000, ONE)], W.OPEN),
        ([(0, ONE), (1_001, seen(answered=1)), (1_500, ONE), (2_000, ONE)], W.CLOSED),
        ([(0, ONE), (500, seen(answered=1)), (1_000, ONE), (1_500, ONE)], W.OPEN),
        ([(0, ONE), (1_000, ONE), (1_500, seen(succeeded=1)), (2_000, ONE)], W.CLOSED),
        # a limit is no outage, and hides none
        ([(ms, seen(throttled=1)) for ms in range(0, 9_000, 500)], W.CLOSED),
        ([(0, ONE), (500, seen(throttled=9)), (1_000, ONE), (1_500, ONE)], W.OPEN),
        (
            [(0, ONE), (1_000, ONE), (1_200, seen(answered=1)), (2_000, ONE), (9_000, LIMIT)],
            W.CLOSED,
        ),
        # what is half a minute old is forgotten, though the row goes on
        ([*((ms, ONE) for ms in (0, 3_000, 6_000)), *LIMITED], W.CLOSED),
        ([*((ms, ONE) for ms in (0, 3_000, 6_000)), *LIMITED, (40_600, ONE)], W.CLOSED),
        ([(0, ONE), *LIMITED, (40_600, ONE), (41_200, ONE)], W.CLOSED),
        # connections too, though the whole was served too much for them
        ([(0, seen(succeeded=4)), *((ms, unreached(1)) for ms in (1_100, 1_500, 1_900))], W.OPEN),
        # one worker's own trouble
        ([(0, seen("w2", succeeded=9)), (1_100, ONE), (1_500, ONE), (2_000, ONE)], W.CLOSED),
    ],
)
def test_where_few_calls_are_made_few_failures_are_enough(
    windows: list[tuple[int, Vitals]], expected: BreakerWord
) -> None:
    found = told(*windows)

    assert state(found) is expected
    assert state(found, EVERY_MODEL) is W.CLOSED


def test_the_verdict_says_that_few_were_enough() -> None:
    opened = told(*((ms, seen(failures=1, note="503")) for ms in (0, 1_000, 2_000)))

    assert opened.breakers["flash"].evidence == "3 failures in a row, none served; the last: 503"


def test_of_what_is_heard_late_and_at_once_it_counts_when_it_was_told() -> None:
    """Four seconds lie between the calls of one job, though the owner hears of them together."""
    late = [seen(failures=1, at=NOW + ms) for ms in (0, 4_000, 8_000)]
    soon = [seen(failures=1, at=NOW + ms) for ms in (0, 1_000, 2_000)]

    assert state(after(*late, now=NOW + 9_000)) is W.CLOSED
    assert state(after(*soon, now=NOW + 9_000)) is W.OPEN


def test_few_failures_are_not_enough_for_a_worker_alone() -> None:
    """It would leave, where the others find the provider well."""
    alone = Evidence()
    for ms in (0, 1_000, 2_000):
        alone = alone.saw("w1", a_window(failures=1), NOW + ms)

    assert alone.why(NOW + 2_000) is None
    assert alone.why_few(NOW + 2_000) == "3 failures in a row, none served"


def test_who_falls_again_on_few_failures_has_a_setback_more() -> None:
    closed = after(seen(succeeded=4), breaker=a_ramp("w1", permits=4))
    fell = told((0, ONE), (1_000, ONE), (2_000, ONE), breaker=closed)

    assert (state(fell), fell.breakers["flash"].setbacks) == (W.OPEN, 1)


WINDOW_MS: Final = 1_000
"""So long after it ended at most a call is told."""


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4_000),  # from its last call, how much longer than it must, it waits
            st.one_of(st.none(), st.integers(0, 4_000)),  # a second call at once, if it asks for it
            st.integers(0, WINDOW_MS),
            st.integers(0, 9_000),  # how late the owner is
        ),
        max_size=12,
    )
)
def test_one_job_alone_is_never_so_few(rounds: list[tuple[int, int | None, int, int]]) -> None:
    """It comes again and again to a provider that is well, and that nobody else calls."""
    policy = replace(POLICY, failures_in_a_row=2**31)
    ended, heard, tick, breaker = NOW, NOW, 0, CLOSED
    for longer, again, early, late in rounds:
        ended, tick = ended + BACKOFF_LEAST_MS + longer, early
        for wait in (0,) if again is None else (0, again):
            ended += wait
            # Its window is told with the worker's next tick, or sooner.
            at = ended + min(tick, WINDOW_MS)
            heard = max(heard, at + late)
            breaker = breaker.saw(seen(failures=1, at=at), heard, policy)

        assert state(breaker) is W.CLOSED


def test_one_model_goes_down_alone() -> None:
    opened = after(seen(model="pro", succeeded=9), seen(model="flash", failures=5))

    assert (state(opened), state(opened, "pro")) == (W.OPEN, W.CLOSED)
    assert state(opened, EVERY_MODEL) is W.CLOSED


def test_what_opened_it_does_not_open_it_again_when_it_is_closed() -> None:
    breaker = a_ramp("w1", permits=4)
    closed = after(seen(succeeded=4), breaker=breaker)
    assert state(closed) is W.CLOSED

    assert state(after(seen(failures=4), breaker=closed)) is W.CLOSED
    assert state(after(seen(failures=5), breaker=closed)) is W.OPEN


# --- evidence on the whole ------------------------------------------------------------------


def both(flash: Window, pro: Window, worker: str = "w1") -> Vitals:
    """What a worker saw of two models."""
    return replace(seen(worker), models={"flash": flash, "pro": pro})


ONE_UNREACHED: Final = a_window(failures=1, unreached=1)
TWO_UNREACHED: Final = a_window(failures=2, unreached=2)
THREE_UNREACHED: Final = a_window(failures=3, unreached=3)


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([unreached(2)], W.CLOSED),
        ([unreached(3)], W.OPEN),
        ([unreached(2), unreached(1, "w2", "pro")], W.OPEN),
        ([both(TWO_UNREACHED, ONE_UNREACHED)], W.OPEN),
        # whoever answers was reached, with whatever
        ([unreached(2), seen(failures=1), unreached(2)], W.CLOSED),
        ([unreached(2), seen(throttled=1), unreached(2)], W.CLOSED),
        ([unreached(2), seen(answered=1, model="pro"), unreached(2)], W.CLOSED),
        ([seen(succeeded=3, failures=3, unreached=3, streak=3)], W.OPEN),
        # among so many that succeed there always are three in a row
        ([seen(succeeded=4, failures=3, unreached=3, streak=3)], W.CLOSED),
        ([seen(succeeded=9, failures=3, unreached=3, streak=2)], W.CLOSED),
        # which of the failures came last is not known, nor which of the models was called last
        ([seen(failures=4, unreached=3)], W.CLOSED),
        ([both(THREE_UNREACHED, a_window(succeeded=100))], W.CLOSED),
        # an account is the provider's, whatever the model
        ([seen(blocked=1)], W.CLOSED),
        ([seen(blocked=1), seen(blocked=1, model="pro")], W.OPEN),
        ([seen(succeeded=100, blocked=2)], W.OPEN),
        ([seen(failures=9)], W.CLOSED),
    ],
)
def test_the_whole_goes_down_when_it_is_no_models_fault(
    windows: list[Vitals], expected: BreakerWord
) -> None:
    assert state(after(*windows), EVERY_MODEL) is expected


def test_while_the_whole_is_down_it_speaks_for_its_models() -> None:
    opened = after(unreached(3, model="pro"), breaker=an_open("w1"))
    assert {*opened.breakers} == {EVERY_MODEL}
    later = after(seen(failures=50), seen(succeeded=50), breaker=opened)

    assert {*later.breakers} == {EVERY_MODEL}
    assert state(later, EVERY_MODEL) is W.OPEN


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (V.SUCCEEDED, W.RAMP),
        (V.MISROUTED, W.RAMP),  # somebody who knows us has answered: that model is another matter
        (V.RETRY_LATER, W.RAMP),
        (V.JOB_REJECTED, W.RAMP),
        (V.ACCOUNT_BLOCKED, W.OPEN),
        (V.PROVIDER_DOWN, W.OPEN),
        (V.AMBIGUOUS, W.OPEN),
    ],
)
def test_a_probe_of_the_whole_asks_whether_anybody_is_there(
    verdict: VerdictWord, expected: BreakerWord
) -> None:
    probing = after(unreached(3)).ticked(NOW, 0.0)
    # a worker of an earlier version does not say of what its probe was
    probed = after(seen(probe=verdict, probe_of=None), breaker=probing)

    assert state(probed, EVERY_MODEL) is expected
    assert (verdict in REACHED) is (expected is W.RAMP)


def test_the_models_calls_move_the_ramp_of_the_whole() -> None:
    probing = after(unreached(3)).ticked(NOW, 0.0)
    ramp = after(seen(probe=V.SUCCEEDED, probe_of=EVERY_MODEL), breaker=probing)
    for model, permits in (("flash", 1), ("pro", 2), ("flash", 4)):
        ramp = after(seen(model=model, succeeded=permits), breaker=ramp)

    assert state(ramp, EVERY_MODEL) is W.CLOSED


def test_a_slow_call_counts_once_whether_it_has_ended_or_not() -> None:
    slow = after(seen(overdue=39), seen(succeeded=39, late=39))
    assert state(slow) is W.CLOSED  # of thirty-nine calls

    assert state(after(seen(succeeded=39), breaker=slow)) is W.OPEN  # 39 of 78


# --- one alone ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        # the others do well in the same seconds: it is that worker's own trouble
        ([seen("w2", succeeded=9), seen("w1", failures=5)], W.CLOSED),
        ([seen("w2", succeeded=9), unreached(5)], W.CLOSED),
        ([seen("w2", succeeded=9), seen("w1", blocked=5)], W.CLOSED),
        # nobody else to ask
        ([seen("w1", failures=5)], W.OPEN),
        ([seen("w2"), seen("w1", failures=5)], W.OPEN),
        # two are in trouble
        ([seen("w3", succeeded=6), seen("w2", failures=1), seen("w1", failures=5)], W.OPEN),
        # three in four of its own were served, and so were three others: that proves nothing
        ([seen("w2", succeeded=3), seen("w1", succeeded=27, failures=10, streak=1)], W.OPEN),
    ],
)
def test_a_lone_suspect_opens_nothing(windows: list[Vitals], expected: BreakerWord) -> None:
    found = after(*windows)

    assert {state(found), state(found, EVERY_MODEL)} - {W.CLOSED} == {expected} - {W.CLOSED}


@pytest.mark.parametrize(("ago", "expected"), [(5_000, W.CLOSED), (5_001, W.OPEN)])
def test_others_who_did_well_some_time_ago_may_have_asked_before_it_began(
    ago: int, expected: BreakerWord
) -> None:
    well = after(seen("w2", succeeded=9))

    assert state(after(seen("w1", failures=5), breaker=well, now=NOW + ago)) is expected


# --- probes ---------------------------------------------------------------------------------


WHY: Final = "5 failures in a row; the last: 503"


def tripped(worker: str = "w1", key: str = "flash") -> Vitals:
    """A worker that calls it no more by its own evidence: it has nothing else to tell."""
    return replace(seen(worker), tripped={key: WHY})


@pytest.mark.parametrize("key", ["flash", EVERY_MODEL])
def test_an_owner_that_came_after_the_failures_were_told_believes_who_has_tripped(key: str) -> None:
    heard = after(tripped(key=key), breaker=taken_over(CLOSED), now=NOW + 2_000)

    assert state(heard, key) is W.OPEN
    assert heard.breakers[key].evidence == f"w1 found it down: {WHY}"


def test_a_new_owner_listens_before_it_believes_one_alone() -> None:
    heard = after(tripped(), breaker=taken_over(CLOSED), now=NOW + 1_999)

    assert state(heard) is W.CLOSED


@pytest.mark.parametrize(("ago", "expected"), [(7_999, W.CLOSED), (8_000, W.OPEN)])
def test_whom_another_worker_was_served_meanwhile_is_not_down(
    ago: int, expected: BreakerWord
) -> None:
    well = after(seen("w2"), breaker=after(seen("w2", succeeded=1)), now=NOW + ago)

    assert state(after(tripped(), breaker=well, now=NOW + ago)) is expected


def test_where_all_have_tripped_it_is_down_whatever_was_served_before() -> None:
    """Nobody calls it any more: nothing would ever be added to a few failures each."""
    names = ("w1", "w2", "w3")
    well = after(*(seen(worker, succeeded=7) for worker in names))
    failed = after(*(seen(worker, failures=5) for worker in names), breaker=well)
    two = after(tripped("w1"), tripped("w2"), breaker=failed, now=NOW + 1_000)
    assert (state(failed), state(two)) == (W.CLOSED, W.CLOSED)

    assert state(after(tripped("w3"), breaker=two, now=NOW + 1_000)) is W.OPEN


def test_its_own_success_disproves_nothing_of_what_a_worker_found_since() -> None:
    well = after(seen("w1", succeeded=1))

    assert state(after(tripped(), breaker=well, now=NOW + 1)) is W.OPEN


def test_who_is_tripped_over_what_is_known_to_be_down_tells_nothing_new() -> None:
    down, whole = an_open("w1"), after(unreached(3))

    assert after(tripped(), breaker=down, now=NOW + 9_000).breakers == down.breakers
    assert after(tripped(), breaker=whole, now=NOW + 9_000).breakers == whole.breakers


def test_a_success_beside_a_probe_does_not_move_one_that_is_down() -> None:
    probing = an_open("w1").ticked(NOW, 0.0)

    assert state(after(seen(succeeded=50), breaker=an_open("w1"))) is W.OPEN
    assert state(after(seen(succeeded=50), breaker=probing)) is W.HALF_OPEN


@pytest.mark.parametrize(
    ("roll", "prober"), [(0.0, "w1"), (0.32, "w1"), (0.34, "w2"), (0.67, "w3"), (0.999, "w3")]
)
def test_the_prober_is_one_of_the_workers_with_fresh_vitals(roll: float, prober: str) -> None:
    probing = an_open("w1", "w2", "w3").ticked(NOW, roll).breakers["flash"]

    assert (probing.state, probing.prober) == (W.HALF_OPEN, prober)


@pytest.mark.parametrize(
    ("worker", "verdict", "probe_of", "expected"),
    [
        ("w1", V.SUCCEEDED, "flash", W.RAMP),
        ("w1", V.JOB_REJECTED, "flash", W.RAMP),  # it finds fault with the one token: it is there
        ("w1", V.PROVIDER_DOWN, "flash", W.OPEN),
        ("w1", V.AMBIGUOUS, "flash", W.OPEN),
        ("w1", V.MISROUTED, "flash", W.OPEN),
        ("w1", V.RETRY_LATER, "flash", W.OPEN),  # an outage may speak 429
        # the wrong one's success says nothing, nor does its failure, nor does another model's
        ("w2", V.SUCCEEDED, "flash", W.HALF_OPEN),
        ("w2", V.PROVIDER_DOWN, "flash", W.HALF_OPEN),
        ("w1", V.SUCCEEDED, "pro", W.HALF_OPEN),
        ("w1", V.SUCCEEDED, None, W.HALF_OPEN),
    ],
)
def test_only_the_probe_that_was_asked_for_moves_a_half_open_breaker(
    worker: str, verdict: VerdictWord, probe_of: str | None, expected: BreakerWord
) -> None:
    probing = an_open("w1", "w2").ticked(NOW, 0.0)

    assert state(after(seen(worker, probe=verdict, probe_of=probe_of), breaker=probing)) is expected


def test_while_a_probe_is_under_way_nobody_else_is_asked() -> None:
    probing = an_open("w1", "w2").ticked(NOW, 0.0)
    later = after(seen("w1"), seen("w2"), breaker=probing).ticked(NOW + 1_000, 0.9)

    assert later.breakers == probing.breakers


def test_two_models_that_are_down_are_probed_one_after_the_other() -> None:
    down = after(seen("w2"), seen(model="pro", failures=5), breaker=an_open("w1"))
    first = down.ticked(NOW, 0.0)
    asked = [model for model, each in first.breakers.items() if each.is_probing]
    answered = after(seen("w1", probe=V.SUCCEEDED, probe_of=asked[0]), breaker=first)
    second = answered.ticked(NOW, 0.0)

    assert len(asked) == 1
    assert [m for m, each in second.breakers.items() if each.is_probing] == [
        {"flash": "pro", "pro": "flash"}[asked[0]]
    ]


def test_after_a_failed_probe_another_worker_is_asked_and_the_only_one_again() -> None:
    for workers, expected in ((("w1", "w2"), "w2"), (("w1",), "w1")):
        probing = an_open(*workers).ticked(NOW, 0.0)
        failed = after(seen("w1", probe=V.PROVIDER_DOWN), breaker=probing)

        assert failed.ticked(NOW, 0.0).breakers["flash"].prober == expected


def test_a_failed_probe_tells_neither_other_evidence_nor_a_later_beginning() -> None:
    probing = an_open("w1").ticked(NOW, 0.0)
    failed = after(seen("w1", probe=V.AMBIGUOUS), breaker=probing, now=NOW + 9).breakers["flash"]

    assert (failed.since, failed.evidence, failed.setbacks) == (NOW, "5 failures in a row", 1)


@pytest.mark.parametrize(
    ("setbacks", "most"), [(0, 1_000), (1, 2_000), (2, 4_000), (4, 16_000), (5, 30_000)]
)
def test_the_waits_between_probes_double_with_each_setback(setbacks: int, most: int) -> None:
    breaker = an_open("w1")
    for _ in range(setbacks):
        probing = breaker.ticked(NOW, 0.0)
        breaker = after(seen("w1", probe=V.PROVIDER_DOWN), breaker=probing)
    waits = [breaker.ticked(NOW, roll).breakers["flash"].probe_at for roll in (0.0, 0.5, 0.75)]

    assert waits == [NOW, NOW + most // 2, NOW + most * 3 // 4]


def test_a_wait_has_a_bound_after_however_many_setbacks() -> None:
    assert POLICY.probe_wait_ms(10**9, 1.0) == POLICY.probe_most_ms


@pytest.mark.parametrize(
    ("late", "prober"), [(POLICY.probe_patience_ms - 1, "w1"), (POLICY.probe_patience_ms, "w2")]
)
def test_a_prober_that_does_not_answer_is_replaced(late: int, prober: str) -> None:
    probing = an_open("w1", "w2").ticked(NOW, 0.0)
    alive = after(seen("w1"), seen("w2"), breaker=probing, now=NOW + late)

    assert alive.ticked(NOW + late, 0.0).breakers["flash"].prober == prober


def test_a_prober_that_is_gone_is_replaced_at_once() -> None:
    probing = an_open("w1", "w2").ticked(NOW, 0.0)
    left = after(seen("w2"), breaker=probing, now=NOW + POLICY.fresh_ms)

    assert left.ticked(NOW + POLICY.fresh_ms, 0.0).breakers["flash"].prober == "w2"


def test_a_worker_without_a_permit_is_never_asked_to_probe() -> None:
    idle = after(seen("w9", limit=0), breaker=an_open("w1"))

    assert idle.ticked(NOW, 0.99).breakers["flash"].prober == "w1"


def test_without_a_worker_nobody_is_named_until_one_comes() -> None:
    alone = an_open("w1").ticked(NOW, 0.0).ticked(NOW + 60_000, 0.0)
    came = after(seen("w9"), breaker=alone, now=NOW + 61_000).ticked(NOW + 61_000, 0.0)
    idle, named = alone.breakers["flash"], came.breakers["flash"]

    assert (idle.state, idle.prober, idle.probe_at) == (W.OPEN, None, None)
    assert (named.state, named.prober) == (W.HALF_OPEN, "w9")


# --- ramp -----------------------------------------------------------------------------------


def permits(breaker: ProviderBreaker) -> int | None:
    return breaker.breakers["flash"].permits


def test_the_ramp_doubles_on_success_until_it_reaches_what_the_pool_may() -> None:
    ramp, steps = a_ramp("w1", "w2", limit=5), [1]
    while state(ramp) is W.RAMP:
        step = permits(ramp) or 0
        almost = after(seen(limit=5, succeeded=step - 1), breaker=ramp)
        assert (state(almost), permits(almost)) == (W.RAMP, step)
        ramp = after(seen(limit=5, succeeded=step), breaker=ramp)
        steps.append(permits(ramp) or 0)

    assert steps == [1, 2, 4, 8, 0]  # of ten permits
    assert (state(ramp), ramp.breakers["flash"].permits) == (W.CLOSED, None)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (seen(failures=3), W.RAMP),  # of four permits: the fourth may tell another story
        (seen(failures=4), W.OPEN),
        (seen(misrouted=4), W.OPEN),
        (seen(overdue=4), W.OPEN),
        (seen(succeeded=4, slow=4), W.OPEN),
        (seen(succeeded=3, failures=2), W.OPEN),  # two of five
        (seen(succeeded=3, failures=1), W.RAMP),  # a quarter
        (seen(answered=1), W.RAMP),
        (seen(throttled=9), W.RAMP),
        (seen(throttled=10), W.OPEN),
        (seen(throttled=99, succeeded=1), W.RAMP),  # a limit, and no outage
        (seen(model="pro", failures=4), W.RAMP),  # another's
    ],
)
def test_a_step_of_the_ramp_falls_back_on_failure(window: Vitals, expected: BreakerWord) -> None:
    fell = after(window, breaker=a_ramp("w1", permits=4))

    assert state(fell) is expected
    assert fell.breakers["flash"].setbacks == (1 if expected is W.OPEN else 0)


def test_each_step_of_the_ramp_is_judged_by_its_own_calls() -> None:
    good = after(seen(succeeded=3, failures=1), seen(succeeded=1), breaker=a_ramp("w1", permits=4))

    assert state(good) is W.CLOSED  # 8 of 8
    wide = a_ramp("w1", limit=99, permits=4)
    widened = after(seen(limit=99, succeeded=4, failures=1), breaker=wide)
    assert (state(widened), permits(widened)) == (W.RAMP, 8)
    assert state(after(seen(limit=99, succeeded=2, failures=2), breaker=widened)) is W.OPEN
    assert state(after(seen(limit=99, succeeded=6, failures=2), breaker=widened)) is W.RAMP


@pytest.mark.parametrize(
    ("served", "later", "busy", "step"),
    [
        (1, POLICY.ramp_step_ms, 3, 8),
        (1, POLICY.ramp_step_ms - 1, 3, 4),  # too soon to know that no more jobs come
        (1, POLICY.ramp_step_ms, 4, 4),  # all permits are taken: their calls will tell
        (0, POLICY.ramp_step_ms, 0, 4),  # nobody was served
    ],
)
def test_a_step_with_permits_to_spare_waits_for_no_more_jobs_than_there_are(
    served: int, later: int, busy: int, step: int
) -> None:
    ramp = a_ramp("w1", limit=99, permits=4)
    calls = replace(seen(limit=99, succeeded=served, throttled=1), in_flight=busy)

    assert permits(after(calls, breaker=ramp, now=NOW + later)) == step


def test_a_step_that_sees_no_call_is_tested_by_a_probe_at_once() -> None:
    ramp = after(seen("w1"), breaker=a_ramp("w1"), now=NOW + 4_999)
    idle = after(seen("w1"), breaker=ramp, now=NOW + 5_000)

    assert not ramp.ticked(NOW + 4_999, 0.5).breakers["flash"].is_probing
    asked = idle.ticked(NOW + 5_000, 0.5).breakers["flash"]
    assert (asked.state, asked.prober, asked.probe_at) == (W.RAMP, "w1", NOW + 5_000)


@pytest.mark.parametrize(
    ("verdict", "expected", "step"), [(V.SUCCEEDED, W.RAMP, 2), (V.PROVIDER_DOWN, W.OPEN, None)]
)
def test_the_probe_of_an_idle_step_moves_the_ramp(
    verdict: VerdictWord, expected: BreakerWord, step: int | None
) -> None:
    later = NOW + POLICY.ramp_idle_ms
    asked = after(seen("w1"), breaker=a_ramp("w1"), now=later).ticked(later, 0.5)
    moved = after(seen("w1", probe=verdict), breaker=asked, now=later).breakers["flash"]

    assert (moved.state, moved.permits, moved.is_probing) == (expected, step, False)


def test_a_ramp_without_any_job_closes_by_probes_alone() -> None:
    now, breaker, probes = NOW, a_ramp("w1", limit=64), 0
    while state(breaker) is W.RAMP and now < NOW + 3_600_000:
        now += 1_000
        breaker = after(seen("w1", limit=64), breaker=breaker, now=now).ticked(now, 0.5)
        if breaker.breakers["flash"].is_probing:
            probes += 1
            answer = seen("w1", limit=64, probe=V.SUCCEEDED)
            breaker = after(answer, breaker=breaker, now=now)

    assert state(breaker) is W.CLOSED
    assert (probes, now - NOW) == (6, 30_000)


def test_who_falls_again_soon_has_a_setback_more_and_who_stayed_well_has_none() -> None:
    probing = after(
        seen("w1", probe=V.PROVIDER_DOWN), breaker=an_open("w1").ticked(NOW, 0.0)
    ).ticked(NOW, 0.0)
    ramp = after(seen("w1", probe=V.SUCCEEDED), breaker=probing)
    closed = after(*(seen(succeeded=n) for n in (1, 2, 4)), breaker=ramp)
    assert (state(closed), closed.breakers["flash"].setbacks) == (W.CLOSED, 1)
    falls = [
        after(seen(failures=5), breaker=closed, now=NOW + ms).breakers["flash"].setbacks
        for ms in (1, POLICY.calm_ms - 1, POLICY.calm_ms)
    ]

    assert falls == [2, 2, 0]


# --- a new owner ----------------------------------------------------------------------------


def taken_over(breaker: ProviderBreaker, now: int = NOW) -> ProviderBreaker:
    return ProviderBreaker.restored("deepseek", breaker.health(epoch=7, now=now), now)


@pytest.mark.parametrize(
    "breaker",
    [
        CLOSED,
        an_open("w1"),
        an_open("w1").ticked(NOW, 0.5),
        a_ramp("w1", permits=4),
        after(unreached(3)),
        replace(an_open("w1"), paused_until=NOW + 9),
    ],
)
def test_what_is_written_to_the_fleet_restores_the_breaker(breaker: ProviderBreaker) -> None:
    health = breaker.health(epoch=7, now=NOW)

    assert (health.provider, health.epoch, health.at) == ("deepseek", 7, NOW)
    assert taken_over(breaker).health(epoch=7, now=NOW) == health


def test_with_nothing_to_restore_a_breaker_starts_closed() -> None:
    empty = Health(provider="deepseek", epoch=1, at=NOW)

    assert ProviderBreaker.restored("deepseek", None, NOW) == CLOSED
    assert ProviderBreaker.restored("deepseek", empty, NOW) == CLOSED


def test_a_new_owner_that_has_not_heard_of_the_prober_yet_asks_no_other() -> None:
    later = NOW + 1_000
    heard = after(seen("w2"), breaker=taken_over(an_open("w1").ticked(NOW, 0.0)), now=later)
    waits = heard.ticked(later, 0.9)
    gone = after(seen("w2"), breaker=waits, now=NOW + 6_000).ticked(NOW + 6_000, 0.9)

    assert waits.breakers["flash"].prober == "w1"
    assert state(after(seen("w1", probe=V.SUCCEEDED), breaker=waits, now=later)) is W.RAMP
    assert gone.breakers["flash"].prober == "w2"


def test_a_new_owner_takes_the_first_worker_it_hears_not_for_the_whole_pool() -> None:
    took = taken_over(a_ramp("w1", "w2", "w3", limit=4, permits=2))
    stepped = after(seen("w1", limit=4, succeeded=2), breaker=took)

    assert (state(stepped), permits(stepped)) == (W.RAMP, 4)


# --- pauses ---------------------------------------------------------------------------------


def test_the_longest_wish_to_be_left_alone_holds_until_it_is_over() -> None:
    wishes = [replace(seen(), paused_until=NOW + ms) for ms in (5_000, 9_000, 7_000)]
    paused = after(*wishes, seen())

    assert paused.health(1, NOW).paused_until == NOW + 9_000
    assert paused.ticked(NOW + 8_999, 0.0).paused_until == NOW + 9_000
    assert paused.ticked(NOW + 9_000, 0.0).paused_until is None
    assert after(replace(seen(), paused_until=NOW), breaker=CLOSED).paused_until is None


# --- properties -----------------------------------------------------------------------------

WORKERS: Final = ("w1", "w2", "w3")
MODELS: Final = ("flash", "pro")
BAD: Final = ("failures", "blocked", "misrouted", "overdue")
workers = st.sampled_from(WORKERS)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Whatever may have been seen in a second."""
    few, seldom = st.integers(0, 12), st.sampled_from((0, 0, 0, 1, 3))
    failures, succeeded = draw(few), draw(few)
    streak = failures if not succeeded else draw(st.integers(0, failures))
    return Window(
        failures=failures,
        unreached=draw(st.integers(0, failures)),
        succeeded=succeeded,
        slow=draw(st.integers(0, succeeded)),
        streak=streak,
        overdue=draw(seldom),
        throttled=draw(seldom),
        blocked=draw(seldom),
        misrouted=draw(seldom),
        answered=draw(seldom),
    )


@given(
    st.lists(
        st.tuples(workers, st.integers(0, 5_000), st.integers(0, 50), st.integers(0, 50)),
        max_size=40,
    )
)
def test_a_provider_that_serves_and_finds_fault_with_jobs_is_never_opened(
    history: list[tuple[str, int, int, int]],
) -> None:
    now, breaker = NOW, CLOSED
    for worker, ms, succeeded, answered in history:
        now += ms
        window = seen(worker, succeeded=succeeded, answered=answered)
        breaker = after(window, breaker=breaker, now=now).ticked(now, 0.5)

        assert {each.state for each in breaker.breakers.values()} == {W.CLOSED}


@given(st.integers(0, 40), rolls, rolls)
def test_a_wait_is_jittered_in_full_below_its_bound(
    setbacks: int, roll: float, more: float
) -> None:
    bound = min(POLICY.probe_most_ms, POLICY.probe_first_ms * 2**setbacks)

    assert 0 <= POLICY.probe_wait_ms(setbacks, roll) < bound
    assert POLICY.probe_wait_ms(setbacks, 0.0) == 0
    assert (roll <= more) is (
        POLICY.probe_wait_ms(setbacks, roll) <= POLICY.probe_wait_ms(setbacks, more)
    ) or abs(roll - more) * bound < 1


class Provider(RuleBasedStateMachine):
    """Anything may happen to a provider; what its breakers may make of it: the invariants."""

    def __init__(self) -> None:
        """Nothing is known."""
        super().__init__()
        self.now = NOW
        self.breaker = self.before = CLOSED
        self.last: Vitals | None = None
        self.history: list[Window] = []
        self.told: list[Vitals] = []

    def _step(self, breaker: ProviderBreaker, vitals: Vitals | None) -> None:
        self.before, self.breaker, self.last = self.breaker, breaker, vitals
        if vitals is not None:
            self.history += vitals.models.values()
            self.told.append(vitals)

    @rule(worker=workers, models=st.dictionaries(st.sampled_from(MODELS), windows(), max_size=2))
    def calls_end(self, worker: str, models: dict[str, Window]) -> None:
        vitals = replace(seen(worker, at=self.now), models=models)
        self._step(self.breaker.saw(vitals, self.now), vitals)

    @rule(worker=workers, model=st.sampled_from(MODELS), count=st.integers(1, 9))
    def all_is_well(self, worker: str, model: str, count: int) -> None:
        vitals = seen(worker, model=model, succeeded=count, at=self.now)
        self._step(self.breaker.saw(vitals, self.now), vitals)

    @rule(worker=workers, model=st.sampled_from(MODELS), wait=st.sampled_from((300, 1_000, 2_000)))
    def a_single_call_fails(self, worker: str, model: str, wait: int) -> None:
        self.now += wait
        vitals = seen(worker, model=model, failures=1, at=self.now)
        self._step(self.breaker.saw(vitals, self.now), vitals)

    @rule(
        worker=workers,
        verdict=st.sampled_from(VerdictWord),
        of=st.sampled_from((None, EVERY_MODEL, *MODELS)),
    )
    def some_probe_ends(self, worker: str, verdict: VerdictWord, of: str | None) -> None:
        vitals = seen(worker, probe=verdict, probe_of=of, at=self.now)
        self._step(self.breaker.saw(vitals, self.now), vitals)

    @precondition(lambda self: any(each.is_probing for each in self.breaker.breakers.values()))
    @rule(verdict=st.sampled_from((V.SUCCEEDED, V.SUCCEEDED, V.PROVIDER_DOWN)))
    def the_probe_ends(self, verdict: VerdictWord) -> None:
        [(model, prober)] = (
            (model, each.prober or "")
            for model, each in self.breaker.breakers.items()
            if each.is_probing
        )
        vitals = seen(prober, probe=verdict, probe_of=model, at=self.now)
        self._step(self.breaker.saw(vitals, self.now), vitals)

    @rule(ms=st.sampled_from((0, 100, 1_000, 5_000, 15_000, 40_000)), roll=rolls)
    def time_passes(self, ms: int, roll: float) -> None:
        self.now += ms
        self._step(self.breaker.ticked(self.now, roll), None)

    @rule()
    def another_process_takes_over(self) -> None:
        health = self.breaker.health(epoch=1, now=self.now)
        self._step(ProviderBreaker.restored("deepseek", health, self.now), None)

        assert self.breaker.health(epoch=1, now=self.now) == health

    @precondition(
        lambda self: any(each.state is not W.CLOSED for each in self.breaker.breakers.values())
    )
    @rule(roll=rolls)
    def every_state_is_left(self, roll: float) -> None:
        """Without a single job a provider that answers its probes is trusted again."""
        breaker, now = self.breaker, self.now
        for _ in range(300):
            now += 1_000
            breaker = breaker.saw(seen("w1"), now).ticked(now, roll)
            for model, each in breaker.breakers.items():
                if each.is_probing and each.prober == "w1" and now >= (each.probe_at or 0):
                    answer = seen("w1", probe=V.SUCCEEDED, probe_of=model)
                    breaker = breaker.saw(answer, now)

        assert {each.state for each in breaker.breakers.values()} == {W.CLOSED}

    def _moves(self) -> list[tuple[str, Breaker, Breaker]]:
        """Of each verdict what it was and what it is; one that went with the whole is not asked."""
        found = []
        for model in {*self.before.breakers, *self.breaker.breakers}:
            if model in self.breaker.breakers or state(self.breaker, EVERY_MODEL) is W.CLOSED:
                was = self.before.breakers.get(model, Breaker())
                found.append((model, was, self.breaker.breakers.get(model, Breaker())))
        return found

    def _window(self, model: str) -> Window:
        """What was just seen of it; of the whole, the worst of each."""
        if self.last is None:
            return Window()
        if model != EVERY_MODEL:
            return self.last.models.get(model, Window())
        names = ("succeeded", "answered", "failures", "unreached", *BAD[1:], "slow", "throttled")
        sums = {n: sum(getattr(each, n) for each in self.last.models.values()) for n in names}
        return Window(**sums)

    @invariant()
    def only_what_was_seen_opens_it(self) -> None:
        for model, was, now_ in self._moves():
            if was.state is not W.CLOSED or now_.state is W.CLOSED:
                continue
            window = self._window(model)
            ever = sum(getattr(w, n) for w in self.history for n in (*BAD, "slow", "throttled"))

            assert now_.state is W.OPEN
            assert window.calls or window.overdue
            assert ever >= 2
            assert now_.evidence
            if model == EVERY_MODEL:
                assert sum(each.unreached + each.blocked for each in self.history) >= 2

    @invariant()
    def few_failures_open_it_only_when_they_are_of_two_jobs_and_none_is_served(self) -> None:
        for model, was, now_ in self._moves():
            opened = was.state is W.CLOSED and now_.state is W.OPEN
            if not opened or "none served" not in now_.evidence:
                continue
            windows = [(each.at, each.models[model]) for each in self.told if model in each.models]
            recent = [window for at, window in windows if self.now - at < POLICY.few_quiet_ms]
            failed = [at for at, window in windows for _ in range(window.failures)]
            row = failed[-POLICY.few_in_a_row :]

            assert not any(each.succeeded or each.answered for each in recent)
            assert POLICY.few_least_ms <= row[-1] - row[0]
            assert max(late - early for early, late in pairwise(row)) < POLICY.few_apart_ms

    @invariant()
    def it_closes_only_after_the_last_step_of_a_ramp(self) -> None:
        for model, was, now_ in self._moves():
            if was.state is W.CLOSED or now_.state is not W.CLOSED:
                continue

            assert was.state is W.RAMP
            assert self._was_good(model, was)

    @invariant()
    def a_ramp_begins_only_with_the_success_of_the_prober(self) -> None:
        for model, was, now_ in self._moves():
            if now_.state is not W.RAMP or was.state is W.RAMP:
                continue

            assert was.state is W.HALF_OPEN
            assert self._was_probed(model, was)
            assert now_.permits == 1

    @invariant()
    def a_ramp_doubles_with_successes_and_never_shrinks(self) -> None:
        for model, was, now_ in self._moves():
            if not was.state is now_.state is W.RAMP or was.permits == now_.permits:
                continue

            assert now_.permits == 2 * (was.permits or 0)
            assert self._was_good(model, was)

    @invariant()
    def a_ramp_falls_back_only_on_failures(self) -> None:
        for model, was, now_ in self._moves():
            if was.state is not W.RAMP or now_.state in (W.RAMP, W.CLOSED):
                continue
            window = self._window(model)
            failed_probe = self.last is not None and self.last.probe not in (None, *ANSWERED)

            assert now_.state is W.OPEN
            assert now_.setbacks == was.setbacks + 1
            assert failed_probe or sum(getattr(window, n) for n in (*BAD, "slow", "throttled"))

    def _was_probed(self, model: str, was: Breaker) -> bool:
        if self.last is None or self.last.probe is None or not was.is_probing:
            return False
        answered = REACHED if model == EVERY_MODEL else ANSWERED
        is_of = (self.last.probe_of or EVERY_MODEL) == model
        return is_of and self.last.probe in answered and self.last.worker == was.prober

    def _was_good(self, model: str, was: Breaker) -> bool:
        window = self._window(model)
        return self._was_probed(model, was) or window.succeeded + window.answered > 0

    @invariant()
    def one_probe_of_the_provider_is_asked_for_at_a_time(self) -> None:
        probing = [each for each in self.breaker.breakers.values() if each.is_probing]

        assert len(probing) <= 1
        assert all(each.state in (W.HALF_OPEN, W.RAMP) and each.prober for each in probing)
        halves = [each for each in self.breaker.breakers.values() if each.state is W.HALF_OPEN]
        assert all(each.is_probing for each in halves)

    @invariant()
    def a_probe_under_way_is_not_disturbed(self) -> None:
        """Another is named only when the first answered, left, or kept all waiting too long."""
        for _, was, now_ in self._moves():
            if was.probe_at is None or now_.probe_at in (None, was.probe_at):
                continue
            heard = self.before.workers.get(was.prober or "")

            left = heard is None or self.now - heard.at >= POLICY.fresh_ms
            assert left or self.now >= was.probe_at + POLICY.probe_patience_ms

    @invariant()
    def a_probe_is_asked_for_within_the_bound_that_setbacks_set(self) -> None:
        for _, was, now_ in self._moves():
            if now_.probe_at is None or now_.probe_at == was.probe_at:
                continue
            bound = POLICY.probe_wait_ms(now_.setbacks, 1.0)

            assert self.now <= now_.probe_at <= self.now + bound
            assert now_.state is W.HALF_OPEN or now_.probe_at == self.now

    @invariant()
    def while_the_whole_is_down_it_alone_speaks(self) -> None:
        if state(self.breaker, EVERY_MODEL) is not W.CLOSED:
            assert {*self.breaker.breakers} == {EVERY_MODEL}


Provider.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestProvider = Provider.TestCase
