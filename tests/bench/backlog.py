"""What lies in Kafka before a bench begins: jobs, verdicts; and how its progress is counted."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from outlast.core.lifecycle import Hop
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Codec, Encoded
from outlast.edges.kafka.connection import admin, connect, groupless_consumer, producer
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.job import Job, Origin
from outlast_schemas.state import State
from tests.bench.figures import cpu_seconds, waited_seconds
from tests.e2e.scene import Process, Scene

PARTITIONS: Final = 12
TOPICS: Final = f"partitions = {PARTITIONS}"
"""What a scene's configuration has to say of them."""
POLL_SECONDS: Final = 0.05
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one moment: seconds, CPU seconds and seconds without a core, records written."""

    at: float
    cpu: float
    waited: float
    written: int


class Ledger:
    """Fills topics, and counts what is in them without reading it."""

    def __init__(self, world: Scene, writer: AIOKafkaProducer, reader: AIOKafkaConsumer) -> None:
        """``reader`` is only asked for ends."""
        self._world, self._writer, self._reader = world, writer, reader
        self._epoch = 1

    async def bare_topic(self, name: str = "bare") -> str:
        """A topic of the same kind as ours, for the loop that is compared with."""
        name = f"{self._world.kafka.prefix}.{name}"
        settings = {"compression.type": "zstd", "message.timestamp.type": "LogAppendTime"}
        client = admin(self._world.kafka)
        await client.start()
        await client.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=settings)])
        await client.close()
        return name

    async def end(self, topic: str) -> int:
        """How many records were ever written to it."""
        parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        return sum((await self._reader.end_offsets(parts)).values())

    async def publish(self, bodies: Iterable[bytes], prefix: str) -> None:
        """Published jobs, for route."""
        topic = self._world.topics.jobs
        await self._send(
            Encoded(topic, job_id.encode(), body, [("ce_id", job_id.encode())])
            for job_id, body in ((f"{prefix}-{number}", body) for number, body in enumerate(bodies))
        )

    async def send_under_way(self, topic: str, bodies: Iterable[bytes]) -> None:
        """Jobs that were routed to deepseek, in the topic of a pool or a tier."""
        codec = Codec((await connect(self._world.kafka)).id, self._world.topics)
        now = BrokerClock().now()
        state = State(
            accepted=now,
            deadline=now + DAY_MS,
            route="chat",
            hop=1,
            target="deepseek/deepseek-flash",
        )
        origin = Origin(topic, 0, 0, now)
        job = Job(id="", body=b"", headers=(), state=state, origin=origin)
        await self._send(
            codec.encode(Hop(topic, replace(job, id=f"job-{number}", body=body)), now)
            for number, body in enumerate(bodies)
        )

    async def _send(self, records: Iterable[Encoded]) -> None:
        for each in records:
            await self._writer.send(each.topic, each.value, key=each.key, headers=each.headers)
        await self._writer.flush()

    async def verdict(self, provider: str, state: BreakerWord) -> None:
        """What the whole fleet is to know of a provider; it does not go stale within a bench."""
        self._epoch += 1
        now = BrokerClock().now()
        models = {EVERY_MODEL: ModelHealth(state=state, since=now)}
        health = Health(provider=provider, epoch=self._epoch, at=now + DAY_MS, models=models)
        value = orjson.dumps(health.to_json())
        topic = self._world.topics.health
        await self._writer.send_and_wait(topic, value, key=provider.encode())

    async def until(self, topic: str, count: int, seconds: float) -> float:
        """When, by the loop's clock, the topic had its ``count`` records; never more."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            while (written := await self.end(topic)) < count:
                await asyncio.sleep(POLL_SECONDS)
        assert written == count
        return loop.time()

    async def sampled(
        self, run: Process, topic: str, before: int, count: int, seconds: float
    ) -> list[Sample]:
        """Watch a process until it has written so many records beyond ``before``; never more."""
        loop, samples = asyncio.get_running_loop(), list[Sample]()
        end = loop.time() + seconds
        while not samples or samples[-1].written < count:
            if run.process.returncode is not None or loop.time() > end:
                raise AssertionError(f"{samples[-1:]} of {count}:\n{run.log.read_text()[-3000:]}")
            written = await self.end(topic) - before
            pid = run.process.pid
            samples.append(Sample(loop.time(), cpu_seconds(pid), waited_seconds(pid), written))
            await asyncio.sleep(POLL_SECONDS)
        assert samples[-1].written == count
        return samples


@asynccontextmanager
async def ledger(world: Scene) -> AsyncIterator[Ledger]:
    """The ledger of a scene."""
    writer, reader = producer(world.kafka), groupless_consumer(world.kafka)
    await writer.start()
    await reader.start()
    try:
        yield Ledger(world, writer, reader)
    finally:
        await writer.stop()
        await reader.stop()


def numbers(which: int = 0, parts: int = 1) -> str:
    """The partitions of one of several that share a topic, as a bare loop is told them."""
    return ",".join(map(str, range(which, PARTITIONS, parts)))


def bodies(count: int, size: int) -> Iterable[bytes]:
    """Chat requests of about so many bytes, each of its own: as texts compress, by a third."""
    dice = random.Random(11)
    noise = dice.randbytes(4 * size).hex()
    for number in range(count):
        begin = dice.randrange(6 * size)
        text = f"{number} {noise[begin : begin + size - 90]}"
        messages = [{"role": "user", "content": text}]
        yield orjson.dumps({"model": "chat", "messages": messages})
