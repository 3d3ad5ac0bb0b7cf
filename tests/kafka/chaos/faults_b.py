"""What the scenarios of failpoints, broken brokers and broken topics share."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from outlast import AsyncClient
from outlast.drill.conservation import Account, Allowance, Published, check
from outlast.drill.dump import calls_of, dump
from outlast.edges.codec import Codec
from outlast.edges.kafka.connection import admin, connect
from tests.e2e.scene import Process, chat
from tests.kafka.chaos.fleet import Fleet, Worker

__all__ = [
    "Commits",
    "conserved",
    "events",
    "has_logged",
    "killed_itself",
    "launch",
    "named",
    "publish",
    "until",
]

BOUND: Final = 60.0
LOOK_SECONDS: Final = 0.05


async def until(holds: Callable[[], object], what: str, seconds: float = BOUND) -> None:
    """Wait for a state of another process, with a bound; fails saying what did not come."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:.0f} s: {what}") from None


async def launch(here: Fleet, slot: str, *arguments: str, faults: Sequence[str] = ()) -> Worker:
    """Start `outlast run …` in a slot with these faults of ``failing``; returns at once."""
    if not faults:
        return await here.launch(slot, *arguments)
    number = next(here._numbers)
    key, log = f"{slot}-{number}", here.directory / f"{number}-{slot}.log"
    keys = {f"{name.upper()}_API_KEY": key for name in here.simulators}
    born = asyncio.get_running_loop().time()
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.kafka.chaos.failing", *faults, "--", "run", *arguments),
            env={**here.environ, **keys, "OUTLAST_INSTANCE_ID": slot},
            cwd=here.directory,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    worker = Worker(process, log, slot=slot, stage=arguments[0], key=key, born=born)
    here.processes.append(worker)
    return worker


def events(process: Process, name: str) -> list[dict[str, Any]]:
    """What the process has logged under this name."""
    found = []
    for line in process.log.read_text().splitlines():
        if name in line and line.startswith("{"):
            found.append(json.loads(line))
    return [each for each in found if each.get("event") == name]


async def has_logged(process: Process, name: str, seconds: float = BOUND) -> dict[str, Any]:
    """Wait for the event; the first of its kind."""
    await until(lambda: events(process, name), f"{name} in {process.log}", seconds)
    return events(process, name)[0]


async def killed_itself(here: Fleet, worker: Worker, seconds: float = BOUND) -> set[str]:
    """Wait until it has died at its failpoint; the jobs that may be called again for it."""
    code = await worker.ended(seconds)
    assert code == -signal.SIGKILL, worker.log.read_text()[-3_000:]
    [last] = events(worker, "failing.killed")
    await here.taken_for_dead(worker)
    return set(last["at_risk"])


async def named(here: Fleet, *names: str, **terms: Any) -> list[str]:
    """Publish jobs whose ids, and texts, end so; returns the ids."""
    jobs = [f"{here.kafka.prefix} {name}" for name in names]
    client = AsyncClient(here.kafka)
    try:
        for job in jobs:
            await client.publish(chat(job), job_id=job, **terms)
            here.publisher.acked[job] = asyncio.get_running_loop().time()
    finally:
        await client.close()
    return jobs


async def publish(here: Fleet, count: int, per_second: float) -> None:
    """Publish so many at an even pace; returns when every publish has ended."""
    async with here.publisher.at(per_second):
        await asyncio.sleep((count - 0.5) / per_second)


async def conserved(here: Fleet, allowance: Allowance) -> Account:
    """The account of everything that was published, from the topics as they are now."""
    cluster, client = await connect(here.kafka), admin(here.kafka)
    await client.start()
    try:
        found = await dump(here.kafka, Codec(cluster.id, here.topics), client)
    finally:
        await client.close()
    known = here.publisher
    published = Published(frozenset(known.acked), frozenset(known.unknown), frozenset(known.failed))
    counted = {name: each.counters.calls_by_content for name, each in here.simulators.items()}
    texts = {job: job for job in (*known.acked, *known.unknown)}
    return check(published, found, calls_of(counted, texts), allowance)


class Commits:
    """The commits of one group as they are made, and whether any of them went back."""

    def __init__(self, here: Fleet, group: str) -> None:
        """Watch nothing yet."""
        self.rewound: list[str] = []
        self._here, self._group = here, group
        self._highest: dict[TopicPartition, int] = {}

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at them again and again while the block lasts."""
        client = admin(self._here.kafka)
        await client.start()
        looking = asyncio.create_task(self._look_on(client))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await client.close()

    async def _look_on(self, client: AIOKafkaAdminClient) -> None:
        while True:
            for tp, each in (await client.list_consumer_group_offsets(self._group)).items():
                highest = self._highest.get(tp, -1)
                if each.offset < highest:
                    self.rewound.append(f"{tp.topic}/{tp.partition}: {highest} to {each.offset}")
                self._highest[tp] = max(highest, each.offset)
            await asyncio.sleep(LOOK_SECONDS)
