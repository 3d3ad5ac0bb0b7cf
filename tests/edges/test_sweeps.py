"""Sweeps: after a better verdict and by the clock, each to the end as it was when it began."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from aiokafka import TopicPartition

from outlast.core.choose import Fleet
from outlast.core.errors import Released
from outlast.core.policy import Target
from outlast.edges.kafka import sweeps as module
from outlast.edges.kafka.sweeps import Sweeps
from outlast_schemas.health import BreakerWord, Health, ModelHealth
from outlast_schemas.job import Job, Origin
from tests.core.given import CATALOGUE, HOUR, NOW, a_fleet, a_job
from tests.stages.fakes import FrozenClock, turns

CLOSED, OPEN, HALF = BreakerWord.CLOSED, BreakerWord.OPEN, BreakerWord.HALF_OPEN
TOPIC = "outlast.parked"
BOUND = 20.0


class Passes:
    """Who stands in the way is said by the test."""

    def __init__(self) -> None:
        self.in_the_way: set[int] = set()
        self.stopped: list[str] = []
        self.began: Callable[[Mapping[TopicPartition, int]], None] = lambda _: None

    def watch(self, began: Callable[[Mapping[TopicPartition, int]], None]) -> None:
        self.began = began

    def is_in_the_way(self, job: Job, target: Target | None = None) -> bool:
        return job.origin.offset in self.in_the_way

    def stop(self, provider: str) -> None:
        self.stopped.append(provider)


class Parked:
    """The parked topic, two partitions, and the fleet it waits for."""

    def __init__(self, *down: str) -> None:
        self.ends = {TopicPartition(TOPIC, 0): 10, TopicPartition(TOPIC, 1): 0}
        self.down = down
        self.passes = Passes()
        self.places = 1_000
        self.looks = 0
        self.looks_at_sweeps: list[int] = []
        self.clock = FrozenClock()
        self.sweeps = Sweeps(
            catalogue=CATALOGUE,
            clock=self.clock,
            fleet=self._fleet,
            ends=self._ends,
            passes=self.passes,
            pace=self,
        )

    def room(self, target: Target) -> int:
        return self.places

    def sent(self, target: Target) -> None:
        self.places -= 1

    def _fleet(self) -> Fleet:
        self.looks += 1
        return a_fleet(*self.down)

    async def _ends(self) -> Mapping[TopicPartition, int]:
        self.looks_at_sweeps.append(self.looks)
        return dict(self.ends)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.sweeps.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def until_looked(self, times: int) -> None:
        async with asyncio.timeout(BOUND):
            while self.looks < times:
                await asyncio.sleep(0.001)

    async def until_swept(self, times: int = 1) -> None:
        async with asyncio.timeout(BOUND):
            while len(self.looks_at_sweeps) < times:
                await asyncio.sleep(0.001)


def parked(offset: int, partition: int = 0, deadline: int = NOW + HOUR) -> Job:
    job = a_job(deadline=deadline)
    return Job(
        id=job.id,
        body=job.body,
        headers=(),
        state=job.state,
        origin=Origin(TOPIC, partition, offset, NOW),
    )


def verdict(**models: BreakerWord) -> Health:
    return Health(
        provider="deepseek",
        epoch=1,
        at=NOW,
        models={name: ModelHealth(state=state, since=NOW) for name, state in models.items()},
    )


async def test_a_sweep_reaches_to_the_end_as_it_was_and_no_further() -> None:
    topic = Parked()
    await topic.sweeps.sweep()
    topic.ends[TopicPartition(TOPIC, 0)] = 20  # what returned to the tail waits for the next

    reached = [topic.sweeps.covers(parked(offset)) for offset in (0, 9, 10, 19)]

    assert reached == [True, True, False, False]
    assert not topic.sweeps.covers(parked(0, partition=1))
    assert not topic.sweeps.covers(parked(0, partition=2))


async def test_who_waits_goes_with_the_sweep_that_covers_it_and_no_other() -> None:
    topic = Parked()
    covered = asyncio.create_task(topic.sweeps.wait(parked(9)))
    beyond = asyncio.create_task(topic.sweeps.wait(parked(10)))
    await turns()
    assert not covered.done()
    await topic.sweeps.sweep()
    await covered
    await turns()

    assert not beyond.done()
    topic.ends[TopicPartition(TOPIC, 0)] = 11
    await topic.sweeps.sweep()
    await beyond


async def test_what_is_read_late_goes_with_the_sweep_it_was_owed() -> None:
    topic = Parked()
    await topic.sweeps.sweep()

    await asyncio.wait_for(topic.sweeps.wait(parked(9)), BOUND)


async def test_a_deadline_ends_the_wait_without_a_sweep() -> None:
    topic = Parked()
    await asyncio.wait_for(topic.sweeps.wait(parked(10, deadline=NOW)), BOUND)
    soon = asyncio.create_task(topic.sweeps.wait(parked(10, deadline=NOW + 20)))
    await turns()
    topic.clock.advance(20)

    await asyncio.wait_for(soon, BOUND)


async def test_who_waits_can_be_let_go_of_but_not_who_may_go() -> None:
    topic = Parked()
    waiting = asyncio.create_task(topic.sweeps.wait(parked(10)))
    await turns()
    await topic.sweeps.sweep()
    topic.sweeps.let_go()

    with pytest.raises(Released):
        await waiting
    with pytest.raises(Released):
        await topic.sweeps.wait(parked(11))
    await topic.sweeps.wait(parked(9))


@pytest.mark.parametrize(
    ("before", "after", "owed"),
    [
        ({"m": OPEN}, {"m": CLOSED}, True),
        ({"m": HALF}, {"m": CLOSED}, True),
        ({"m": OPEN, "n": OPEN}, {"m": OPEN, "n": CLOSED}, True),
        ({"m": OPEN}, {"m": HALF}, False),
        ({"m": HALF}, {"m": OPEN}, False),
        ({"m": CLOSED}, {"m": CLOSED}, False),
        ({"m": CLOSED}, {"m": OPEN}, False),
        ({}, {"m": CLOSED}, False),
    ],
)
async def test_only_a_better_verdict_owes_a_sweep(
    before: dict[str, BreakerWord], after: dict[str, BreakerWord], owed: bool
) -> None:
    topic = Parked("deepseek")
    topic.sweeps.saw(verdict(**before), verdict(**after))

    async with topic.running():
        await turns()

        assert bool(topic.looks_at_sweeps) is owed


async def test_the_first_verdict_ever_read_owes_nothing() -> None:
    topic = Parked()
    topic.sweeps.saw(None, verdict(m=CLOSED))

    async with topic.running():
        await turns()

        assert topic.looks_at_sweeps == []


async def test_under_flapping_a_sweep_is_deferred_and_not_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    topic = Parked()
    async with topic.running():
        for _ in range(6):
            topic.sweeps.saw(verdict(m=OPEN), verdict(m=CLOSED))
            await turns()
        assert len(topic.looks_at_sweeps) == 2  # the third reason is flapping
        topic.clock.advance(60_000)
        await topic.until_swept(3)


async def test_while_somebody_is_up_it_sweeps_every_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    topic = Parked("deepseek", "openai", "anthropic")  # local is up
    topic.sweeps.owe()
    async with topic.running():
        for times in (1, 2, 3, 4):
            await topic.until_swept(times)
            topic.clock.advance(60_000)


async def test_who_cannot_go_stays_until_the_next_sweep_that_covers_it() -> None:
    topic = Parked()
    await topic.sweeps.sweep()
    staying = asyncio.create_task(topic.sweeps.stays(parked(9)))
    beyond = asyncio.create_task(topic.sweeps.stays(parked(10)))
    await turns()
    assert not staying.done()
    await topic.sweeps.sweep()

    assert await staying
    await turns()
    assert not beyond.done()
    beyond.cancel()


async def test_who_stands_in_the_way_stays_no_longer_and_waits_for_no_room() -> None:
    topic = Parked()
    topic.places = 0
    target = Target("deepseek", "m")
    staying = asyncio.create_task(topic.sweeps.stays(parked(3)))
    waiting = asyncio.create_task(topic.sweeps.room(parked(4), target))
    other = asyncio.create_task(topic.sweeps.stays(parked(5)))
    await turns()
    topic.passes.in_the_way = {3, 4}
    topic.passes.began({TopicPartition(TOPIC, 0): 8})

    assert not await staying
    assert not await waiting
    assert not await topic.sweeps.room(parked(4), target)
    topic.places = 1
    assert await topic.sweeps.room(parked(4), target)
    await turns()
    assert not other.done()
    other.cancel()


async def test_those_who_are_let_by_may_go_wherever_the_last_sweep_had_come_to() -> None:
    topic = Parked()
    covered = asyncio.create_task(topic.sweeps.wait(parked(11)))
    await turns()
    topic.passes.began({TopicPartition(TOPIC, 0): 12})
    await covered

    assert not topic.sweeps.covers(parked(12))


async def test_while_nobody_is_up_nothing_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    topic = Parked(*CATALOGUE.providers)
    async with topic.running():
        topic.sweeps.owe()
        topic.clock.advance(20_000)
        await topic.until_looked(5)

        assert topic.looks_at_sweeps == []


async def test_who_stays_wakes_at_its_deadline_and_is_let_go_of() -> None:
    topic = Parked()
    soon = asyncio.create_task(topic.sweeps.stays(parked(9, deadline=NOW + 20)))
    late = asyncio.create_task(topic.sweeps.stays(parked(9)))
    await turns()
    topic.clock.advance(20)
    assert await asyncio.wait_for(soon, BOUND)
    topic.sweeps.let_go()

    with pytest.raises(Released):
        await late


async def test_new_partitions_owe_a_sweep_as_soon_as_somebody_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    topic = Parked(*CATALOGUE.providers)
    async with topic.running():
        topic.sweeps.owe()
        await turns()
        assert topic.looks_at_sweeps == []
        topic.down = ()
        await topic.until_swept()


async def test_a_sweep_stops_when_nobody_is_up_any_more() -> None:
    topic = Parked()
    await topic.sweeps.sweep()
    topic.down = tuple(CATALOGUE.providers)
    topic.sweeps.saw(verdict(m=CLOSED), verdict(m=OPEN))

    assert not topic.sweeps.covers(parked(0))
    assert topic.passes.stopped == ["deepseek"]


async def test_who_has_no_room_waits_and_the_oldest_goes_first() -> None:
    topic = Parked()
    topic.places = 0
    target = Target("deepseek", "m")
    late, early = (
        asyncio.create_task(topic.sweeps.room(parked(offset), target)) for offset in (7, 3)
    )
    await turns()
    topic.places = 1
    topic.sweeps.busy("deepseek")
    assert await early
    await turns()
    assert not late.done()
    topic.sweeps.saw(None, verdict(m=OPEN))

    assert not await late


async def test_who_waits_for_room_is_let_go_of() -> None:
    topic = Parked()
    topic.places = 0
    waiting = asyncio.create_task(topic.sweeps.room(parked(7), Target("deepseek", "m")))
    await turns()
    topic.sweeps.let_go()

    with pytest.raises(Released):
        await waiting
