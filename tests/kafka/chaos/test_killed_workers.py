"""Workers that are killed or frozen lose no job, and repeat only what they had in hand."""

import asyncio
import random

import pytest

from tests.kafka.chaos.scenario import Scenario

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(400)]

PER_SECOND = 25
KILLS = 10


async def test_workers_killed_at_random_and_returning(scenario: Scenario) -> None:
    seed = random.randrange(1_000_000)
    scenario.name += f" (seed {seed})"
    dice = random.Random(seed)
    async with scenario.fleet() as here:
        workers = [await (await here.worker(f"w{number}")).ready() for number in range(3)]
        async with here.publisher.at(PER_SECOND):
            for _ in range(KILLS):
                await asyncio.sleep(dice.uniform(0.5, 2.0))
                victim = dice.randrange(len(workers))
                await here.kill(workers[victim])
                await asyncio.sleep(dice.uniform(1.0, 3.0))
                workers[victim] = await here.worker(workers[victim].slot)
        outcome = await scenario.outcome(here)

    outcome.require_promises()


async def test_a_worker_killed_serves_again_within_two_seconds_of_its_start(
    scenario: Scenario,
) -> None:
    """Alone in its pool, and in company."""
    async with scenario.fleet() as here:
        worker = await (await here.worker("w0")).ready()
        serving = []
        async with here.publisher.at(PER_SECOND):
            for away in (0.5, 3.0):
                await here.until_in_flight(worker, 5)
                await asyncio.sleep(1.5)
                await here.kill(worker)
                await asyncio.sleep(away)
                worker = await here.worker("w0")
                serving.append(await here.until_serving(worker))
                await (await here.worker(f"beside-{len(serving)}")).ready()
        outcome = await scenario.outcome(here)

    outcome.require_promises()
    assert max(serving) < 2.0, serving


@pytest.mark.parametrize("seconds", [10, 50])
async def test_a_worker_frozen_for(scenario: Scenario, seconds: int) -> None:
    """The session is 45 s: within it nothing may be repeated, beyond it what it had in hand."""
    async with scenario.fleet() as here:
        frozen, other = [await (await here.worker(f"w{number}")).ready() for number in range(2)]
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(frozen, 3)
            frozen.freeze()
            if seconds > 45:
                await here.taken_for_dead(frozen)
            await asyncio.sleep(seconds)
            frozen.thaw()
            await asyncio.sleep(5)
            assert other.exit_code is None
        outcome = await scenario.outcome(here)

    outcome.require_promises()
    if seconds < 45:
        assert outcome.row.repeated == 0
