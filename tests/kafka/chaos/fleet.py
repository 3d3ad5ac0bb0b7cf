"""A fleet of real `outlast run` processes to kill, freeze and restart, and what came of its jobs.

Each process has its own key, so that the simulated providers know whose call it is, and each slot
its own instance id, so that a process started again under the same name has returned.
"""

import asyncio
import itertools
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, cast
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient

from outlast.drill.conservation import Account, Allowance, Published, check
from outlast.drill.dump import dump
from outlast.drill.simulator import Behaviour
from outlast.edges.codec import Codec
from outlast.edges.kafka.connection import admin, connect
from outlast.edges.settings import Kafka
from tests.e2e.scene import MODELS, Scene
from tests.kafka.chaos.deaths import Death, allowed, places, progress
from tests.kafka.chaos.publisher import Publisher
from tests.kafka.chaos.witness import Call, Witness
from tests.kafka.chaos.worker import Worker

__all__ = ["Fleet", "fleet"]

ROOT: Final = Path(__file__).parents[3]
SOURCES: Final = (ROOT, ROOT / "services", ROOT / "schemas")
CROSSED_SECONDS: Final = 0.25
CLOCKS: Final = (
    "connect_seconds = 5, first_token_seconds = 100, idle_seconds = 100, total_seconds = 150"
)


@dataclass(kw_only=True)
class Fleet(Scene):
    """A scene whose processes come and go."""

    publisher: Publisher
    drain_seconds: float
    deaths: list[Death] = field(default_factory=list)
    drained: list[Worker] = field(default_factory=list)
    _admin: AIOKafkaAdminClient | None = None
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def environ(self) -> dict[str, str]:
        """What a process of ours is started with: it finds these tests too."""
        return {**super().environ, "PYTHONPATH": os.pathsep.join(map(str, SOURCES))}

    @property
    def acked(self) -> Mapping[str, float]:
        """Job → when its publish was acknowledged."""
        return self.publisher.acked

    @property
    def calls(self) -> list[Call]:
        """All calls of all providers for our jobs; probes are left out."""
        return [call for name in self.simulators for call in self._seen(name)]

    def _seen(self, provider: str) -> list[Call]:
        seen = cast(Witness, self.simulators[provider]).seen
        return [call for call in seen if call.job.startswith(self.kafka.prefix)]

    def calls_of(self, *workers: Worker) -> list[Call]:
        """The calls of these processes."""
        keys = {worker.key for worker in workers}
        return [call for call in self.calls if call.caller in keys]

    def in_flight(self, *workers: Worker) -> int:
        """How many calls of these processes run now."""
        return sum(call.ended is None for call in self.calls_of(*workers))

    async def launch(
        self, slot: str, *arguments: str, fault: str | None = None, **environ: str
    ) -> Worker:
        """Start `outlast run …` in a slot; with a fault, through the program that plants it."""
        number = next(self._numbers)
        key = f"{slot}-{number}"
        log = self.directory / f"{number}-{slot}.log"
        module = ("tests.kafka.chaos.faulty", "--fault", fault, "--") if fault else ("outlast.cli",)
        given = {
            **self.environ,
            **{f"{name.upper()}_API_KEY": key for name in self.simulators},
            "OUTLAST_INSTANCE_ID": slot,
            **environ,
        }
        born = asyncio.get_running_loop().time()
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *module, "run", *arguments),
                env=given,
                cwd=self.directory,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        worker = Worker(process, log, slot=slot, stage=arguments[0], key=key, born=born)
        self.processes.append(worker)
        return worker

    async def stages(self, *names: str) -> list[Worker]:
        """Start one process for each of these stages and wait until all are ready."""
        started = [await self.launch(name, name) for name in names]
        for each in started:
            await each.ready()
        return started

    async def worker(
        self,
        slot: str,
        provider: str = "deepseek",
        *,
        fault: str | None = None,
        **environ: str,
    ) -> Worker:
        """Start one more worker of a pool; it may not be ready yet."""
        return await self.launch(slot, "work", "--provider", provider, fault=fault, **environ)

    async def kill(self, *workers: Worker) -> None:
        """SIGKILL; what they had in hand may be called again."""
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            await worker.process.wait()
            await self.taken_for_dead(worker)

    async def taken_for_dead(self, worker: Worker) -> None:
        """What the process has in hand now may be called again."""
        at = asyncio.get_running_loop().time()
        assert self._admin is not None
        found = await progress(self.kafka, self.simulators, worker.stage, self._admin)
        self.deaths.append(Death(key=worker.key, at=at, progress=found))

    async def allowed(self) -> Counter[str]:
        """Job → calls beyond the first that deaths and drains permit."""
        assert self._admin is not None
        where = await places(self.kafka, self.simulators, self._admin)
        cut = (call.job for worker in self.drained for call in _cut(self.calls_of(worker)))
        return allowed(self.deaths, self.calls, where) + Counter(cut)

    async def account(self, allowed_calls: int) -> Account:
        """What publisher, topics and providers say, compared."""
        assert self._admin is not None
        cluster = await connect(self.kafka)
        mine = self.publisher
        return check(
            Published(frozenset(mine.acked), frozenset(mine.unknown), frozenset(mine.failed)),
            await dump(self.kafka, Codec(cluster.id, self.topics), self._admin),
            {name: Counter(call.job for call in self._seen(name)) for name in self.simulators},
            Allowance(extra_calls=allowed_calls, repeats=allowed_calls),
        )

    async def until_in_flight(self, worker: Worker, count: int, seconds: float = 60.0) -> None:
        """Wait until the process has so many calls in flight."""
        async with asyncio.timeout(seconds):
            while self.in_flight(worker) < count:
                await asyncio.sleep(0.02)

    async def until_deep(self, topic: str, count: int, seconds: float = 60.0) -> None:
        """Wait until so many records of the topic, or more, are not done."""
        async with asyncio.timeout(seconds):
            while (await self.depths())[topic] < count:
                await asyncio.sleep(0.1)

    async def until_serving(self, worker: Worker, seconds: float = 60.0) -> float:
        """Wait for the first call of a process; how long it took from its start."""
        async with asyncio.timeout(seconds):
            while not (calls := self.calls_of(worker)):
                await asyncio.sleep(0.01)
        return calls[0].began - worker.born

    async def settle(self, seconds: float) -> set[str]:
        """Wait until every acknowledged job has ended and no topic holds an open one.

        Returns the jobs that had not ended in time.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.open_jobs or any((await self.depths()).values()):
                    await self.read()
        except TimeoutError:
            pass
        await self.read()
        return self.open_jobs

    @property
    def open_jobs(self) -> set[str]:
        """Acknowledged, and without a result that was read."""
        return set(self.acked) - {job for job, _ in self.ended}

    async def read(self) -> None:
        """Take in the results that are there."""
        assert self._reader is not None
        while fetched := await self._reader.getmany(timeout_ms=300):
            for record in itertools.chain.from_iterable(fetched.values()):
                self._take(record)

    def extra_calls(self) -> Counter[str]:
        """Job → calls that a provider may bill beyond the first."""
        spent = Counter(call.job for call in self.calls if call.spends)
        return Counter({job: count - 1 for job, count in spent.items() if count > 1})

    def story(self, jobs: Iterable[str]) -> str:
        """Every call of these jobs, and when their callers died."""
        told = [f"{death.key} died at {death.at:.3f}" for death in self.deaths]
        told += [str(call) for call in self.calls if call.job in set(jobs)]
        return "\n".join(told)

    def tails(self) -> str:
        """The last lines of every log, for a failing test."""
        return "\n".join(
            f"--- {each.log.name}\n{each.log.read_text()[-1_500:]}" for each in self.processes
        )

    async def __aenter__(self) -> Self:
        """As any scene, and a client to look at commits with."""
        await super().__aenter__()
        self._admin = admin(self.kafka)
        await self._admin.start()
        return self

    async def __aexit__(self, *failure: Any) -> None:
        """End every process, remove the topics."""
        await self.publisher.close()
        await super().__aexit__(*failure)
        if self._admin is not None:
            there = await self._admin.list_topics()
            mine = [name for name in there if name.startswith(self.kafka.prefix)]
            await self._admin.delete_topics(mine)
            await self._admin.close()


def _cut(calls: Sequence[Call]) -> list[Call]:
    """What a drain cut off, and what was answered as it did: such an answer may not have come."""
    at = min((call.ended or 0.0 for call in calls if call.status is None), default=float("inf"))
    return [call for call in calls if call.ended is None or call.ended > at - CROSSED_SECONDS]


@asynccontextmanager
async def fleet(
    directory: Path,
    bootstrap_servers: str,
    *,
    providers: Sequence[str] = ("deepseek",),
    latency: tuple[float, float] = (0.2, 0.8),
    drain_seconds: float = 60,
    partitions: int = 6,
    route: str = "",
) -> AsyncIterator[Fleet]:
    """A fleet without processes yet; ``latency`` is the shortest call and the spread above it."""
    prefix = f"chaos-{uuid4().hex[:8]}"
    kafka = Kafka(bootstrap_servers=bootstrap_servers, prefix=prefix)
    config = directory / "outlast.toml"
    targets = ", ".join(f'"{name}/{MODELS[name]}"' for name in providers)
    config.write_text(
        f"""[kafka]
bootstrap_servers = "{bootstrap_servers}"
prefix = "{prefix}"
partitions = {partitions}
[defaults]
route = "chat"
drain_seconds = {drain_seconds:g}
[routes.chat]
targets = [{targets}]
{route}
"""
        + "".join(map(_provider, providers))
    )
    behaviour = Behaviour(latency_seconds=latency[0], latency_spread_seconds=latency[1])
    made = Fleet(
        kafka,
        directory,
        {name: Witness(name, behaviour) for name in providers},
        config,
        publisher=Publisher(kafka, prefix),
        drain_seconds=drain_seconds,
    )
    async with made:
        yield made


def _provider(name: str) -> str:
    """Lines of the configuration; the address is put in once the simulator listens."""
    return f"""[providers.{name}]
family = "{name}"
base_url = "{{{name}}}"
api_key_env = "{name.upper()}_API_KEY"
limits = {{{{ concurrency = 2000 }}}}
clocks = {{{{ {CLOCKS} }}}}
"""
