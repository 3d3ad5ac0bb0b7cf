"""Brokers that die, freeze and return under load: no job is lost, and it goes on by itself."""

import asyncio
from collections.abc import Iterable

import pytest

from outlast.drill.conservation import Allowance
from outlast.edges.kafka.connection import admin
from outlast.edges.kafka.groups import Groups
from tests.kafka.chaos.faults_b import Commits, conserved, has_logged, launch, until
from tests.kafka.chaos.fleet import Fleet
from tests.kafka.chaos.scenario import Scenario
from tests.kafka.chaos.worker import Worker

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(400)]

PER_SECOND = 20
WORK = ("work", "--provider", "deepseek")
GROUP = "deepseek"


def now() -> float:
    return asyncio.get_running_loop().time()


def begun_after(here: Fleet, instant: float) -> list[float]:
    """When calls began after it."""
    return sorted(call.began for call in here.calls if call.began > instant)


async def serves_again(here: Fleet, since: float, seconds: float) -> float:
    """Wait until calls begin again; how long that took from an instant of the loop's clock.

    One call is what was fetched before; that it goes on shows in the tenth.
    """
    began = now()
    await until(lambda: len(begun_after(here, began)) >= 10, "ten more calls", seconds)
    return begun_after(here, began)[9] - since


async def coordinator(here: Fleet) -> int:
    """The broker that coordinates the pool's group."""
    client = admin(here.kafka)
    await client.start()
    try:
        node: int = await client.find_coordinator(Groups(here.kafka.prefix).work(GROUP))
    finally:
        await client.close()
    return node


async def two_workers(here: Fleet, *options: str) -> tuple[Worker, Worker]:
    """Both ready."""
    first, second = [await launch(here, f"w{number}", *WORK, *options) for number in range(2)]
    return await first.ready(), await second.ready()


def require_alive(workers: Iterable[Worker]) -> None:
    """Nobody had to be restarted."""
    for each in workers:
        assert each.exit_code is None, each.log.read_text()[-3_000:]


async def test_one_broker_then_two_then_all_die_and_return(scenario: Scenario) -> None:
    """Nobody knows of a write that no broker lived to answer, so it may be written twice."""
    pauses, unanswered = [], 0
    async with scenario.fleet() as here:
        workers = await two_workers(here)
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(workers[0], 2)
            for nodes in ((1,), (2, 3), (1, 2, 3)):
                await here.read()
                died = now()
                await scenario.cluster.kill(*nodes)
                unanswered += len(here.open_jobs) if len(nodes) > 1 else 0
                if len(nodes) == 1:
                    # Two are enough: it goes on without the third.
                    pauses.append(await serves_again(here, died, 30))
                else:
                    await asyncio.sleep(14)
                await scenario.cluster.restart()
                back = now()
                if len(nodes) > 1:
                    pauses.append(await serves_again(here, back, 40))
                await scenario.cluster.until_in_sync()
        scenario.name += f", serving after {pauses[0]:.1f}, {pauses[1]:.1f}, {pauses[2]:.1f} s"
        outcome = await scenario.outcome(here, within=120)
        account = await conserved(here, Allowance(repeats=unanswered))
        require_alive(workers)

    outcome.require_promises()
    assert account.holds, account.lines()
    assert outcome.row.extra_calls == 0


async def test_nothing_is_taken_while_too_few_brokers_are_in_sync(scenario: Scenario) -> None:
    async with scenario.fleet(latency=(0.3, 0.3)) as here:
        workers = await two_workers(here, "--max-in-flight", "10")
        await here.publisher.some(1_500)
        await until(lambda: len(here.calls) > 50, "calls")

        await scenario.cluster.kill(2, 3)
        await asyncio.sleep(8)
        stopped = len(here.calls)
        await asyncio.sleep(7)
        taken_meanwhile = len(here.calls) - stopped
        await scenario.cluster.restart()
        outcome = await scenario.outcome(here, within=150)
        require_alive(workers)

    outcome.require_promises()
    assert taken_meanwhile == 0
    assert stopped < 1_000, "there was nothing left to take"
    assert outcome.row.extra_calls == outcome.row.repeated == 0


async def test_the_coordinator_frozen_while_jobs_are_published_and_worked_on(
    scenario: Scenario,
) -> None:
    async with scenario.fleet() as here:
        workers = await two_workers(here)
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(workers[0], 2)
            node = await coordinator(here)
            froze = now()
            scenario.cluster.freeze(node)
            await asyncio.sleep(25)
            scenario.cluster.thaw(node)
            scenario.name += f", serving after {await serves_again(here, froze, 30):.1f} s"
        outcome = await scenario.outcome(here, within=90)
        require_alive(workers)

    outcome.require_promises()
    assert outcome.row.extra_calls == outcome.row.repeated == 0


async def test_the_coordinator_killed(scenario: Scenario) -> None:
    async with scenario.fleet() as here:
        workers = await two_workers(here)
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(workers[0], 2)
            node = await coordinator(here)
            died = now()
            await scenario.cluster.kill(node)
            scenario.name += f", serving after {await serves_again(here, died, 30):.1f} s"
            moved = await coordinator(here)
            await asyncio.sleep(3)
        outcome = await scenario.outcome(here, within=60)
        require_alive(workers)

    outcome.require_promises()
    assert moved != node
    assert outcome.row.extra_calls == outcome.row.repeated == 0


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_that_hangs_across_a_rebalance(scenario: Scenario, when: str) -> None:
    async with scenario.fleet(latency=(1.0, 4.0)) as here:
        commits = Commits(here, Groups(here.kafka.prefix).work(GROUP))
        faults = ("--hang-commit", when, "--hang-at", "20", "--hang-seconds", "8")
        hangs = await (await launch(here, "w0", *WORK, faults=faults)).ready()
        async with commits.watched(), here.publisher.at(PER_SECOND):
            await has_logged(hangs, "failing.hangs")
            joins = await (await launch(here, "w1", *WORK)).ready()
            await until(lambda: here.calls_of(joins), "calls of the one that joined")
            await asyncio.sleep(12)
        outcome = await scenario.outcome(here)
        require_alive((hangs, joins))

    outcome.require_promises()
    assert not commits.rewound
    assert outcome.row.extra_calls == outcome.row.repeated == 0
