"""Backends that read results: killed at any moment they lose none, and see again only a few."""

import asyncio
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner

from outlast import AsyncClient
from outlast.edges.kafka.connection import admin
from tests.e2e.scene import Scene, chat, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

KILLS = 10
PARTITIONS = 12
PATIENCE = 60

CONSUMER = """
import asyncio, os, sys
from outlast import AsyncClient, Kafka

async def main(servers, prefix, path):
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    async with AsyncClient(Kafka(bootstrap_servers=servers, prefix=prefix)) as client:
        async for result in client.results(prefix + ".backend"):
            os.write(file, f"{os.getpid()} {result.job_id} {result.replays}\\n".encode())
            os.fsync(file)

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass(frozen=True)
class Backend:
    """A process that notes durably what it has handled before it asks for the next."""

    world: Scene
    file: Path

    @property
    def handled(self) -> list[tuple[int, str, int]]:
        """Process, job id, run; in the order of time."""
        whole, _, _ = self.file.read_text().rpartition("\n")  # the last may be half written
        lines = [line.split() for line in whole.splitlines()]
        return [(int(pid), job_id, int(replays)) for pid, job_id, replays in lines]

    async def start(self) -> asyncio.subprocess.Process:
        log = self.world.directory / "backend.log"
        with log.open("ab") as out:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", CONSUMER),
                *(self.world.kafka.bootstrap_servers, self.world.kafka.prefix, str(self.file)),
                stdout=out,
                stderr=out,
            )

    async def until_handled(self, by: int | None, how_many: int) -> None:
        """Until this process, or all of them, have handled so many different runs."""
        async with asyncio.timeout(PATIENCE):
            while len({each[1:] for each in self.handled if by in (None, each[0])}) < how_many:
                await asyncio.sleep(0.02)


async def test_a_consumer_that_is_killed_ten_times_under_load_handles_every_result(
    tmp_path: Path, kafka: str
) -> None:
    (tmp_path / "handled").touch()
    async with scene(tmp_path, kafka, topics=f"partitions = {PARTITIONS}") as world:
        backend = Backend(world, tmp_path / "handled")
        await (await world.start()).ready()
        async with AsyncClient(world.kafka) as client:
            over = asyncio.Event()
            load = asyncio.create_task(publish(client, over))
            pids = await killed_again_and_again(backend)
            over.set()
            published = await load
        last = await backend.start()
        await backend.until_handled(None, len(published))
        members = await members_of(world, f"{world.kafka.prefix}.backend")
        last.terminate()
        await last.wait()

    assert {each[1:] for each in backend.handled} == {(job_id, 0) for job_id in published}
    assert repeated_only_what_was_handled_last(backend.handled, [*pids, last.pid])
    # The killed ones do not linger: each was followed by itself.
    assert members == 1


async def publish(client: AsyncClient, over: asyncio.Event) -> list[str]:
    """A few hundred jobs a second until it is over; their ids."""
    published: list[str] = []
    while not over.is_set():
        async for receipt in client.publish_many([chat("hello")] * 20):
            published.append(receipt.raise_for_error().id)
        await asyncio.sleep(0.1)
    return published


async def killed_again_and_again(backend: Backend) -> list[int]:
    """Each at a random moment: while it starts, while it joins, while it reads."""
    dice, pids = random.Random(4), []
    for number in range(KILLS):
        process = await backend.start()
        if number % 3:  # some die before they have read anything
            await backend.until_handled(process.pid, 1 + dice.randrange(60))
        await asyncio.sleep(dice.uniform(0.0, 0.5))
        process.kill()
        await process.wait()
        pids.append(process.pid)
    return pids


def repeated_only_what_was_handled_last(
    handled: Sequence[tuple[int, str, int]], pids: Sequence[int]
) -> bool:
    """Nobody repeats itself, and of each partition the next repeats the end of what one did.

    Acknowledgements are committed in order, so what a kill takes is always the tail.
    """
    lives = {pid: [key for by, *key in handled if by == pid] for pid in pids}
    for number, pid in enumerate(pids):
        mine = lives[pid]
        later = [key for other in pids[number + 1 :] for key in lives[other]]
        assert len(mine) == len({tuple(key) for key in mine})
        for tail in by_partition(mine).values():
            again = [key in later for key in tail]
            assert again == sorted(again), (pid, again)
    repeats = len(handled) - len({each[1:] for each in handled})
    assert repeats < len(handled) / 2
    return True


def by_partition(keys: Sequence[Sequence[object]]) -> dict[int, list[Sequence[object]]]:
    found: dict[int, list[Sequence[object]]] = defaultdict(list)
    numbers = list(range(PARTITIONS))
    for key in keys:
        found[DefaultPartitioner()(str(key[0]).encode(), numbers, numbers)].append(key)
    return found


async def members_of(world: Scene, group: str) -> int:
    client = admin(world.kafka)
    await client.start()
    try:
        [answer] = await client.describe_consumer_groups([group])
    finally:
        await client.close()
    [found] = answer.to_object()["groups"]
    return len(found["members"])


async def test_a_batch_that_is_published_twice_is_executed_once(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world, AsyncClient(world.kafka) as client:
        await (await world.start()).ready()
        bodies = [chat(f"job {number}") for number in range(50)]
        for _ in range(2):
            async for receipt in client.publish_many(bodies, batch="import-7"):
                receipt.raise_for_error()
        for number in range(50):
            result = await client.wait(f"import-7/{number}", timeout=PATIENCE)
            assert result.raise_for_status().job_id == f"import-7/{number}"
        await client.publish(chat("the end"), job_id="end")
        await client.wait("end", timeout=PATIENCE)
        await world.until_depth(world.topics.jobs, 0)
        found = await world.results(51)

        assert {each.result.job_id for each in found} == {
            "end",
            *(f"import-7/{number}" for number in range(50)),
        }
        assert world.repeats == 0
        calls = sum(each.counters.started for each in world.simulators.values())
        assert calls == 51
