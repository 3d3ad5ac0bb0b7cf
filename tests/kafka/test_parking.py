"""Parking on real Kafka: recovery is paced and in order; an outage writes each job about once."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from outlast.drill.simulator import Behaviour
from outlast.edges.kafka.connection import admin, producer
from outlast.edges.kafka.scan import from_the_first, scan
from outlast.edges.kafka.topics import partitions
from outlast_schemas.headers import ID, STATE
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.result import Status
from outlast_schemas.state import State
from outlast_schemas.vitals import Vitals
from tests.e2e.scene import MODELS, Process, Scene, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

ROOT: Final = Path(__file__).parents[2]
TOPICS: Final = "partitions = 6"
SEVEN_HOURS: Final = 7 * 3_600
BODY: Final = 500 * "x"
NEVER_OLD: Final = 2**52
"""The date of these tests' verdicts, lest a hastened clock finds them old."""


async def records(world: Scene, topic: str) -> list[Any]:
    """All of a topic."""
    client = admin(world.kafka)
    await client.start()
    try:
        count = (await partitions([topic], client))[topic]
    finally:
        await client.close()
    starts = from_the_first(TopicPartition(topic, number) for number in range(count))
    async with aclosing(scan(world.kafka, starts)) as found:
        return [record async for record in found]


def state_of(record: Any) -> State:
    return State.from_json(json.loads(dict(record.headers)[STATE] or b""))


def id_of(record: Any) -> str:
    return (dict(record.headers)[ID] or b"").decode()


def size_of(record: Any) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


async def test_after_an_outage_of_all_the_parked_jobs_leave_in_order_and_no_faster_than_served(
    tmp_path: Path, kafka: str
) -> None:
    jobs, limit = 300, 8
    behaviour = Behaviour(latency_seconds=0.1)
    async with scene(
        tmp_path, kafka, behaviour=behaviour, concurrency=limit, topics=TOPICS
    ) as world:
        for simulator in world.simulators.values():
            await simulator.set_mode("unavailable")
        await (await world.start()).ready()
        # The first find out that all are down, so that the others are parked at once.
        for first, end in ((0, 40), (40, jobs)):
            await world.publish(*(f"job {number}" for number in range(first, end)))
            await world.until_depth(world.topics.parked, end, seconds=90)
        deepseek = world.simulators["deepseek"]
        deepseek.reset_counters()
        await deepseek.set_mode("ok")
        ended = await world.results(jobs, seconds=120)
        moved = await records(world, world.topics.work("deepseek"))
        parked = await records(world, world.topics.parked)
        told = await records(world, world.topics.vitals)
        said = await records(world, world.topics.health)
        report = await world.audited()

    # Each is served once, and nobody was charged for the outage.
    assert {each.result.status for each in ended} == {Status.SUCCEEDED}
    assert {each.state.charged for each in ended} == {0}
    assert (world.repeats, report["lost"], report["succeeded"]) == (0, 0, jobs)
    calls = deepseek.counters
    assert {calls.calls_of(f"job {number}") for number in range(jobs)} == {1}

    # The provider is trusted step by step.
    heard = verdicts(said, "deepseek")
    steps = [word for word, _ in groupby(map(word_of, heard))]
    assert steps[-4:] == [
        BreakerWord.OPEN,
        BreakerWord.HALF_OPEN,
        BreakerWord.RAMP,
        BreakerWord.CLOSED,
    ]

    # The pool never held much more than it had room for, the ramp and the delay of a word included.
    up_at = max(health.at for health in heard if word_of(health) is BreakerWord.HALF_OPEN)
    held = [
        each.in_flight + each.queued
        for each in (Vitals.from_json(json.loads(record.value)) for record in told)
        if each.provider == "deepseek" and each.at > up_at
    ]
    assert max(held) <= 3 * limit, held

    # The oldest left first, each before those that came more than what is under way later.
    parked_at = {id_of(record): record.timestamp for record in parked}
    last = {id_of(each): each for each in sorted(moved, key=lambda each: each.timestamp)}
    left = sorted(last.values(), key=lambda each: each.timestamp)
    assert all(each.timestamp >= parked_at[id_of(each)] for each in left)
    accepted = [state_of(each).accepted for each in left]
    places = sorted(range(jobs), key=lambda place: accepted[place])
    assert max(abs(place - rank) for rank, place in enumerate(places)) <= 4 * limit


def word_of(health: Health) -> BreakerWord:
    """The verdict on all of it that was judged, by the worst."""
    words = [each.state for each in health.models.values()]
    worst = (BreakerWord.OPEN, BreakerWord.HALF_OPEN, BreakerWord.RAMP)
    return next((word for word in worst if word in words), BreakerWord.CLOSED)


def verdicts(said: Iterable[Any], provider: str) -> list[Health]:
    """What was said of a provider, in order."""
    ours = [record for record in said if record.key == provider.encode() and record.value]
    return [
        Health.from_json(json.loads(record.value))
        for record in sorted(ours, key=lambda record: record.offset)
    ]


class Hastened:
    """A process of ours whose clock goes so many times as fast, and whom we tell who is up."""

    def __init__(self, world: Scene, times: float, writer: AIOKafkaProducer) -> None:
        self._world, self._times, self._writer = world, times, writer

    async def say(self, provider: str, word: BreakerWord) -> None:
        """As the owner of verdicts would, who does not run here."""
        models = {EVERY_MODEL: ModelHealth(state=word, since=0)}
        health = Health(provider=provider, epoch=1, at=NEVER_OLD, models=models)
        value = json.dumps(health.to_json()).encode()
        await self._writer.send_and_wait(self._world.topics.health, value, key=provider.encode())

    async def passes(self, seconds: float) -> None:
        """So long by the clock of the process."""
        await asyncio.sleep(seconds / self._times)


@asynccontextmanager
async def hastened(world: Scene, times: float) -> AsyncIterator[Hastened]:
    """PARK in a hastened process, ROUTE in another; all are down but anthropic."""
    writer = producer(world.kafka)
    await writer.start()
    told = Hastened(world, times, writer)
    for name in world.simulators:
        await told.say(name, BreakerWord.CLOSED if name == "anthropic" else BreakerWord.OPEN)
    route = await world.start("route")
    log = world.directory / "hastened.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.kafka.hastened", str(times), "run", "park"),
            env={**world.environ, "PYTHONPATH": os.pathsep.join(("services", "schemas", "."))},
            cwd=ROOT,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    started = Process(process, log)
    world.processes.append(started)
    try:
        await asyncio.gather(route.ready(), started.ready())
        yield told
    finally:
        await writer.stop()


@pytest.mark.parametrize(
    ("jobs", "times"),
    [
        pytest.param(
            9_000, 840.0, id="9,000 jobs", marks=[pytest.mark.drill, pytest.mark.timeout(300)]
        ),
        pytest.param(
            100_000,
            120.0,
            id="100,000 jobs",
            marks=[pytest.mark.drill, pytest.mark.timeout(1_200)],
        ),
    ],
)
async def test_in_seven_hours_each_job_is_written_to_the_parked_topic_about_once(
    tmp_path: Path, kafka: str, capsys: pytest.CaptureFixture[str], jobs: int, times: float
) -> None:
    """All that the jobs may go to is down; beside them a provider flaps and serves others."""
    asks = {"outlast-scope": "deepseek,openai"}
    chunks = 84
    names = ("deepseek", "openai", "anthropic")
    async with scene(tmp_path, kafka, names, topics=TOPICS) as world:
        async with hastened(world, times) as process:
            late = 0
            for chunk in range(chunks):  # five minutes each
                count = jobs * (chunk + 1) // chunks - jobs * chunk // chunks
                flaps = BreakerWord.OPEN if chunk % 2 else BreakerWord.CLOSED
                await process.say("anthropic", flaps)
                await asyncio.gather(
                    world.publish(*(f"{n} {BODY}" for n in range(count)), headers=asks),
                    process.passes(SEVEN_HOURS / chunks),
                )
                if chunk in (21, 43, 63):  # anthropic is down: these wait behind the others
                    await world.publish(
                        *(f"late {n} {BODY}" for n in range(100)),
                        model=f"anthropic/{MODELS['anthropic']}",
                    )
                    late += 100
            await process.say("anthropic", BreakerWord.CLOSED)
            await world.until_depth(world.topics.parked, jobs, seconds=120)
            written = await records(world, world.topics.parked)
            for name in ("deepseek", "openai"):
                await process.say(name, BreakerWord.CLOSED)
            await world.until_depth(world.topics.parked, 0, seconds=240)
            moved = [
                id_of(record)
                for name in names
                for record in await records(world, world.topics.work(name))
            ]
        assert not [each for each in world.logs().splitlines() if '"level":"error"' in each]

    firsts: dict[str, int] = {}
    for record in sorted(written, key=lambda each: state_of(each).hop):
        firsts.setdefault(id_of(record), size_of(record))
    backlog, total = sum(firsts.values()), sum(map(size_of, written))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{jobs:,} jobs in seven hours: {backlog / 1e6:.1f} MB of backlog, "
            f"{total / 1e6:.1f} MB written to the parked topic, {total / backlog:.2f} times\n"
        )
    assert len(firsts) >= jobs
    assert total <= 3 * backlog
    assert max(Counter(moved).values()) == 1
    assert len(moved) == jobs + late
