"""Every stage in a process of its own, each killed and started again in turn under load."""

import asyncio

import pytest

from tests.kafka.chaos.fleet import Fleet
from tests.kafka.chaos.scenario import Scenario
from tests.kafka.chaos.worker import Worker

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(400)]

PER_SECOND = 25
STAGES = ("route", "work", "retry", "park", "health")


async def test_stages_killed_and_restarted_in_turn(scenario: Scenario) -> None:
    """While one provider is down, while both are, and when they are back."""
    async with scenario.fleet(*STAGES, providers=("deepseek", "openai")) as here:
        running = {each.slot: each for each in here.processes if isinstance(each, Worker)}
        deepseek, openai = here.simulators["deepseek"], here.simulators["openai"]
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(running["work"], 3)
            await deepseek.set_mode("unavailable")
            await replaced(here, running, "route", "retry", "work", "health")
            await openai.set_mode("unavailable")
            await here.until_deep(here.topics.parked, 3 * PER_SECOND)
            await replaced(here, running, "park", "retry")
            await openai.set_mode("ok")
            await deepseek.set_mode("ok")
            await replaced(here, running, *STAGES)
        outcome = await scenario.outcome(here, within=100, shows_pauses=False)

    outcome.require_promises()


async def replaced(here: Fleet, running: dict[str, Worker], *stages: str) -> None:
    """Kill each of these and start it again a second later."""
    for stage in stages:
        await here.kill(running[stage])
        await asyncio.sleep(1)
        running[stage] = await (await here.launch(stage, stage)).ready()
        await asyncio.sleep(0.5)
