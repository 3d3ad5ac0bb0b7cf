"""A breaker opens only on evidence, asks one prober at a time and closes only on its success."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outlast.core.breaker import ANSWERED, Breaker, BreakerPolicy
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health
from outlast_schemas.vitals import Vitals
from tests.core.given import NOW

POLICY: Final = BreakerPolicy()
CLOSED: Final = Breaker(provider="deepseek")


def a_window(
    worker: str = "w1",
    *,
    succeeded: int = 0,
    failures: int = 0,
    streak: int | None = None,
    probe: str | None = None,
    note: str | None = None,
) -> Vitals:
    """What a worker saw; unless told otherwise its failures came last, in a row."""
    return Vitals(
        provider="deepseek",
        worker=worker,
        at=NOW,
        limit=1,
        succeeded=succeeded,
        failures=failures,
        streak=failures if streak is None else streak,
        probe=probe,
        note=note,
    )


def after(*windows: Vitals, breaker: Breaker = CLOSED) -> Breaker:
    """The breaker once it has seen these windows."""
    for window in windows:
        breaker = breaker.saw(window, NOW)
    return breaker


def an_open(*workers: str) -> Breaker:
    """A breaker that five failures opened, with these workers alive."""
    return after(*(a_window(worker) for worker in workers), a_window(workers[0], failures=5))


@pytest.mark.parametrize(
    ("windows", "state"),
    [
        ([a_window(failures=4)], BreakerWord.CLOSED),
        ([a_window(failures=5)], BreakerWord.OPEN),
        ([a_window(failures=4), a_window(failures=1)], BreakerWord.OPEN),
        # counted over all workers
        ([a_window("w1", failures=3), a_window("w2", failures=2)], BreakerWord.OPEN),
        # a quiet window neither counts nor forgives
        ([a_window(failures=3), a_window(), a_window(failures=2)], BreakerWord.OPEN),
        # a success forgives what came before it, not what came after
        ([a_window(failures=4), a_window(succeeded=1)], BreakerWord.CLOSED),
        (
            [a_window(failures=4), a_window(succeeded=1), a_window(failures=4)],
            BreakerWord.CLOSED,
        ),
        ([a_window(failures=9, succeeded=1, streak=4)], BreakerWord.CLOSED),
        ([a_window(failures=9, succeeded=1, streak=5)], BreakerWord.OPEN),
        (
            [a_window(failures=9, succeeded=1, streak=4), a_window(failures=1)],
            BreakerWord.OPEN,
        ),
        # other workers' successes forgive too
        (
            [a_window("w1", failures=4), a_window("w2", succeeded=1), a_window("w1", failures=4)],
            BreakerWord.CLOSED,
        ),
        ([a_window(succeeded=1_000)], BreakerWord.CLOSED),
        ([], BreakerWord.CLOSED),
    ],
)
def test_failures_in_a_row_open_it(windows: list[Vitals], state: BreakerWord) -> None:
    assert after(*windows).state is state


def test_the_verdict_says_on_what_evidence() -> None:
    opened = after(a_window(failures=4), a_window(failures=2, note="HTTP 503 overloaded"))

    assert opened.evidence == "6 failures in a row; the last: HTTP 503 overloaded"
    assert opened.since == NOW


def test_a_success_beside_a_probe_does_not_close_it() -> None:
    breaker = after(a_window(succeeded=50), breaker=an_open("w1"))

    assert breaker.state is BreakerWord.OPEN


def test_an_open_breaker_names_a_prober_at_the_next_tick() -> None:
    probing = an_open("w1").ticked(NOW, 0.5)

    assert probing.state is BreakerWord.HALF_OPEN
    assert probing.prober == "w1"
    assert probing.probe_at == NOW + 750


@pytest.mark.parametrize(
    ("roll", "prober"), [(0.0, "w1"), (0.32, "w1"), (0.34, "w2"), (0.67, "w3"), (0.999, "w3")]
)
def test_the_prober_is_one_of_the_workers_with_fresh_vitals(roll: float, prober: str) -> None:
    assert an_open("w1", "w2", "w3").ticked(NOW, roll).prober == prober


def test_while_a_probe_is_under_way_nobody_else_is_asked() -> None:
    probing = an_open("w1", "w2").ticked(NOW, 0.0)
    later = after(a_window("w1"), a_window("w2"), breaker=probing).ticked(NOW + 1_000, 0.9)

    assert (later.prober, later.probe_at) == (probing.prober, probing.probe_at)


@pytest.mark.parametrize(
    ("worker", "verdict", "state"),
    [
        ("w1", VerdictWord.SUCCEEDED, BreakerWord.CLOSED),
        ("w1", VerdictWord.PROVIDER_DOWN, BreakerWord.OPEN),
        ("w1", VerdictWord.AMBIGUOUS, BreakerWord.OPEN),
        # it finds fault with the probe's one token, so it was served
        ("w1", VerdictWord.JOB_REJECTED, BreakerWord.CLOSED),
        # an outage may speak 429
        ("w1", VerdictWord.RETRY_LATER, BreakerWord.OPEN),
        # the wrong one's success says nothing, nor does its failure
        ("w2", VerdictWord.SUCCEEDED, BreakerWord.HALF_OPEN),
        ("w2", VerdictWord.PROVIDER_DOWN, BreakerWord.HALF_OPEN),
    ],
)
def test_only_the_named_prober_moves_a_half_open_breaker(
    worker: str, verdict: VerdictWord, state: BreakerWord
) -> None:
    probing = an_open("w1", "w2").ticked(NOW, 0.0)

    assert after(a_window(worker, probe=verdict), breaker=probing).state is state


def test_a_closed_breaker_starts_counting_from_nothing() -> None:
    probing = an_open("w1").ticked(NOW, 0.0)
    closed = after(a_window(probe="succeeded"), breaker=probing)

    assert closed == Breaker(
        provider="deepseek",
        since=NOW,
        evidence="a probe by w1 succeeded",
        workers={"w1": NOW},
    )
    assert after(a_window(failures=4), breaker=closed).state is BreakerWord.CLOSED


def test_after_a_failed_probe_another_worker_is_asked() -> None:
    probing = an_open("w1", "w2").ticked(NOW, 0.0)
    failed = after(a_window("w1", probe="provider_down"), breaker=probing)

    assert failed.ticked(NOW, 0.0).prober == "w2"


def test_the_only_worker_is_asked_again() -> None:
    probing = an_open("w1").ticked(NOW, 0.0)
    failed = after(a_window("w1", probe="provider_down"), breaker=probing)

    assert failed.ticked(NOW, 0.0).prober == "w1"


@pytest.mark.parametrize(
    ("probes", "roll", "wait"),
    [
        (0, 0.0, 500),
        (0, 0.5, 750),
        (1, 0.0, 1_000),
        (2, 0.0, 2_000),
        (3, 0.0, 4_000),
        # at most ten seconds, half of it jitter
        (4, 0.0, 5_000),
        (4, 0.5, 7_500),
        (99_999, 0.0, 5_000),
    ],
)
def test_the_waits_between_probes_double_up_to_a_limit(probes: int, roll: float, wait: int) -> None:
    breaker = replace(an_open("w1"), probes=probes)

    assert breaker.ticked(NOW, roll).probe_at == NOW + wait


@pytest.mark.parametrize(
    ("late", "prober"),
    [
        (POLICY.probe_patience_ms - 1, "w1"),
        (POLICY.probe_patience_ms, "w2"),
    ],
)
def test_a_prober_that_does_not_answer_is_replaced(late: int, prober: str) -> None:
    probing = an_open("w1", "w2").ticked(NOW, 0.0)
    assert probing.probe_at is not None
    when = probing.probe_at + late
    alive = replace(probing, workers={"w1": when, "w2": when})

    assert alive.ticked(when, 0.0).prober == prober


def test_a_prober_that_is_gone_is_replaced_at_once() -> None:
    probing = an_open("w1", "w2").ticked(NOW, 0.0)
    left = replace(probing, workers={"w1": NOW, "w2": NOW + 5_000})

    assert left.ticked(NOW + 5_000, 0.0).prober == "w2"


def test_a_worker_without_a_permit_is_never_asked_to_probe() -> None:
    idle = replace(a_window("w9"), limit=0)
    breaker = an_open("w1").saw(idle, NOW).ticked(NOW, 0.99)

    assert breaker.prober == "w1"


def test_without_a_worker_nobody_is_named_until_one_comes() -> None:
    alone = an_open("w1").ticked(NOW + 60_000, 0.0)
    came = alone.saw(a_window("w9"), NOW + 61_000).ticked(NOW + 61_000, 0.0)

    assert (alone.state, alone.prober, alone.probe_at) == (BreakerWord.OPEN, None, None)
    assert (came.state, came.prober) == (BreakerWord.HALF_OPEN, "w9")


def test_a_closed_breaker_names_nobody() -> None:
    ticked = after(a_window()).ticked(NOW, 0.5)

    assert (ticked.state, ticked.prober, ticked.probe_at) == (BreakerWord.CLOSED, None, None)


def test_what_is_written_to_the_fleet_restores_the_breaker() -> None:
    probing = an_open("w1").ticked(NOW, 0.5)
    health = probing.health(epoch=7, now=NOW + 5)
    restored = Breaker.restored("deepseek", health)

    assert (health.provider, health.epoch, health.at) == ("deepseek", 7, NOW + 5)
    assert restored.health(epoch=7, now=NOW + 5) == health


def test_with_nothing_to_restore_a_breaker_starts_closed() -> None:
    empty = Health(provider="deepseek", epoch=1, at=NOW)

    assert Breaker.restored("deepseek", None) == CLOSED
    assert Breaker.restored("deepseek", empty) == CLOSED


class Provider(RuleBasedStateMachine):
    """Anything may happen to a breaker; what it may make of it is written in the invariants."""

    workers = st.sampled_from(["w1", "w2", "w3"])

    def __init__(self) -> None:
        """Nothing is known."""
        super().__init__()
        self.now = NOW
        self.breaker = CLOSED
        self.before = CLOSED
        self.last: Vitals | None = None
        self.in_a_row = 0

    @initialize()
    def begin(self) -> None:
        self._step(self.breaker, None)

    def _step(self, breaker: Breaker, vitals: Vitals | None) -> None:
        self.before, self.breaker, self.last = self.breaker, breaker, vitals

    @rule(worker=workers, failures=st.integers(0, 6), note=st.none() | st.just("HTTP 503"))
    def failures_only(self, worker: str, failures: int, note: str | None) -> None:
        self.in_a_row += failures
        self._saw(a_window(worker, failures=failures, note=note))

    @rule(worker=workers, failures=st.integers(0, 6), data=st.data())
    def some_successes(self, worker: str, failures: int, data: st.DataObject) -> None:
        streak = data.draw(st.integers(0, failures))
        self.in_a_row = streak
        self._saw(a_window(worker, succeeded=1, failures=failures, streak=streak))

    @rule(worker=workers, verdict=st.sampled_from(VerdictWord))
    def a_probe_ends(self, worker: str, verdict: VerdictWord) -> None:
        self._saw(a_window(worker, probe=verdict))

    def _saw(self, vitals: Vitals) -> None:
        self._step(self.breaker.saw(vitals, self.now), vitals)

    @rule(ms=st.integers(0, 20_000), roll=st.floats(0, 1, exclude_max=True))
    def time_passes(self, ms: int, roll: float) -> None:
        self.now += ms
        self._step(self.breaker.ticked(self.now, roll), None)

    @rule()
    def another_process_takes_over(self) -> None:
        health = self.breaker.health(epoch=self.now, now=self.now)
        self.in_a_row = 0
        self._step(Breaker.restored("deepseek", health), None)

    @invariant()
    def it_opens_only_on_evidence(self) -> None:
        opened = (
            self.before.state is BreakerWord.CLOSED and self.breaker.state is not BreakerWord.CLOSED
        )

        assert not opened or (self.breaker.state is BreakerWord.OPEN and self.in_a_row >= 5)

    @invariant()
    def enough_evidence_opens_it(self) -> None:
        saw_enough = self.last is not None and self.last.probe is None and self.in_a_row >= 5

        assert not saw_enough or self.breaker.state is not BreakerWord.CLOSED

    @invariant()
    def it_closes_only_on_the_success_of_the_prober(self) -> None:
        if self.before.state is BreakerWord.CLOSED or self.breaker.state is not BreakerWord.CLOSED:
            return

        self.in_a_row = 0
        assert self.last is not None
        assert self.last.probe in ANSWERED
        assert self.last.worker == self.before.prober
        assert self.before.state is BreakerWord.HALF_OPEN

    @invariant()
    def one_prober_is_named_at_a_time_and_only_while_half_open(self) -> None:
        asked = self.breaker.probe_at is not None

        assert not asked or self.breaker.state is BreakerWord.HALF_OPEN
        assert not asked or self.breaker.prober is not None

    @invariant()
    def a_probe_under_way_is_not_disturbed(self) -> None:
        """Another is named only when the first answered, left, or kept all waiting too long."""
        was, now_ = self.before, self.breaker
        if was.probe_at is None or now_.probe_at in (None, was.probe_at):
            return

        assert was.prober is not None
        left = self.now - was.workers.get(was.prober, 0) >= POLICY.fresh_ms
        assert left or self.now >= was.probe_at + POLICY.probe_patience_ms

    @precondition(lambda self: self.breaker.state is not BreakerWord.CLOSED)
    @rule(roll=st.floats(0, 1, exclude_max=True))
    def every_state_is_left(self, roll: float) -> None:
        """From wherever it is, a worker with vitals and a probe that succeeds close it."""
        self.now += POLICY.probe_most_ms + POLICY.probe_patience_ms
        asked = self.breaker.saw(a_window("w1"), self.now).ticked(self.now, roll)

        assert asked.state is BreakerWord.HALF_OPEN
        assert asked.prober == "w1"
        assert asked.saw(a_window("w1", probe="succeeded"), self.now).state is BreakerWord.CLOSED

    @invariant()
    def the_fleet_reads_what_it_says(self) -> None:
        verdict = self.breaker.health(epoch=1, now=self.now).models[EVERY_MODEL]

        assert verdict.state is self.breaker.state
        assert (verdict.prober, verdict.probe_at) == (self.breaker.prober, self.breaker.probe_at)


Provider.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestProvider = Provider.TestCase
