"""Members that break the group's rules: they die at the worst moment, stand still, or are two."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.kafka.chaos.faulty import KILLED, STALL_SECONDS
from tests.kafka.chaos.scenario import Scenario

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(400)]

PER_SECOND = 15
SESSION_SECONDS = 45


@pytest.mark.parametrize("returns", [True, False], ids=["and returns", "for good"])
async def test_the_leader_killed_between_join_and_sync(scenario: Scenario, returns: bool) -> None:
    async with scenario.fleet() as here:
        leader = await (await here.worker("leader", fault="leader-dies")).ready()
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(leader, 3)
            follower = await here.worker("follower")
            code = await leader.ended(30)
            await here.taken_for_dead(leader)
            if returns:
                await (await here.worker("leader")).ready()
            await follower.ready()
        outcome = await scenario.outcome(here, within=SESSION_SECONDS + 60)

    assert code == KILLED
    outcome.require_promises()


async def test_a_loop_that_stands_still_beyond_the_session(scenario: Scenario) -> None:
    """The process ends by itself and says why, or it is evicted, comes back, and goes on."""
    async with scenario.fleet() as here:
        stuck = await (await here.worker("stuck", fault="stalls")).ready()
        await (await here.worker("other")).ready()
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(stuck, 3)
            stuck.tell(signal.SIGUSR1)
            await here.taken_for_dead(stuck)
            before = len(here.calls_of(stuck))
            async with asyncio.timeout(STALL_SECONDS + 30):
                while stuck.exit_code is None and len(here.calls_of(stuck)) == before:
                    await asyncio.sleep(0.1)
            code = stuck.exit_code
        outcome = await scenario.outcome(here)

    assert code in (None, 4)
    outcome.require_promises()


async def test_the_same_slot_started_twice(scenario: Scenario, tmp_path: Path) -> None:
    """On two hosts, where no lock tells: one of them goes and says why, the other works on."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with scenario.fleet() as here:
        first = await (await here.worker("twin")).ready()
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(first, 3)
            second = await here.worker("twin", TMPDIR=str(elsewhere))
            async with asyncio.timeout(60):
                while first.exit_code is None and second.exit_code is None:
                    await asyncio.sleep(0.1)
            gone, stays = (first, second) if first.exit_code is not None else (second, first)
            said = gone.log.read_text()
            await here.until_in_flight(stays, 3)
        outcome = await scenario.outcome(here)

    outcome.require_nothing_lost()
    assert gone.exit_code in (2, 4)
    assert "instance id" in said
