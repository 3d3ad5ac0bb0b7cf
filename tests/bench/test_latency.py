"""What Outlast adds to a job's time: all stages in one process, 200 jobs a second, one broker."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from outlast.edges.kafka.connection import groupless_consumer, producer
from outlast_schemas.headers import ATTEMPTS, SUBJECT
from tests.bench.backend import provider
from tests.bench.backlog import TOPICS, bodies, ledger
from tests.bench.bare_hop import bare_hops
from tests.bench.figures import asked, cpu_seconds, show, spread, waited_seconds
from tests.e2e.scene import Scene, scene

pytestmark = pytest.mark.bench

PER_SECOND: Final = 200
WARM_UP_SECONDS: Final = 2
WINDOW_SECONDS: Final = 10
WINDOWS: Final = 3
SECONDS: Final = WARM_UP_SECONDS + WINDOW_SECONDS * WINDOWS
JOBS: Final = PER_SECOND * SECONDS
MOST_SECONDS: Final = 30
CLOCKS: Final = "connect_seconds = 10, first_token_seconds = 30, total_seconds = 30"
"""Far above the slow calls: one that is cut would be served by a second one."""


@dataclass(frozen=True, slots=True)
class Added:
    """Milliseconds above the provider's own; ``at`` is when, in seconds from the first job."""

    at: float
    ms: float


class Published:
    """When each job was published, and what was added to it by when its result was read."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._at: dict[str, float] = {}
        self.added: dict[str, Added] = {}
        self.calls = 0

    async def publish(self, world: Scene) -> None:
        """At random moments, as clients do; sends do not wait for each other."""
        loop, dice = asyncio.get_running_loop(), random.Random(5)
        writer = producer(world.kafka)
        await writer.start()
        due = loop.time()
        for number, body in enumerate(bodies(JOBS, 1_000)):
            due += dice.expovariate(PER_SECOND)
            await asyncio.sleep(max(0.0, due - loop.time()))
            job_id = f"job-{number}"
            self._at[job_id] = loop.time()
            headers = [("ce_id", job_id.encode())]
            await writer.send(world.topics.jobs, body, key=job_id.encode(), headers=headers)
        await writer.stop()

    async def hear(self, reader: AIOKafkaConsumer) -> None:
        """Read results until all have come."""
        loop = asyncio.get_running_loop()
        while len(self.added) < JOBS:
            fetched = await reader.getmany(timeout_ms=500)
            now = loop.time()
            for record in (record for records in fetched.values() for record in records):
                self._heard(record, now)

    def _heard(self, record: Any, now: float) -> None:
        headers = dict(record.headers)
        job_id = headers[SUBJECT].decode()
        assert job_id not in self.added
        self.calls += int(headers[ATTEMPTS])
        took = float(orjson.loads(record.value)["choices"][0]["message"]["content"])
        began = self._at[job_id]
        first = next(iter(self._at.values()))
        self.added[job_id] = Added(began - first, (now - began) * 1e3 - took)


@pytest.mark.timeout(150)
async def test_latency_added_at_200_jobs_a_second(
    tmp_path: Path, kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    published = Published()
    async with (
        scene(
            tmp_path, kafka, ("deepseek",), concurrency=1_000, clocks=CLOCKS, topics=TOPICS
        ) as world,
        ledger(world) as book,
        provider(world, 0.1, 0.5),
        bare_hops(world, await book.bare_topic()) as hops,
    ):
        run = await (await world.start()).ready()
        reader = groupless_consumer(world.kafka, world.topics.results())
        await reader.start()
        hearing = asyncio.ensure_future(published.hear(reader))
        pid = run.process.pid
        before, waited_before = cpu_seconds(pid), waited_seconds(pid)
        await published.publish(world)
        async with asyncio.timeout(MOST_SECONDS):
            await hearing
        cpu, waited = cpu_seconds(pid) - before, waited_seconds(pid) - waited_before
        await reader.stop()

    added = sorted(published.added.values(), key=lambda each: each.at)
    show(
        capsys,
        f"added latency at {PER_SECOND} jobs/s, three hops, ms; "
        f"all stages use {cpu / SECONDS:.0%} of a core and wait {waited / SECONDS:.0%} for one",
        ("", "jobs", "p50", "p99", "most"),
        row("a bare hop", hops),
        row("first 2 s", part(added, 0, WARM_UP_SECONDS)),
        *steady(added),
    )
    assert len(added) == JOBS
    assert published.calls == JOBS


def part(added: Sequence[Added], begin: float, end: float) -> list[float]:
    """Those published in that time."""
    return [each.ms for each in added if begin <= each.at < end]


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The 50th, the 99th, and the highest."""
    cuts = quantiles(values, n=100)
    return cuts[49], cuts[98], max(values)


def row(name: str, values: Sequence[float]) -> tuple[str, ...]:
    """One span of time."""
    return (name, f"{len(values):,}", *(f"{each:.1f}" for each in percentiles(values)))


def steady(added: Sequence[Added]) -> list[tuple[str, ...]]:
    """After the warm-up: each window, and their medians beside what is asked."""
    begins = [WARM_UP_SECONDS + WINDOW_SECONDS * number for number in range(WINDOWS)]
    windows = [part(added, begin, begin + WINDOW_SECONDS) for begin in begins]
    p50, p99, most = zip(*(percentiles(each) for each in windows), strict=True)
    whole = percentiles(part(added, WARM_UP_SECONDS, float("inf")))
    return [
        *(
            row(f"{at} s to {at + WINDOW_SECONDS} s", w)
            for at, w in zip(begins, windows, strict=True)
        ),
        ("windows", "", spread(p50), spread(p99), spread(most)),
        (
            *("asked", ""),
            *(asked("at most 25", whole[0] <= 25), asked("at most 150", whole[1] <= 150), ""),
        ),
    ]
