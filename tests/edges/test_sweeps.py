"""Sweeps: after a better verdict and by the clock, each to the end as it was when it began."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest
from aiokafka import TopicPartition

from outlast.core.choose import Fleet
from outlast.core.errors import Released
from outlast.edges.kafka import sweeps as module
from outlast.edges.kafka.sweeps import Sweeps
from outlast_schemas.health import BreakerWord, Health, ModelHealth
from outlast_schemas.job import Job, Origin
from tests.core.given import CATALOGUE, HOUR, NOW, a_fleet, a_job
from tests.stages.fakes import FrozenClock, turns

CLOSED, OPEN, HALF = BreakerWord.CLOSED, BreakerWord.OPEN, BreakerWord.HALF_OPEN
TOPIC = "outlast.parked"
BOUND = 20.0


class Parked:
    """The parked topic, two partitions, and the fleet it waits for."""

    def __init__(self, *down: str) -> None:
        self.ends = {TopicPartition(TOPIC, 0): 10, TopicPartition(TOPIC, 1): 0}
        self.down = down
        self.crowded = False
        self.looks = 0
        self.looks_at_sweeps: list[int] = []
        self.clock = FrozenClock()
        self.sweeps = Sweeps(
            catalogue=CATALOGUE,
            clock=self.clock,
            fleet=self._fleet,
            ends=self._ends,
            is_crowded=lambda: self.crowded,
        )

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


async def test_each_better_verdict_is_swept_for_once() -> None:
    topic = Parked()
    async with topic.running():
        for _ in range(3):
            topic.sweeps.saw(verdict(m=OPEN), verdict(m=CLOSED))
            await turns()

    assert len(topic.looks_at_sweeps) == 3


async def test_while_somebody_is_up_it_sweeps_at_every_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.005)
    topic = Parked("deepseek", "openai", "anthropic")  # local is up
    async with topic.running():
        await topic.until_swept(3)

    assert topic.looks_at_sweeps[:3] == [1, 2, 3]


async def test_while_nobody_is_up_it_sweeps_for_what_nobody_here_waits_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 1 / 256)
    monkeypatch.setattr(module, "EXPIRY_SECONDS", 4 / 256)
    topic = Parked(*CATALOGUE.providers)
    async with topic.running():
        await topic.until_looked(9)
        assert topic.looks_at_sweeps == []  # who is in flight here wakes at its own deadline
        topic.crowded = True
        await topic.until_swept(2)

    first, second = topic.looks_at_sweeps[:2]
    assert second - first == 3  # the look that sweeps for this reason need not ask who is up


async def test_new_partitions_owe_a_sweep() -> None:
    topic = Parked(*CATALOGUE.providers)
    async with topic.running():
        topic.sweeps.owe()
        await topic.until_swept()
