"""The backlog of a dead provider on its way to an alternate, against bare loops on the same way.

One bare loop is the bare move rate. Three of them, as many as there are workers, share few cores
with each other and with the broker as the workers do.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
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


async def drained(book: Ledger, processes: Sequence[Process], source: str, target: str) -> float:
    """Jobs a second from the moment that all may begin to the arrival of the last at ``target``."""
    for each in processes:
        await each.ready()
    tell(processes, signal.SIGSTOP)  # nothing is moved while the backlog is written
    await book.send_under_way(source, bodies(JOBS, BODY_BYTES))
    began = asyncio.get_running_loop().time()
    tell(processes, signal.SIGCONT)
    rate = JOBS / (await book.until(target, JOBS, MOST_SECONDS) - began)
    for each in processes:
        await each.stop()
    return rate


async def ours(world: Scene, book: Ledger) -> float:
    """Three workers of the pool hand over."""
    await book.verdict("deepseek", BreakerWord.OPEN)
    pool = ("work", "--provider", "deepseek")
    processes = [await world.start(*pool) for _ in range(WORKERS)]
    topics = world.topics
    return await drained(book, processes, topics.work("deepseek"), topics.work("openai"))


async def bare(world: Scene, book: Ledger, loops: int) -> float:
    """Loops over the same pool, without any of our promises."""
    end, pool = await book.bare_topic("end"), world.topics.work("deepseek")
    processes = [
        await started(
            world, "bare_move.py", world.kafka.bootstrap_servers, pool, end, numbers(each, loops)
        )
        for each in range(loops)
    ]
    return await drained(book, processes, pool, end)


WAYS: Final[dict[str, Callable[[Scene, Ledger], Awaitable[float]]]] = {
    "one bare loop": partial(bare, loops=1),
    "three bare loops": partial(bare, loops=WORKERS),
    "three workers": ours,
}


@pytest.mark.timeout(600)
async def test_a_backlog_on_its_way_to_an_alternate_against_bare_loops(
    tmp_path: Path, kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(ROUNDS):
        for name, way in WAYS.items():
            place = tmp_path / f"{number}-{name.replace(' ', '-')}"
            place.mkdir()
            async with (
                scene(
                    place, kafka, ("deepseek", "openai"), concurrency=1_000, topics=TOPICS
                ) as world,
                ledger(world) as book,
            ):
                rates[name].append(await way(world, book))

    *bares, workers = rates
    limit = bares[0]
    shares = {name: share(rates[workers], rates[name]) for name in bares}
    show(
        capsys,
        f"{JOBS:,} jobs of 1 KB from a dead provider's pool to an alternate's, {ROUNDS} rounds",
        ("", "jobs/s", "the workers' share", "asked"),
        *(
            (
                name,
                spread(rates[name], 0),
                spread(shares[name], 2),
                asked("0.5", median(shares[name]) >= 0.5) if name == limit else "",
            )
            for name in bares
        ),
        (workers, spread(rates[workers], 0), "", ""),
    )
    assert all(len(each) == ROUNDS for each in rates.values())


def share(ours: Sequence[float], bare: Sequence[float]) -> list[float]:
    """Each round compared with the bare loops of its own."""
    return [one / limit for one, limit in zip(ours, bare, strict=True)]
