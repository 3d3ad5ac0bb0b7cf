"""The process dies at every step between reading a record and committing it, and comes back."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Final

import pytest

from outlast.drill.conservation import Allowance
from outlast.drill.simulator.behaviour import Mode
from outlast_schemas.result import Status
from tests.kafka.chaos.failing import POINTS
from tests.kafka.chaos.faults_b import conserved, killed_itself, launch, named, publish
from tests.kafka.chaos.fleet import Fleet
from tests.kafka.chaos.scenario import Scenario

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(400)]

JOBS: Final = 24
PER_SECOND: Final = 60.0
MOST_RESTARTS: Final = 12
COMMITS: Final = ("before_commit", "during_commit", "after_commit")
OF_A_MOVE: Final = tuple(point for point in POINTS if not point.endswith("_call"))


@dataclass(frozen=True)
class Stage:
    """Whose process dies, who works beside it, and how the first provider does meanwhile."""

    arguments: tuple[str, ...]
    beside: tuple[str, ...]
    points: tuple[str, ...] = OF_A_MOVE
    first_provider: Mode = "ok"


POOL: Final = ("work", "--provider", "deepseek")
WORK: Final = Stage((*POOL, "--max-in-flight", "8"), beside=("route",), points=POINTS)
ROUTE: Final = Stage(("route",), beside=("work",))
RETRY: Final = Stage(
    ("retry",),
    beside=("route", "work"),
    # The same engine: its steps are looked at more closely in the other two.
    points=("sent", "acked", "before_mark", "during_commit", "after_commit"),
    first_provider="too_long",
)
"""Every job goes by a retry topic to the alternate: nothing speaks against the first provider."""


async def dies_at(point: str, here: Fleet, stage: Stage) -> set[str]:
    """One death and what follows it; returns the jobs that were at risk."""
    nth = "3" if point in COMMITS else "12"  # a commit takes many jobs with it
    faults = ("--at", point, "--after", nth)
    victim = await (await launch(here, "victim", *stage.arguments, faults=faults)).ready()

    await publish(here, JOBS, PER_SECOND)
    at_risk = await killed_itself(here, victim)
    heir = await (await launch(here, "victim", *stage.arguments)).ready()
    await here.results(len(here.acked))

    assert await heir.stop() == 0, heir.log.read_text()[-3_000:]
    return at_risk


@pytest.mark.parametrize(
    "stage", [WORK, ROUTE, RETRY], ids=lambda stage: f"{stage.arguments[0]} process"
)
async def test_whoever_dies_at_any_point_loses_nothing(scenario: Scenario, stage: Stage) -> None:
    providers = ("deepseek", "openai")
    async with scenario.fleet(
        *stage.beside, providers=providers, latency=(0.2, 0.2), partitions=4
    ) as here:
        await here.simulators["deepseek"].set_mode(stage.first_provider)
        at_risk = {point: await dies_at(point, here, stage) for point in stage.points}
        outcome = await scenario.outcome(here)
        allowed = Allowance(extra_calls=outcome.row.allowed_calls, repeats=len(here.acked))
        account = await conserved(here, allowed)

    outcome.require_promises()
    assert account.holds, account.lines()
    assert all(len(jobs) < JOBS for jobs in at_risk.values()), "the bound allows everything"
    if stage is not WORK:
        # What a move wrote twice is a copy to who reads it.
        assert outcome.row.repeated == outcome.row.extra_calls == 0


async def test_a_death_between_a_dead_letter_and_its_result_repeats_both(
    scenario: Scenario,
) -> None:
    async with scenario.fleet("route") as here:
        await here.simulators["deepseek"].set_mode("reject")
        faults = ("--at", "after_ack", "--after", "1")
        victim = await (await launch(here, "victim", *WORK.arguments, faults=faults)).ready()

        await here.publisher.some(1)
        await killed_itself(here, victim)
        await (await launch(here, "victim", *WORK.arguments)).ready()
        lost = await here.settle(30)
        account = scenario.accounted(await conserved(here, Allowance(extra_calls=1, repeats=1)))

    assert not lost
    assert account.holds, account.lines()
    assert account.ended == {"dead_lettered": 1}
    assert account.spare_letters == 1


async def supervised(here: Fleet, faults: tuple[str, ...]) -> int:
    """Keep one worker running until every job has ended; how often it had to be started again."""
    for restarts in range(MOST_RESTARTS):
        worker = await launch(here, "w0", *POOL, faults=faults)
        while here.open_jobs and worker.exit_code is None:
            await here.read()
        if not here.open_jobs:
            return restarts
        await here.taken_for_dead(worker)
    raise AssertionError(f"still open after {MOST_RESTARTS} restarts: {here.open_jobs}")


def reason(here: Fleet, job: str) -> str | None:
    """Why it was not served, as its result says."""
    ended = here.ended[job, 0]
    if ended.result.status is Status.SUCCEEDED:
        return None
    return str(json.loads(ended.value)["error"]["type"])


async def test_a_job_that_kills_its_process_is_found_among_innocents(scenario: Scenario) -> None:
    async with scenario.fleet("route", latency=(0.5, 1.0)) as here:
        await here.publisher.some(25)
        [poison] = await named(here, "poison")
        await here.publisher.some(25)
        restarts = await supervised(here, ("--poison", "poison"))
        scenario.name += f", {restarts} restarts"
        outcome = await scenario.outcome(here)
        allowed = Allowance(extra_calls=outcome.row.allowed_calls, repeats=outcome.row.jobs)
        account = await conserved(here, allowed)
        ends = {job: reason(here, job) for job in here.acked}

    assert ends == {job: "poison" if job == poison else None for job in ends}
    assert not outcome.lost
    assert not outcome.not_allowed
    assert account.holds, account.lines()


async def test_a_hold_job_in_flight_when_its_worker_dies_is_never_called_again(
    scenario: Scenario,
) -> None:
    async with scenario.fleet("route", latency=(3.0, 0.0)) as here:
        worker = await (await here.worker("w0")).ready()
        [held] = await named(here, "held", on_ambiguous="hold")
        await here.publisher.some(10)
        await here.until_in_flight(worker, 11)
        await here.kill(worker)
        await (await here.worker("w0")).ready()
        outcome = await scenario.outcome(here)
        calls = [call for call in here.calls if call.job == held]
        ends = {job: reason(here, job) for job in here.acked}

    assert ends == {job: "ambiguous" if job == held else None for job in ends}
    assert len(calls) == 1
    assert not outcome.lost
    assert not outcome.not_allowed


@pytest.mark.parametrize(
    ("stage", "bug"),
    [(("route",), "outlast.route.next_target"), (POOL, "outlast.work.before_call")],
    ids=["of route", "before the call"],
)
async def test_a_bug_that_hits_every_record_stops_the_feed(
    scenario: Scenario, stage: tuple[str, ...], bug: str
) -> None:
    async with scenario.fleet(*{"route", "work"} - {stage[0]}) as here:
        broken = await (await launch(here, "w0", *stage, faults=("--bug", bug))).ready()
        await here.publisher.some(40)
        code = await broken.ended(60)
        before = await conserved(here, Allowance())
        mended = await (await launch(here, "w0", *stage)).ready()
        outcome = await scenario.outcome(here)
        assert mended.exit_code is None

    assert code > 0
    assert before.ended.total() == 0, before.lines()
    outcome.require_promises()
    assert outcome.row.extra_calls == 0


async def test_a_bug_after_every_call_stops_the_feed_before_the_topic_is_spent(
    scenario: Scenario,
) -> None:
    """A call that is paid for is never made again: what was in flight ends as dead letter."""
    async with scenario.fleet("route") as here:
        options = (*POOL, "--max-in-flight", "4")
        faults = ("--bug", "outlast.work.after_call")
        broken = await (await launch(here, "w0", *options, faults=faults)).ready()
        await here.publisher.some(60)
        code = await broken.ended(60)
        await (await launch(here, "w0", *options)).ready()
        outcome = await scenario.outcome(here)
        reasons = Counter(reason(here, job) for job in here.acked)

    assert code > 0
    assert reasons.keys() == {None, "internal_error"}
    assert reasons["internal_error"] < 20
    assert not outcome.lost
    assert outcome.row.extra_calls == 0
