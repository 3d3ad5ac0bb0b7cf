"""Retry: a job is held until it is due, then asked for anew."""

import asyncio

import pytest

from outlast.core.errors import Released
from outlast.retry import goes_on, retry
from tests.core.given import HOUR, NOW, a_job
from tests.stages.fakes import World, turns

ALL = ("deepseek", "openai", "anthropic")


async def test_a_job_waits_until_it_is_due_and_not_longer() -> None:
    world = World()
    running = asyncio.create_task(retry(a_job(due=NOW + 7_000), world.ports()))
    await turns()
    world.clock.advance(6_999)
    await turns()
    assert world.outbox.told == []
    world.clock.advance(1)
    await running

    assert world.outbox.told == ["work.deepseek"]
    assert (world.outbox.job.state.due, world.outbox.job.state.hop) == (None, 1)


@pytest.mark.parametrize("due", [None, NOW - 1, NOW])
async def test_what_is_due_already_does_not_wait(due: int | None) -> None:
    world = World()

    await retry(a_job(due=due), world.ports())

    assert world.log == ["sent work.deepseek"]  # nor does it rest


async def test_a_job_rests_while_it_waits_and_no_longer() -> None:
    world = World()
    running = asyncio.create_task(retry(a_job(due=NOW + 7_000), world.ports()))
    await turns()
    assert world.starts.resting_now == ["job-1"]
    world.clock.advance(7_000)
    await running

    assert world.log == ["rests", "goes on", "sent work.deepseek"]
    assert world.starts.resting_now == []


@pytest.mark.parametrize("is_due_too", [False, True])
async def test_a_job_whose_partition_moves_while_it_rests_leaves_no_record(
    is_due_too: bool,
) -> None:
    world = World()
    running = asyncio.create_task(retry(a_job(due=NOW + 7_000), world.ports()))
    await turns()
    if is_due_too:
        world.clock.advance(7_000)
    world.starts.move()

    with pytest.raises(Released):
        await running
    assert world.log == ["rests"]
    assert (running.cancelling(), world.clock.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("down", "avoid", "deadline", "expected"),
    [
        (("deepseek",), {}, HOUR, ["work.openai"]),
        ((), {"deepseek": HOUR}, HOUR, ["work.openai"]),
        (ALL, {}, HOUR, ["parked"]),
        ((), dict.fromkeys(ALL, 9_000), HOUR, ["retry.5s"]),
        ((), dict.fromkeys(ALL, 2 * HOUR), HOUR, ["parked"]),  # due after its deadline
        ((), {}, 5_000, ["dead letter: deadline", "results: expired"]),
    ],
)
async def test_when_due_the_world_is_looked_at_anew(
    down: tuple[str, ...], avoid: dict[str, int], deadline: int, expected: list[str]
) -> None:
    world = World()
    until = {name: NOW + ms for name, ms in avoid.items()}
    job = a_job(due=NOW + 5_000, avoid=until, deadline=NOW + deadline)
    running = asyncio.create_task(retry(job, world.ports()))
    await turns()
    world.fleet.down = down  # it came to this while the job waited
    world.clock.advance(5_000)
    await running

    assert world.outbox.told == expected
    assert (world.outbox.job.state.charged, world.outbox.job.state.calls) == (0, 0)
    assert goes_on(job, world.ports()) == world.outbox.hop
    assert goes_on(job, World().ports()) is None  # where it is not due yet


async def test_a_wait_above_the_longest_tier_passes_through_it_again() -> None:
    world = World()
    due = NOW + 900_000
    running = asyncio.create_task(retry(a_job(due=due, hop=4), world.ports()))
    await turns()
    world.clock.advance(599_999)
    await turns()
    assert world.outbox.told == []
    world.clock.advance(1)
    await running

    assert world.outbox.told == ["retry.10m"]
    state = world.outbox.job.state
    assert (state.due, state.hop, state.deferrals) == (due, 5, 0)


async def test_a_job_let_go_of_leaves_no_record() -> None:
    world = World()
    running = asyncio.create_task(retry(a_job(due=NOW + 5_000), world.ports()))
    await turns()
    world.clock.let_go()

    with pytest.raises(Released):
        await running
    assert world.outbox.told == []


async def test_an_embeddings_job_goes_on_to_one_who_has_embeddings() -> None:
    world = World()

    await retry(a_job(("outlast-operation", b"embeddings")), world.ports())

    assert world.outbox.told == ["work.openai"]
