"""What safety costs: a worker's CPU per job and memory against a bare loop, in one run."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from tests.bench.backend import provider, started
from tests.bench.backlog import TOPICS, Ledger, Sample, bodies, ledger
from tests.bench.figures import asked, memory_mb, show, spread
from tests.e2e.scene import Process, Scene, scene

pytestmark = pytest.mark.bench

MOST_SECONDS: Final = 120
CLOCKS: Final = "connect_seconds = 10, first_token_seconds = 60, total_seconds = 60"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a worker is given; a provider takes from half of ``seconds`` to one and a half."""

    in_flight: int
    jobs: int
    seconds: float
    body_bytes: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process under one load; memory is the most it ever had, in MB."""

    cpu_ms: float
    memory: float
    per_second: float


async def cost(run: Process, book: Ledger, target: str, load: Load) -> Cost:
    """From ready to the last answer."""
    before = await book.end(target)
    await run.ready()
    samples = await book.sampled(run, target, before, load.jobs, MOST_SECONDS)
    most = memory_mb(run.process.pid, "VmHWM")
    await run.kill()
    cpu = (samples[-1].cpu - samples[0].cpu) / load.jobs
    return Cost(cpu * 1e3, most, steady_rate(samples, load.jobs))


def steady_rate(samples: list[Sample], jobs: int) -> float:
    """Answers per second in the middle, where all permits are in use."""
    first, last = (next(s for s in samples if s.written >= jobs * share) for share in (0.3, 0.7))
    return (last.written - first.written) / (last.at - first.at)


async def ours(world: Scene, book: Ledger, load: Load) -> Cost:
    """`outlast run work`."""
    options = ("--provider", "deepseek", "--max-in-flight", str(load.in_flight))
    run = await world.start("work", *options)
    return await cost(run, book, world.topics.results(), load)


async def bare(world: Scene, book: Ledger, load: Load, url: str) -> Cost:
    """The loop that is compared with."""
    target = await book.bare_topic()
    source = world.topics.work("deepseek")
    url = f"{url}/chat/completions"
    where = (world.kafka.bootstrap_servers, source, target, url)
    run = await started(world, "bare_worker.py", *where, str(load.in_flight))
    return await cost(run, book, target, load)


async def a_round(directory: Path, kafka: str, load: Load) -> tuple[Cost, Cost]:
    """The same jobs by the bare loop and by Outlast."""
    limits = {"concurrency": load.in_flight, "clocks": CLOCKS}
    async with (
        scene(directory, kafka, ("deepseek",), topics=TOPICS, **limits) as world,  # type: ignore[arg-type]
        ledger(world) as book,
    ):
        await book.send_under_way(world.topics.work("deepseek"), bodies(load.jobs, load.body_bytes))
        costs = []
        for take in (bare, ours):
            async with provider(world, load.seconds * 0.5, load.seconds * 1.5) as upstream:
                more = (upstream.url,) if take is bare else ()
                costs.append(await take(world, book, load, *more))
                assert await upstream.most_in_flight() == load.in_flight
    return costs[0], costs[1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "load",
    [
        Load(in_flight=1_000, jobs=8_000, seconds=1, body_bytes=1_000, rounds=2),
        Load(in_flight=5_000, jobs=15_000, seconds=5, body_bytes=2_000, rounds=1),
    ],
    ids=["1000", "5000"],
)
async def test_cpu_per_job_and_memory_of_a_worker(
    load: Load, tmp_path: Path, kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [tmp_path / str(number) for number in range(load.rounds)]
    for each in places:
        each.mkdir()
    rounds = [await a_round(each, kafka, load) for each in places]

    limits, outlasts = zip(*rounds, strict=True)
    ratios = [outlast.cpu_ms / limit.cpu_ms for limit, outlast in rounds]
    memory = max(each.memory for each in outlasts)
    show(
        capsys,
        f"worker, {load.in_flight:,} calls in flight, bodies of {load.body_bytes:,} bytes, "
        f"{load.jobs:,} jobs",
        ("", "CPU ms per job", "jobs/s", "ratio", "asked", "most MB", "asked"),
        ("bare", *columns(limits), "", "0.18 to 0.20 elsewhere", mb(limits), ""),
        (
            *("outlast", *columns(outlasts), spread(ratios, 2)),
            *(asked("at most 1.6", median(ratios) <= 1.6), mb(outlasts)),
            asked("at most 300", memory <= 300),
        ),
    )
    assert len(rounds) == load.rounds


def columns(costs: tuple[Cost, ...]) -> tuple[str, str]:
    """CPU and rate."""
    return spread([each.cpu_ms for each in costs], 3), spread([each.per_second for each in costs])


def mb(costs: tuple[Cost, ...]) -> str:
    """Memory."""
    return spread([each.memory for each in costs], 0)
