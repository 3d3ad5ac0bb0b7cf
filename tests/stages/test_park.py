"""Park: jobs wait free of charge, and leave by themselves when somebody is up."""

import asyncio

import pytest

from outlast.core.errors import Released
from outlast.park import park
from tests.core.given import HOUR, NOW, a_job
from tests.stages.fakes import World, turns

ALL = ("deepseek", "openai", "anthropic")


async def test_nothing_moves_before_a_sweep_even_when_somebody_is_up() -> None:
    world = World()
    running = asyncio.create_task(park(a_job(), world.park_ports()))
    await turns()

    assert world.sweeps.waiting == ["job-1"]
    assert world.outbox.told == []
    world.sweeps.sweep()
    await running


async def test_a_job_rests_until_the_sweep_and_no_longer() -> None:
    world = World()
    running = asyncio.create_task(park(a_job(), world.park_ports()))
    await turns()
    assert world.starts.resting_now == ["job-1"]
    world.sweeps.sweep()
    await running

    assert world.log == ["rests", "goes on", "sent work.deepseek"]
    assert world.starts.resting_now == []


@pytest.mark.parametrize("is_swept_too", [False, True])
async def test_a_job_whose_partition_moves_while_it_rests_leaves_no_record(
    is_swept_too: bool,
) -> None:
    world = World()
    running = asyncio.create_task(park(a_job(), world.park_ports()))
    await turns()
    if is_swept_too:
        world.sweeps.sweep()
    world.starts.move()

    with pytest.raises(Released):
        await running
    assert (world.log, running.cancelling()) == (["rests"], 0)


@pytest.mark.parametrize(
    ("down", "avoid", "expected"),
    [
        (("deepseek", "anthropic"), {}, "work.openai"),
        ((), {}, "work.deepseek"),
        ((), {"deepseek": NOW + HOUR}, "work.openai"),
        # what it stayed away from for a moment is over: it starts over
        ((), dict.fromkeys(ALL, NOW + 60_000), "work.deepseek"),
    ],
)
async def test_on_a_sweep_what_can_go_goes(
    down: tuple[str, ...], avoid: dict[str, int], expected: str
) -> None:
    world = World(*ALL)
    job = a_job(avoid=avoid, hop=6)
    running = asyncio.create_task(park(job, world.park_ports()))
    await turns()
    world.fleet.down = down  # what counts is the world at the sweep
    world.sweeps.sweep()
    await running

    assert world.outbox.told == [expected]
    assert world.outbox.job.state.hop == 7


@pytest.mark.parametrize(
    ("down", "avoid"),
    [
        (ALL, {}),
        # somebody is up, but not for this job yet
        ((), dict.fromkeys(ALL, NOW + HOUR)),
    ],
)
async def test_what_cannot_go_stays_where_it_is_however_often_it_is_swept(
    down: tuple[str, ...], avoid: dict[str, int]
) -> None:
    world = World(*down)
    running = asyncio.create_task(park(a_job(avoid=avoid), world.park_ports()))
    for sweeps in range(1, 4):
        world.sweeps.sweep()
        await turns()
        assert len(world.sweeps.staying) == sweeps
    assert (world.outbox.told, world.starts.resting_now) == ([], ["job-1"])
    world.fleet.down = ()
    world.clock.advance(HOUR - 1)
    world.sweeps.sweep()
    await running

    assert world.outbox.told == ["work.deepseek"]


@pytest.mark.parametrize("has_room", [True, False])
@pytest.mark.parametrize("down", [ALL, ()])
async def test_only_what_keeps_others_from_leaving_returns_to_the_tail(
    down: tuple[str, ...], has_room: bool
) -> None:
    world = World(*down)
    if not has_room:
        world.sweeps.has_room.clear()
    world.sweeps.sweep()
    running = asyncio.create_task(park(a_job(), world.park_ports()))
    await turns()
    world.sweeps.pass_over()
    await running

    assert world.outbox.told == ["work.deepseek" if has_room and not down else "parked"]


async def test_returning_to_the_tail_costs_a_deferral_and_nothing_else() -> None:
    world = World(*ALL)
    world.sweeps.sweep()
    world.sweeps.pass_over()

    await park(a_job(deferrals=3, charged=2, calls=5), world.park_ports())

    state = world.outbox.job.state
    assert (state.deferrals, state.charged, state.calls) == (4, 2, 5)


@pytest.mark.parametrize("down", [(), ALL])
async def test_a_parked_job_past_its_deadline_expires_at_the_next_touch(
    down: tuple[str, ...],
) -> None:
    world = World(*down)
    running = asyncio.create_task(park(a_job(deadline=NOW + 1_000), world.park_ports()))
    await turns()
    world.clock.advance(1_000)
    world.sweeps.sweep()
    await running

    assert world.outbox.told == ["dead letter: deadline", "results: expired"]


async def test_a_job_whose_scope_allows_nobody_any_more_is_dead_lettered() -> None:
    world = World()
    world.sweeps.sweep()

    await park(a_job(("outlast-scope", b"jurisdiction:eu")), world.park_ports())

    assert world.outbox.told == ["dead letter: scope", "results: dead_lettered"]


async def test_a_job_let_go_of_leaves_no_record() -> None:
    world = World()
    running = asyncio.create_task(park(a_job(), world.park_ports()))
    await turns()
    world.sweeps.let_go()

    with pytest.raises(Released):
        await running
    assert world.outbox.told == []


async def test_an_embeddings_job_leaves_only_for_one_who_has_embeddings() -> None:
    world = World("openai")
    world.sweeps.sweep()
    job = a_job(("outlast-operation", b"embeddings"))
    running = asyncio.create_task(park(job, world.park_ports()))
    await turns()
    assert (world.sweeps.staying, world.outbox.told) == (["job-1"], [])
    world.fleet.down = ()
    world.sweeps.sweep()
    await running

    assert world.outbox.told == ["work.openai"]


@pytest.mark.parametrize(
    ("down", "expected"), [((), "openai/luna"), (("openai", "anthropic"), "deepseek/flash")]
)
async def test_a_job_waits_for_one_who_ramps_only_where_no_alternate_is_up(
    down: tuple[str, ...], expected: str
) -> None:
    world = World(*down)
    world.full = ("deepseek",)
    world.sweeps.has_room.clear()
    world.sweeps.sweep()
    running = asyncio.create_task(park(a_job(), world.park_ports()))
    await turns()
    assert world.sweeps.wanting == [expected]
    world.sweeps.has_room.set()
    await running

    assert world.outbox.told == [f"work.{expected.partition('/')[0]}"]


async def test_for_want_of_room_a_job_stays_where_it_is() -> None:
    world = World()
    world.sweeps.has_room.clear()
    world.sweeps.sweep()
    running = asyncio.create_task(park(a_job(), world.park_ports()))
    await turns()
    assert (world.sweeps.wanting, world.outbox.told) == (["deepseek/flash"], [])
    assert world.starts.resting_now == ["job-1"]
    world.sweeps.has_room.set()
    await running

    assert world.outbox.told == ["work.deepseek"]


async def test_a_job_whose_sweep_is_stopped_goes_back_to_waiting_without_a_record() -> None:
    world = World()
    world.sweeps.has_room.clear()
    world.sweeps.sweep()
    running = asyncio.create_task(park(a_job(), world.park_ports()))
    await turns()
    world.sweeps.stop()
    await turns()
    assert (world.outbox.told, world.starts.resting_now) == ([], ["job-1"])
    world.sweeps.sweep()
    await running

    assert world.outbox.told == ["work.deepseek"]
