"""A pool's rates, kept by all of its workers together; the provider enforces and counts."""

import asyncio
import json
from pathlib import Path
from typing import Final

import pytest

from outlast.drill.simulator import Behaviour
from tests.e2e.scene import Scene, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.drill]

MINUTE: Final = 60.0
TO_FILL: Final = 8.0
"""What the pool needs to be at work; the minute that counts begins after it."""


def a_body(number: int) -> bytes:
    """A request that says how long its answer may be, and mostly gets it."""
    content = f"job {number} " + 50 * "and more"
    messages = [{"role": "user", "content": content}]
    return json.dumps({"model": "chat", "messages": messages, "max_tokens": 64}).encode()


async def after(seconds: float) -> None:
    """A minute has to pass: it is the unit of what is tested."""
    await asyncio.sleep(seconds)


async def a_minute(world: Scene, jobs: int, *, grows: bool) -> dict[str, int]:
    """What the provider saw in some ninety seconds of three workers under backlog."""
    deepseek = world.simulators["deepseek"]
    for arguments in (("route",), ("retry",), *[("work", "--provider", "deepseek")] * 3):
        await (await world.start(*arguments)).ready()
    for number in range(jobs):
        await world.publish(body=a_body(number))
    await after(TO_FILL)
    if grows:
        await after(MINUTE / 4)
        fourth = await (await world.start("work", "--provider", "deepseek")).ready()
        await after(MINUTE / 4)
        assert await fourth.stop() == 0
        await after(MINUTE / 2)
    else:
        await after(MINUTE + 5)
    counters = deepseek.counters
    return {
        "requests": counters.most_arrived_per_minute,
        "tokens": counters.most_tokens_per_minute,
        "refused": counters.answered.get(429, 0),
    }


@pytest.mark.parametrize("grows", [False, True], ids=["three workers", "one joins and leaves"])
async def test_requests_a_minute_are_kept_and_used(tmp_path: Path, kafka: str, grows: bool) -> None:
    limit = 600
    slow = Behaviour(latency_seconds=0.5, latency_spread_seconds=0.5)
    rates = f", requests_per_minute = {limit}"
    async with scene(tmp_path, kafka, ("deepseek",), behaviour=slow, rates=rates) as world:
        seen = await a_minute(world, 2 * limit, grows=grows)

    assert seen["requests"] <= limit * 1.02, seen
    assert seen["requests"] >= limit * (0.90 if grows else 0.95), seen


async def test_tokens_a_minute_are_kept_and_used(tmp_path: Path, kafka: str) -> None:
    limit = 60_000
    slow = Behaviour(latency_seconds=0.5, latency_spread_seconds=0.5)
    rates = f", tokens_per_minute = {limit}"
    async with scene(tmp_path, kafka, ("deepseek",), behaviour=slow, rates=rates) as world:
        seen = await a_minute(world, 1_000, grows=False)

    assert seen["tokens"] <= limit * 1.02, seen
    assert seen["tokens"] >= limit * 0.95, seen
