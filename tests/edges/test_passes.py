"""Parked jobs over hours: who cannot go stays as it is, and is written anew only for others."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from outlast_schemas.health import BreakerWord
from tests.core.given import CATALOGUE
from tests.edges.parked_topic import Loop, World

HOURS = 3_600
ALL = tuple(CATALOGUE.providers)
CHAT = ("deepseek", "openai", "anthropic")


def played(story: Callable[[World], Awaitable[None]], **shape: Any) -> World:
    """The world after a story that begins with everybody up."""
    loop = Loop()
    world = World(loop, **shape)

    async def told() -> None:
        world.begin()
        try:
            await story(world)
        finally:
            await world.end()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(told())
    return world


def test_seven_hours_without_anybody_write_nothing() -> None:
    async def story(world: World) -> None:
        world.down(*ALL)
        for number in range(200):
            world.park(f"job-{number}")
            await asyncio.sleep(7 * HOURS / 200)

    world = played(story)

    assert set(world.written.values()) == {1}
    assert world.left == {}


def test_jobs_whose_own_providers_are_down_are_not_written_again_while_others_are_up() -> None:
    async def story(world: World) -> None:
        world.down(*CHAT)  # local is up, and gets flapping beside
        for number in range(200):
            world.park(f"job-{number}")
            await asyncio.sleep(7 * HOURS / 200)
            world.say("local", BreakerWord.OPEN if number % 2 else BreakerWord.CLOSED)

    world = played(story)

    assert set(world.written.values()) == {1}
    assert len(world.parked()) == 200


def test_a_few_late_jobs_do_not_have_a_long_backlog_written_again_for_each_of_them() -> None:
    async def story(world: World) -> None:
        world.down(*CHAT)
        for number in range(600):
            world.park(f"job-{number}")
        for number in range(300):
            world.park(f"late-{number}", route="private")
            await asyncio.sleep(20)
        await asyncio.sleep(600)

    world = played(story)

    assert set(world.left) == {f"late-{number}" for number in range(300)}
    # The first passes come soon after each other; then one job a second and partition.
    burst = 600 * 5
    assert world.written.total() - 900 <= burst + 2 * 6_600


def test_one_who_can_go_behind_those_who_cannot_is_let_by_at_once() -> None:
    async def story(world: World) -> None:
        world.down(*CHAT)
        for number in range(50):
            world.park(f"job-{number}")
        world.park("late", route="private")
        await asyncio.sleep(10)

    world = played(story)

    assert world.left == {"late": ["local"]}
    assert max(world.written.values()) == 2  # each is passed over once


def test_who_waits_for_a_slow_provider_lets_others_by_who_go_elsewhere() -> None:
    async def story(world: World) -> None:
        world.pools["deepseek"].limit = 0
        for number in range(50):
            world.park(f"slow-{number}")
        for number in range(20):
            world.park(f"late-{number}", route="private")
        await asyncio.sleep(60)

    world = played(story)

    assert set(world.left) == {f"late-{number}" for number in range(20)}
    assert max(world.written.values()) == 2


@pytest.mark.parametrize("is_up", [True, False])
def test_a_job_with_less_time_behind_others_is_told_in_five_minutes_that_it_expired(
    is_up: bool,
) -> None:
    async def story(world: World) -> None:
        world.down(*CHAT, *(() if is_up else ("local",)))
        for number in range(50):
            world.park(f"job-{number}")
        world.park("first", seconds=100)
        world.park("second", seconds=200)
        world.park("third", seconds=300)
        for until, job_id in ((100 + 300, "first"), (200 + 300, "second"), (300 + 300, "third")):
            await asyncio.sleep(until - world.loop.time())
            assert world.left.get(job_id) == ["expired"]

    world = played(story)

    assert len(world.left) == 3


def test_the_oldest_go_first_and_no_more_than_there_is_room_for() -> None:
    async def story(world: World) -> None:
        world.down(*ALL)
        for number in range(60):
            world.park(f"job-{number:02}")
            await asyncio.sleep(1)
        world.up("deepseek")
        await asyncio.sleep(60)

    world = played(story, partitions=1)

    assert list(world.left) == [f"job-{number:02}" for number in range(60)]
    assert world.pools["deepseek"].most == 4
    assert set(world.written.values()) == {1}


def test_when_it_goes_down_meanwhile_what_has_not_left_stays_as_it_is() -> None:
    async def story(world: World) -> None:
        world.down(*ALL)
        for number in range(60):
            world.park(f"job-{number}")
        world.up("deepseek")
        await asyncio.sleep(5)
        world.down("deepseek")
        await asyncio.sleep(HOURS)

    world = played(story)

    assert 0 < len(world.left) < 20
    assert set(world.written.values()) == {1}
