"""The backlog of a dead provider on its way to an alternate, against bare loops on the same way.

Three workers and one process of retry, as three bare loops and one: on few cores they share them
with each other and with the broker, and so does what they are compared with.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from outlast_schemas.health import BreakerWord
from tests.bench.backend import started
from tests.bench.backlog import TOPICS, Ledger, bodies, ledger, numbers
from tests.bench.figures import asked, show, spread
from tests.e2e.scene import Process, Scene, scene

pytestmark = pytest.mark.bench

JOBS: Final = 50_000
BODY_BYTES: Final = 1_000
WORKERS: Final = 3
ROUNDS: Final = 3
MOST_SECONDS: Final = 60


def tell(processes: Sequence[Process], what: signal.Signals) -> None:
    for each in processes:
        os.kill(each.process.pid, what)


async def drained(book: Ledger, processes: Sequence[Process], target: str) -> float:
    """Jobs a second from the moment that all may begin to the arrival of the last at ``target``."""
    for each in processes:
        await each.ready()
    tell(processes, signal.SIGSTOP)  # nothing is moved while the backlog is written
    await book.send_to_work(bodies(JOBS, BODY_BYTES))
    began = asyncio.get_running_loop().time()
    tell(processes, signal.SIGCONT)
    rate = JOBS / (await book.until(target, JOBS, MOST_SECONDS) - began)
    for each in processes:
        await each.stop()
    return rate


async def ours(world: Scene, book: Ledger) -> float:
    """Three workers of the pool hand over, retry asks who takes the jobs."""
    await book.verdict("deepseek", BreakerWord.OPEN)
    pool = ("work", "--provider", "deepseek")
    processes = [await world.start(*pool) for _ in range(WORKERS)]
    processes.append(await world.start("retry"))
    return await drained(book, processes, world.topics.work("openai"))


async def bare(world: Scene, book: Ledger) -> float:
    """As many loops over as many topics, without any of our promises."""
    way, end = await book.bare_topic("way"), await book.bare_topic("end")
    servers, pool = world.kafka.bootstrap_servers, world.topics.work("deepseek")
    processes = [
        await started(world, "bare_move.py", servers, pool, way, numbers(each, WORKERS))
        for each in range(WORKERS)
    ]
    processes.append(await started(world, "bare_move.py", servers, way, end, numbers()))
    return await drained(book, processes, end)


@pytest.mark.timeout(600)
async def test_a_backlog_on_its_way_to_an_alternate_against_bare_loops(
    tmp_path: Path, kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rates: dict[str, list[float]] = {"bare": [], "ours": []}
    for number in range(ROUNDS):
        for name, way in (("bare", bare), ("ours", ours)):
            place = tmp_path / f"{number}-{name}"
            place.mkdir()
            async with (
                scene(
                    place, kafka, ("deepseek", "openai"), concurrency=1_000, topics=TOPICS
                ) as world,
                ledger(world) as book,
            ):
                rates[name].append(await way(world, book))

    shares = [one / limit for one, limit in zip(rates["ours"], rates["bare"], strict=True)]
    show(
        capsys,
        f"{JOBS:,} jobs of 1 KB from a dead provider's pool to an alternate's, {ROUNDS} rounds",
        ("", "jobs/s", "share of bare's", "asked"),
        ("bare", spread(rates["bare"], 0), "", ""),
        (
            "ours",
            spread(rates["ours"], 0),
            spread(shares, 2),
            asked("0.5", median(shares) >= 0.5),
        ),
    )
    assert len(shares) == ROUNDS
