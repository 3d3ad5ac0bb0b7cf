"""Moves per second and CPU per move of route, drain and retry, against a bare loop."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from outlast_schemas.health import BreakerWord
from tests.bench.backend import started
from tests.bench.backlog import TOPICS, Ledger, Sample, bodies, ledger, numbers
from tests.bench.figures import asked, show, spread
from tests.e2e.scene import Process, Scene, scene

pytestmark = pytest.mark.bench

JOBS: Final = 20_000
BODY_BYTES: Final = 1_000
ROUNDS: Final = 3
MOST_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one process on one backlog."""

    per_second: float
    cpu_us: float
    waited: float


def pace(samples: list[Sample]) -> Pace:
    """From ready to the last record: thousands are begun before the first of them is written."""
    begin, end = samples[0], samples[-1]
    moves = end.written
    seconds = end.at - begin.at
    waited = (end.waited - begin.waited) / seconds
    return Pace(moves / seconds, (end.cpu - begin.cpu) / moves * 1e6, waited)


async def moved(book: Ledger, target: str, start: Callable[[], Awaitable[Process]]) -> Pace:
    """Let one process move the whole backlog to ``target``."""
    before = await book.end(target)
    run = await (await start()).ready()
    samples = await book.sampled(run, target, before, JOBS, MOST_SECONDS)
    await run.stop()
    return pace(samples)


async def a_round(world: Scene, book: Ledger) -> dict[str, Pace]:
    """The same jobs published, routed and drained, as many retried; then by the bare loop."""
    topics, bare_topic = world.topics, await book.bare_topic()
    alternate = topics.work("openai")
    await book.publish(bodies(JOBS, BODY_BYTES), "moved")
    await book.verdict("deepseek", BreakerWord.CLOSED)
    route = await moved(book, topics.work("deepseek"), lambda: world.start("route"))
    await book.verdict("deepseek", BreakerWord.OPEN)
    drain = await moved(book, alternate, lambda: world.start("work", "--provider", "deepseek"))
    await book.send_under_way(topics.retry("0s"), bodies(JOBS, BODY_BYTES))
    retry = await moved(book, alternate, lambda: world.start("retry"))
    bare = (world.kafka.bootstrap_servers, topics.work("deepseek"), bare_topic, numbers())
    limit = await moved(book, bare_topic, lambda: started(world, "bare_move.py", *bare))
    return {"bare": limit, "route": route, "drain": drain, "retry": retry}


@pytest.mark.timeout(400)
async def test_moves_against_a_bare_loop(
    tmp_path: Path, kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = []
    for number in range(ROUNDS):
        # Topics of its own: a process that starts reads two minutes back, for copies.
        place = tmp_path / str(number)
        place.mkdir()
        async with (
            scene(place, kafka, ("deepseek", "openai"), concurrency=1_000, topics=TOPICS) as world,
            ledger(world) as book,
        ):
            rounds.append(await a_round(world, book))

    show(
        capsys,
        f"moves of {JOBS:,} jobs of 1 KB in 12 partitions, {ROUNDS} rounds",
        ("", "moves/s", "waits for a core", "share of bare's moves/s", "CPU us", "by CPU", "asked"),
        *(row(name, [each[name] for each in rounds], rounds) for name in rounds[0]),
    )
    assert len(rounds) == ROUNDS


def row(name: str, paces: list[Pace], rounds: list[dict[str, Pace]]) -> tuple[str, ...]:
    """One stage of all rounds; each is compared with the bare loop of its own round."""
    bares = [each["bare"] for each in rounds]
    shares = [each.per_second / bare.per_second for each, bare in zip(paces, bares, strict=True)]
    by_cpu = [bare.cpu_us / each.cpu_us for each, bare in zip(paces, bares, strict=True)]
    return (
        name,
        spread([each.per_second for each in paces], 0),
        f"{median(each.waited for each in paces):.0%}",
        spread(shares, 2),
        spread([each.cpu_us for each in paces], 1),
        spread(by_cpu, 2),
        "20 to 25 us" if name == "bare" else asked("0.5", median(shares) >= 0.5),
    )
