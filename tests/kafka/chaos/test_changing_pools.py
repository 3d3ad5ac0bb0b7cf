"""A pool that grows, shrinks and restarts repeats no call that fits the drain budget."""

import asyncio
import signal

import pytest

from tests.kafka.chaos.scenario import Scenario

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(400)]

PER_SECOND = 25
CHANGES = 10
MOST_PAUSE_SECONDS = 1.0


async def test_ten_joins_and_leaves_with_calls_of_twenty_seconds(scenario: Scenario) -> None:
    async with scenario.fleet(latency=(20, 0), drain_seconds=60) as here:
        pool = [await (await here.worker(f"w{number}")).ready() for number in range(2)]
        leaving: list[asyncio.Task[int]] = []
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(pool[0], PER_SECOND)
            for number in range(CHANGES):
                pool.append(await (await here.worker(f"w{len(pool) + number}")).ready())
                await asyncio.sleep(1)
                leaving.append(asyncio.create_task(pool.pop(0).stop()))
                await asyncio.sleep(2)
        codes = await asyncio.gather(*leaving)
        outcome = await scenario.outcome(here)

    assert codes == [0] * CHANGES
    outcome.require_promises()
    assert (outcome.row.extra_calls, outcome.row.repeated) == (0, 0)
    assert outcome.row.pause_seconds is not None
    assert outcome.row.pause_seconds <= MOST_PAUSE_SECONDS


async def test_a_rolling_restart_with_calls_of_five_seconds(scenario: Scenario) -> None:
    async with scenario.fleet(latency=(5, 0), drain_seconds=60) as here:
        pool = [await (await here.worker(f"w{number}")).ready() for number in range(3)]
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(pool[0], PER_SECOND)
            codes = []
            for number, worker in enumerate(pool):
                codes.append(await worker.stop())
                pool[number] = await (await here.worker(worker.slot)).ready()
        outcome = await scenario.outcome(here)

    assert codes == [0, 0, 0]
    outcome.require_promises()
    assert (outcome.row.extra_calls, outcome.row.repeated) == (0, 0)
    assert outcome.row.pause_seconds is not None
    assert outcome.row.pause_seconds <= MOST_PAUSE_SECONDS


async def test_calls_of_ninety_seconds_while_a_pool_grows_to_six_and_shrinks_to_three(
    scenario: Scenario,
) -> None:
    async with scenario.fleet(latency=(90, 0), drain_seconds=120) as here:
        pool = [await (await here.worker("w0")).ready()]
        async with here.publisher.at(4):
            await here.until_in_flight(pool[0], 20)
            for number in range(1, 6):
                pool.append(await (await here.worker(f"w{number}")).ready())
                await asyncio.sleep(3)
            for worker in pool[:3]:
                worker.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(10)
        codes = await asyncio.gather(*(worker.ended(150) for worker in pool[:3]))
        outcome = await scenario.outcome(here, within=150)

    assert codes == [0, 0, 0]
    outcome.require_promises()
    assert (outcome.row.extra_calls, outcome.row.repeated) == (0, 0)


async def test_joins_and_leaves_with_calls_that_do_not_fit_the_drain_budget(
    scenario: Scenario,
) -> None:
    async with scenario.fleet(latency=(8, 0), drain_seconds=2) as here:
        pool = [await (await here.worker(f"w{number}")).ready() for number in range(2)]
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(pool[0], PER_SECOND)
            for number in range(4):
                pool.append(await (await here.worker(f"w{2 + number}")).ready())
                await asyncio.sleep(3)
                here.drained.append(pool.pop(0))
                assert await here.drained[-1].stop() == 0
        outcome = await scenario.outcome(here)

    outcome.require_promises()
    assert outcome.row.allowed_calls > 0
    assert outcome.row.repeated == 0
