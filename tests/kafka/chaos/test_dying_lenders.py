"""A worker that is killed while it ends calls of partitions that others own by now."""

import asyncio
import signal

import pytest

from tests.kafka.chaos.fleet import Fleet
from tests.kafka.chaos.scenario import Scenario

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(400)]

PER_SECOND = 15
IN_HAND = 60
SESSION_SECONDS = 45
MARGIN_SECONDS = 15


def last_repeat(here: Fleet) -> float:
    """Seconds from the kill to the last second call of a job."""
    repeats = here.extra_calls()
    return max(call.began for call in here.calls if call.job in repeats) - here.deaths[0].at


@pytest.mark.parametrize("how", ["leaving", "sharing"])
async def test_a_lender_killed_for_good_while(scenario: Scenario, how: str) -> None:
    """Nobody tells the group: what it lent is released when its session ends."""
    async with scenario.fleet(latency=(20, 0), drain_seconds=60) as here:
        lender = await (await here.worker("lender")).ready()
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(lender, IN_HAND)
            owner = await (await here.worker("owner")).ready()
            if how == "leaving":
                lender.tell(signal.SIGTERM)
            await here.until_in_flight(owner, PER_SECOND)
            await here.kill(lender)
        outcome = await scenario.outcome(here, within=SESSION_SECONDS + 60)
        repeated_within = last_repeat(here)

    outcome.require_promises()
    assert outcome.row.extra_calls >= IN_HAND // 2
    assert repeated_within < SESSION_SECONDS + MARGIN_SECONDS


async def test_a_lender_killed_while_it_lends_and_back_at_once(scenario: Scenario) -> None:
    """Its new incarnation shows that the old one is dead: no session has to end."""
    async with scenario.fleet(latency=(20, 0), drain_seconds=60) as here:
        lender = await (await here.worker("lender")).ready()
        async with here.publisher.at(PER_SECOND):
            await here.until_in_flight(lender, IN_HAND)
            owner = await (await here.worker("owner")).ready()
            await here.until_in_flight(owner, PER_SECOND)
            await here.kill(lender)
            await (await here.worker("lender")).ready()
            await asyncio.sleep(MARGIN_SECONDS)
        outcome = await scenario.outcome(here)
        repeated_within = last_repeat(here)

    outcome.require_promises()
    assert outcome.row.extra_calls >= IN_HAND // 2
    assert repeated_within < MARGIN_SECONDS
