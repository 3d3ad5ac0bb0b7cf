"""The schedules and the bounds of the drills: values in, values out."""

import itertools
from dataclasses import replace

import pytest

from outlast.drill.fleet import configuration
from outlast.drill.scenarios import SCENARIOS, Scenario, Sight
from outlast.drill.scenarios import bounds as b
from outlast.drill.scenarios.sight import Ended, Exit, Turn
from outlast.drill.scenarios.story import DEAD, LEAD_SECONDS, PROVIDERS
from outlast.drill.simulator import Behaviour
from outlast.edges.settings import load

EVERY = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))


def ended(**changes: object) -> Ended:
    """A job that was served at once."""
    one = Ended(status="succeeded", provider="openai", calls=1, accepted=1.0, served=2.0)
    return replace(one, **changes)  # type: ignore[arg-type]


def sight(**changes: object) -> Sight:
    """One job, and nothing wrong."""
    one = Sight(jobs=1, lost=0, holds=True, ended=(ended(),), marks={"down": 8.0, "well": 38.0})
    return replace(one, **changes)  # type: ignore[arg-type]


def turns(*states: tuple[float, str]) -> tuple[Turn, ...]:
    """Verdicts on the provider under fire."""
    return tuple(Turn(at, DEAD, state) for at, state in states)


@EVERY
def test_steps_stand_in_order_and_leave_time_for_calls_before_them(scenario: Scenario) -> None:
    times = [step.at for step in scenario.schedule(scenario.seconds)]

    assert times[0] >= LEAD_SECONDS
    assert all(one <= next_ for one, next_ in itertools.pairwise(times))


@EVERY
def test_longer_trouble_ends_later(scenario: Scenario) -> None:
    first, last = (scenario.schedule(seconds)[-1].at for seconds in (60, 90))

    assert last - first == pytest.approx(30)


@EVERY
def test_every_behaviour_is_one_that_the_simulator_knows(scenario: Scenario) -> None:
    behaviour = Behaviour().changed(scenario.behaviour)
    for step in scenario.schedule(scenario.seconds):
        behaviour = behaviour.changed(step.act.behaviour)

    assert behaviour.mode == "ok"


@EVERY
def test_only_processes_that_were_started_are_killed_or_frozen(scenario: Scenario) -> None:
    there = {process.name for process in scenario.processes}
    for step in scenario.schedule(scenario.seconds):
        assert {step.act.kill, step.act.freeze, step.act.thaw} - {None} <= there
        there |= {step.act.start.name} if step.act.start else set()


@EVERY
def test_every_bound_finds_the_marks_that_it_refers_to(scenario: Scenario) -> None:
    marks = {step.mark: step.at for step in scenario.schedule(scenario.seconds) if step.mark}

    assert all(
        bound(sight(marks=marks, turns=turns((9, "open")))).what for bound in scenario.bounds
    )


@EVERY
def test_where_nothing_was_seen_a_scenario_does_not_hold(scenario: Scenario) -> None:
    marks = {step.mark: step.at for step in scenario.schedule(scenario.seconds) if step.mark}
    nothing = Sight(jobs=0, lost=0, holds=True, marks=marks)

    assert any(bound(nothing).holds is False for bound in scenario.bounds)


@EVERY
def test_its_configuration_is_a_valid_one(
    scenario: Scenario, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("drill") / "outlast.toml"
    urls = dict.fromkeys(PROVIDERS, "http://127.0.0.1:1/v1")
    path.write_text(configuration(scenario, "127.0.0.1:1", "p", urls))

    catalogue = load({}, str(path)).catalogue

    assert list(catalogue.providers) == list(PROVIDERS)
    assert set(scenario.routes) <= set(catalogue.routes)


def test_a_lost_job_or_a_broken_account_is_seen() -> None:
    assert b.accounted(sight()).holds
    assert not b.accounted(sight(lost=1)).holds
    assert not b.accounted(sight(holds=False)).holds


def test_dead_letters_and_expired_jobs_are_seen() -> None:
    assert b.no_dead_letters(sight()).holds
    assert not b.no_dead_letters(sight(ended=(ended(status="dead_lettered"),))).holds
    assert not b.no_dead_letters(sight(ended=(ended(status="expired"),))).holds


def test_a_job_that_was_not_served_is_seen() -> None:
    assert b.all_served(sight()).holds
    assert not b.all_served(sight(jobs=2)).holds
    assert not b.all_served(sight(jobs=0, ended=())).holds


def test_the_job_with_the_most_calls_counts() -> None:
    bound = b.most_calls(5)

    assert bound(sight(ended=(ended(), ended(calls=5)))).value == "3.00, at most 5"
    assert bound(sight(ended=(ended(calls=5),))).holds
    assert not bound(sight(ended=(ended(), ended(calls=6)))).holds


def test_the_job_with_too_many_calls_is_told_with_its_calls() -> None:
    worst = ended(calls=2, path=((1.0, DEAD, "provider_down"), (2.0, "openai", "succeeded")))

    told = b.most_calls(1)(sight(ended=(worst,))).value

    assert f"1.0 s {DEAD} provider_down, 2.0 s openai succeeded" in told


def test_an_opening_counts_from_its_mark() -> None:
    bound = b.found_down_within(DEAD, "down", 5)

    assert bound(sight(turns=turns((12.9, "open")))).holds
    assert not bound(sight(turns=turns((13.1, "open")))).holds
    assert not bound(sight(turns=turns((4, "open")))).holds
    assert bound(sight()).value == "never"


def test_a_ramp_or_a_closed_verdict_is_a_return() -> None:
    bound = b.found_up_within(DEAD, "well", 5)

    assert bound(sight(turns=turns((20, "ramp"), (40, "ramp"), (41, "closed")))).value == "2.0 s"
    assert bound(sight(turns=turns((40, "closed")))).holds
    assert not bound(sight(turns=turns((20, "ramp"), (44, "ramp")))).holds


def test_the_first_job_that_another_serves_counts() -> None:
    jobs = (
        ended(served=7.0),
        ended(provider=DEAD, served=8.5),
        ended(served=12.0),
        ended(served=11.0),
    )

    assert b.elsewhere_within(DEAD, "down", 5)(sight(ended=jobs)).value == "3.0 s"
    assert not b.elsewhere_within(DEAD, "down", 2)(sight(ended=jobs)).holds


def test_calls_from_the_second_after_the_opening_must_be_probes() -> None:
    bound = b.calls_after_opening(DEAD, "well")
    arrived = {DEAD: (*[9] * 11, *[0] * 20, 1, *[0] * 6, 9)}
    seen = sight(turns=turns((10.2, "open")), arrived=arrived, probes={DEAD: 1})

    assert bound(seen).value == "1"
    assert bound(seen).holds
    assert not bound(replace(seen, probes={DEAD: 0})).holds
    assert not bound(replace(seen, turns=())).holds


def test_a_failed_probe_is_no_opening_and_a_failed_ramp_is_one() -> None:
    states = turns(
        (9, "open"), (11, "half_open"), (12, "open"), (40, "ramp"), (41, "open"), (50, "half_open")
    )
    seen = sight(turns=states)

    assert seen.openings(DEAD) == 2
    assert b.openings(DEAD, "well", 1)(seen).holds
    assert not b.openings(DEAD, "well", 0)(seen).holds


def test_amplification_is_that_of_jobs_accepted_after_the_opening() -> None:
    jobs = (ended(calls=9), ended(accepted=10.0), ended(accepted=11.0, calls=2))
    seen = sight(turns=turns((9, "open")), ended=jobs)

    assert b.amplification(DEAD, 1.5)(seen).holds
    assert not b.amplification(DEAD, 1.4)(seen).holds
    assert not b.amplification(DEAD, 1.4)(replace(seen, turns=())).holds


def test_a_stampede_at_the_return_is_seen() -> None:
    bound = b.first_seconds(DEAD, "well", seconds=4, at_first=5)
    seen = sight(turns=turns((40.5, "ramp")), arrived={DEAD: (*[0] * 40, 2, 3, 8, 9, 9)})

    assert bound(seen).value == "2 3 8 9"
    assert bound(seen).holds
    assert not bound(replace(seen, arrived={DEAD: (*[0] * 40, 3, 3)})).holds
    assert not bound(replace(seen, turns=())).holds


def test_calls_of_a_storm_count_from_a_while_after_it_began() -> None:
    seen = sight(arrived={DEAD: (9,) * 10 + (1,) * 28 + (9,) * 9})

    assert b.calls_in_trouble(DEAD, after=2, every=2, callers=2)(seen).holds
    assert not b.calls_in_trouble(DEAD, after=2, every=4, callers=2)(seen).holds


def test_who_goes_down_once_in_fifteen_seconds_is_found_down_as_often() -> None:
    twice = turns((20, "open"), (24, "ramp"), (35, "open"))

    assert b.flaps(DEAD, 15)(sight(turns=twice)).holds
    assert not b.flaps(DEAD, 30)(sight(turns=twice)).holds


def test_one_process_leaves_and_no_other() -> None:
    bound = b.exited("lone", 4, "down", 15)
    left = Exit(20.0, "lone", 4)

    assert bound(sight(exits=(left,))).holds
    assert not bound(sight()).holds
    assert not bound(sight(exits=(left, Exit(21.0, "other", 4)))).holds
    assert not bound(sight(exits=(Exit(20.0, "lone", 0),))).holds
    assert not bound(sight(exits=(Exit(24.0, "lone", 4),))).holds


def test_nobody_may_have_left_where_all_are_to_stay() -> None:
    assert b.stayed(sight()).holds
    assert b.stayed(sight(exits=(Exit(20.0, "worker-1", 4),))).value == "worker-1 with 4 at 20.0 s"
    assert not b.stayed(sight(exits=(Exit(20.0, "worker-1", 4),))).holds


def test_the_pool_drains_from_the_mark_until_it_is_empty() -> None:
    depth = ((5.0, 900), (8.2, 1_000), (9.0, 400), (10.0, 0), (13.0, 5))
    seen = sight(depth=depth)

    assert b.drained(DEAD, "down", 500)(seen).value == "500 (1000 in 2.0 s)"
    assert b.drained(DEAD, "down", 500)(seen).holds
    assert not b.drained(DEAD, "down", 501)(seen).holds
    assert not b.drained(DEAD, "down", 1)(replace(seen, depth=depth[:3])).holds


def test_parking_must_have_happened_where_it_is_promised() -> None:
    assert b.parked(sight(most_parked=1)).holds
    assert not b.parked(sight()).holds
