"""The parked topic in memory and processes that park for it, in time that passes only when asked.

The stage, the sweeps, the passes and who waits for room are the real ones; of the engine there is
as much as they notice: so many records of a partition are in hand, read in order.
"""

import asyncio
import selectors
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Final

from aiokafka import TopicPartition

from outlast.core.choose import Fleet
from outlast.core.decide import View
from outlast.core.lifecycle import Hop, Outgoing
from outlast.core.policy import Catalogue, Target
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Codec, Decoded
from outlast.edges.kafka.ahead import Ahead
from outlast.edges.kafka.passes import Passes
from outlast.edges.kafka.sweeps import Sweeps
from outlast.park import park
from outlast.ports import ParkPorts
from outlast_schemas.dead_letter import DeadLetter
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Result
from outlast_schemas.topics import Topics
from tests.core.given import CATALOGUE, NOW, a_job

TOPICS: Final = Topics()
PARKED: Final = TOPICS.parked


class Loop(asyncio.SelectorEventLoop):
    """Its time stands still while anybody has something to do, and then jumps to what is next."""

    def __init__(self) -> None:
        self.seconds = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.seconds


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits, for nothing")
        self._loop.seconds += max(0.0, timeout)
        return super().select(0)


class Clock(BrokerClock):
    """The loop's time."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def now(self) -> int:
        return NOW + round(self._loop.seconds * 1000)

    def roll(self) -> float:
        return 0.5


@dataclass
class Pool:
    """A provider's pool: of what is there, so many are served each second."""

    limit: int = 2
    there: int = 0
    most: int = 0

    def room(self) -> int:
        return max(0, 2 * self.limit - self.there)

    def serve(self) -> None:
        self.there = max(0, self.there - self.limit)


@dataclass
class World:
    """The topic, who is up, what has left it, and the processes."""

    loop: Loop
    partitions: int = 2
    window: int = 4
    processes: int = 1
    catalogue: Catalogue = CATALOGUE
    log: dict[int, list[Job]] = field(default_factory=dict)
    done: set[tuple[int, int]] = field(default_factory=set)
    left: dict[str, list[str]] = field(default_factory=dict)
    """Job id → where it went, each time it left."""
    written: Counter[str] = field(default_factory=Counter)
    """Job id → how often it was written to the topic."""
    parked_at: dict[str, int] = field(default_factory=dict)
    passes: Counter[int] = field(default_factory=Counter)
    """Partition → the passes that began in it."""
    overrun: int = 0
    """How many were sent to where there was no room."""

    def __post_init__(self) -> None:
        self.clock = Clock(self.loop)
        self.pools = {name: Pool() for name in self.catalogue.providers}
        self.words = dict.fromkeys(self.pools, BreakerWord.CLOSED)
        self.log = {number: [] for number in range(self.partitions)}
        self.parkers = [Parker(self) for _ in range(self.processes)]
        self._serving: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._serving = asyncio.create_task(self._serve())
        for number, parker in enumerate(self.parkers):
            parker.begin({p for p in self.log if p % self.processes == number})

    async def end(self) -> None:
        assert self._serving is not None
        self._serving.cancel()
        for parker in self.parkers:
            await parker.end()

    async def _serve(self) -> None:
        while True:
            await asyncio.sleep(1)
            for name, pool in self.pools.items():
                pool.serve()
                for parker in self.parkers:
                    parker.sweeps.busy(name)

    def partition(self, job_id: str) -> int:
        return zlib.crc32(job_id.encode()) % self.partitions

    @property
    def is_begun(self) -> bool:
        return self._serving is not None

    def append(self, job: Job) -> None:
        number = self.partition(job.id)
        origin = Origin(PARKED, number, len(self.log[number]), self.clock.now())
        self.log[number].append(replace(job, origin=origin))
        self.written[job.id] += 1
        for parker in self.parkers:
            parker.changed.set()

    def park(self, job_id: str, seconds: float = 10**7, **more: Any) -> None:
        """Some other stage parks a job, which has so long to go."""
        now = self.clock.now()
        job = a_job(accepted=now, deadline=now + int(seconds * 1000), **more)
        self.parked_at[job_id] = now
        self.append(replace(job, id=job_id))

    def parked(self) -> list[Job]:
        """The records that are not done."""
        return [
            job
            for number, records in self.log.items()
            for job in records
            if (number, job.origin.offset) not in self.done
        ]

    def fleet(self) -> Fleet:
        return Fleet({name: self._health(name) for name in self.words})

    def _health(self, name: str) -> Health:
        now = self.clock.now()
        models = {EVERY_MODEL: ModelHealth(state=self.words[name], since=now)}
        return Health(provider=name, epoch=1, at=now, models=models)

    def say(self, name: str, word: BreakerWord) -> None:
        """The fleet's verdict on a provider, which all hear."""
        before, self.words[name] = self._health(name), word
        for parker in self.parkers:
            parker.sweeps.saw(before, self._health(name))

    def down(self, *names: str) -> None:
        for name in names:
            self.say(name, BreakerWord.OPEN)

    def up(self, *names: str) -> None:
        for name in names:
            self.say(name, BreakerWord.CLOSED)

    def took(self, records: Sequence[Outgoing]) -> None:
        for record in records:
            match record:
                case Hop(topic, job) if topic == PARKED:
                    self.append(job)
                case Hop(topic, job):
                    self.left.setdefault(job.id, []).append(topic.removeprefix("outlast.work."))
                case Result(job=job, status=status):
                    self.left.setdefault(job.id, []).append(status)
                case DeadLetter():
                    pass  # its result follows


class Parker:
    """One process's PARK."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.owned: dict[int, int] = {}
        """By partition, where to read on."""
        self.running: dict[asyncio.Task[None], tuple[int, int]] = {}
        self.changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._make()

    def _make(self) -> None:
        world = self.world
        ahead = Ahead(
            scan=self._scan,
            is_done=lambda tp, offset: (tp.partition, offset) in world.done,
            codec=_Codec(),
            catalogue=world.catalogue,
            clock=world.clock,
        )
        self.passes = Passes(
            ahead=ahead,
            windows=self._windows,
            ends=self._ends,
            is_crowded=lambda: any(
                each < len(world.log[number]) for number, each in self.owned.items()
            ),
            view=lambda: View(
                catalogue=world.catalogue, fleet=world.fleet(), now=world.clock.now(), roll=0.5
            ),
            room=lambda target: self.sweeps.free(target),
            clock=world.clock,
        )
        self.sweeps = Sweeps(
            catalogue=world.catalogue,
            clock=world.clock,
            fleet=world.fleet,
            ends=self._ends,
            passes=self.passes,
            pace=self,
        )
        self.passes.watch(lambda ends: world.passes.update(tp.partition for tp in ends))
        self.ports = ParkPorts(
            catalogue=world.catalogue,
            topics=TOPICS,
            clock=world.clock,
            outbox=self,
            codec=Codec("cluster", TOPICS),
            fleet=self,
            starts=self,
            sweeps=self.sweeps,
            ramped=self,
        )

    def room(self, target: Target) -> int:
        return self.world.pools[target.provider].room()

    def sent(self, target: Target) -> None:
        pool = self.world.pools[target.provider]
        self.world.overrun += pool.room() <= 0
        pool.there += 1
        pool.most = max(pool.most, pool.there)

    def fleet(self) -> Fleet:
        return self.world.fleet()

    @asynccontextmanager
    async def resting(self, job: Job) -> AsyncIterator[None]:
        yield

    def is_doubtful(self, job: Job) -> bool:
        return False

    async def recorded(self, job: Job) -> None:
        return

    async def send(self, records: Sequence[Outgoing]) -> None:
        self.world.took(records)

    def _windows(self) -> dict[TopicPartition, range]:
        lows = dict(self.owned)
        for number, offset in self.running.values():
            lows[number] = min(lows[number], offset)
        return {
            TopicPartition(PARKED, number): range(lows[number], at)
            for number, at in self.owned.items()
        }

    async def _ends(self) -> dict[TopicPartition, int]:
        return {TopicPartition(PARKED, each): len(self.world.log[each]) for each in self.owned}

    async def _scan(self, starts: Mapping[TopicPartition, int]) -> AsyncGenerator[Any, None]:
        for tp, start in starts.items():
            for job in self.world.log[tp.partition][start:]:
                yield SimpleNamespace(
                    topic=PARKED, partition=tp.partition, offset=job.origin.offset, job=job
                )

    def begin(self, owned: Iterable[int]) -> None:
        self._tasks = [
            asyncio.create_task(each)
            for each in (self.sweeps.run(), self.passes.run(), self._read())
        ]
        self.own(owned)

    def own(self, owned: Iterable[int]) -> None:
        """The group has given these: all is read again from what is not done."""
        for task in self.running:
            task.cancel()
        self.running.clear()
        self.owned = dict.fromkeys(owned, 0)
        self.sweeps.owe()
        self.changed.set()

    async def end(self) -> None:
        for task in [*self._tasks, *self.running]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self.running, return_exceptions=True)
        self.running.clear()

    async def restart(self) -> None:
        """The process ends, and another takes its place."""
        owned = list(self.owned)
        await self.end()
        self._make()
        self.begin(owned)

    async def _read(self) -> None:
        while True:
            for number in self.owned:
                self._admit(number)
            self.changed.clear()
            await self.changed.wait()

    def _admit(self, number: int) -> None:
        records = self.world.log[number]
        in_hand = sum(place[0] == number for place in self.running.values())
        while self.owned[number] < len(records) and in_hand < self.world.window:
            offset = self.owned[number]
            self.owned[number] += 1
            if (number, offset) not in self.world.done:
                in_hand += 1
                task = asyncio.create_task(self._carry(records[offset]))
                self.running[task] = (number, offset)

    async def _carry(self, job: Job) -> None:
        await park(job, self.ports)
        self.world.done.add((job.origin.partition, job.origin.offset))
        task = asyncio.current_task()
        if task is not None:
            self.running.pop(task, None)
        self.changed.set()


class _Codec(Codec):
    """The records of this topic are jobs as they are."""

    def __init__(self) -> None:
        super().__init__("cluster", TOPICS)

    def decode(self, record: Any) -> Decoded:
        return Decoded(record.job)
