"""Many calls in flight, one key for all, and a pool that several processes share."""

import asyncio
from pathlib import Path

import pytest

from outlast.drill.simulator import Behaviour, Simulator
from outlast_schemas.result import Status
from tests.e2e.scene import scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

OPENAI = "openai/gpt-6-luna"


async def in_flight_reaches(simulator: Simulator, count: int, seconds: float = 30.0) -> None:
    """Wait until the provider sees so many calls at once."""
    async with asyncio.timeout(seconds):
        while simulator.counters.in_flight < count:
            await asyncio.sleep(0.02)


async def test_a_thousand_jobs_under_one_key_are_a_thousand_results(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka) as world:
        await (await world.start()).ready()
        await world.publish(*(f"job {number}" for number in range(1_000)), key=b"one-customer")
        ended = await world.results(1_000)

    assert {each.result.status for each in ended} == {Status.SUCCEEDED}
    assert len({each.result.text for each in ended}) == 1_000
    assert world.repeats == 0


async def test_one_worker_has_more_than_a_thousand_calls_in_flight(
    tmp_path: Path, kafka: str
) -> None:
    second = Behaviour(latency_seconds=1.0)
    async with scene(
        tmp_path,
        kafka,
        ("deepseek",),
        behaviour=second,
        concurrency=2_000,
        clocks="first_token_seconds = 30",
    ) as world:
        await (await world.start()).ready()
        await world.publish(*(f"job {number}" for number in range(2_000)))
        await world.results(2_000)
        counters = world.simulators["deepseek"].counters

    assert counters.max_in_flight > 1_000
    assert counters.started == 2_000


async def test_three_processes_share_a_pool_up_to_its_limit(tmp_path: Path, kafka: str) -> None:
    """One process may make 20 calls at once, the pool 60: each one that joins adds its 20.

    The pool beside it goes on at its own pace: nothing of it moves.
    """
    slow = Behaviour(latency_seconds=1.0)
    async with scene(
        tmp_path,
        kafka,
        behaviour=slow,
        concurrency=60,
        clocks="idle_seconds = 60",
        topics="partitions = 12",
    ) as world:
        deepseek, openai = world.simulators["deepseek"], world.simulators["openai"]
        for stage in ("route", "retry"):
            await (await world.start(stage)).ready()
        beside = await (
            await world.start("work", "--provider", "openai", "--max-in-flight", "10")
        ).ready()
        await world.publish(*(f"job {number}" for number in range(700)))
        await world.publish(*(f"job {number}" for number in range(150)), model=OPENAI)
        most: list[int] = []
        for _ in range(3):
            deepseek.reset_counters()
            pool = ("work", "--provider", "deepseek", "--max-in-flight", "20")
            await (await world.start(*pool)).ready()
            await in_flight_reaches(deepseek, 20 * (len(most) + 1))
            most.append(deepseek.counters.max_in_flight)
        ended = await world.results(850)

    assert most == [20, 40, 60]
    assert deepseek.counters.max_in_flight == 60
    assert openai.counters.max_in_flight == 10
    assert openai.counters.started == 150
    assert beside.log.read_text().count('"feed.assigned"') == 1
    assert {each.result.status for each in ended} == {Status.SUCCEEDED}


async def test_processes_without_a_bound_of_their_own_split_the_limit(
    tmp_path: Path, kafka: str
) -> None:
    """Three owners of 12 partitions and 30 permits: never 31 calls."""
    slow = Behaviour(latency_seconds=0.5)
    twelve = "partitions = 12"
    async with scene(
        tmp_path, kafka, ("deepseek",), behaviour=slow, concurrency=30, topics=twelve
    ) as world:
        deepseek = world.simulators["deepseek"]
        for arguments in (("route",), ("retry",), *[("work", "--provider", "deepseek")] * 3):
            await (await world.start(*arguments)).ready()
        await world.publish(*(f"job {number}" for number in range(300)))
        await world.results(300)

    assert deepseek.counters.max_in_flight == 30
    assert deepseek.counters.started == 300


async def test_a_worker_beside_all_stages_shares_the_pool(tmp_path: Path, kafka: str) -> None:
    """The pair that `run --help` shows, on one host: each is a member of its own."""
    slow = Behaviour(latency_seconds=0.3)
    async with scene(tmp_path, kafka, ("deepseek",), behaviour=slow, concurrency=24) as world:
        deepseek = world.simulators["deepseek"]
        await (await world.start()).ready()
        await (await world.start("work", "--provider", "deepseek")).ready()
        await world.publish(*(f"job {number}" for number in range(200)))
        await world.results(200)

    assert deepseek.counters.started == 200
    assert deepseek.counters.max_in_flight == 24
    assert world.repeats == 0


async def test_more_parked_jobs_than_one_commit_can_list_all_leave(
    tmp_path: Path, kafka: str
) -> None:
    """One partition, 2,600 jobs parked in it, handed over by a stop, and then served."""
    async with scene(
        tmp_path, kafka, ("deepseek",), concurrency=100, topics="partitions = 1"
    ) as world:
        deepseek = world.simulators["deepseek"]
        await deepseek.set_mode("refuse")
        first = await (await world.start()).ready()
        await world.publish(*(f"job {number}" for number in range(2_600)))
        await world.until_depth(world.topics.parked, 2_600)
        assert await first.stop() == 0
        await (await world.start()).ready()
        await deepseek.set_mode("ok")
        ended = await world.results(2_600)

    assert {each.result.status for each in ended} == {Status.SUCCEEDED}
