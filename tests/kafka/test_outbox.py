"""The outbox on real Kafka: acknowledged or still trying, in order, and whole after a refusal."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from structlog.testing import capture_logs

from outlast.core.lifecycle import Hop, Outgoing, SetAside, records
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Encoded
from outlast.edges.kafka import outbox as module
from outlast.edges.kafka.connection import producer
from outlast.edges.kafka.outbox import Outbox
from outlast.edges.kafka.scan import from_the_first, scan
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job
from tests.core.given import CATALOGUE, a_job
from tests.kafka.cluster import Place, partitions, place
from tests.kafka.member import BOUND, until

pytestmark = pytest.mark.kafka

LARGEST = 20_000
TINY = 1_000
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


@dataclass
class Desk:
    """An outbox and its topics: one of them takes tiny records only, as its broker says."""

    where: Place
    outbox: Outbox
    clock: BrokerClock
    built: list[AIOKafkaProducer] = field(default_factory=list)

    def topic(self, name: str) -> str:
        return f"{self.where.kafka.prefix}.{name}"

    def record(self, name: str, value: bytes) -> Encoded:
        return Encoded(self.topic(name), b"k", value, [])

    async def read(self, name: str) -> list[Any]:
        first = from_the_first(partitions(self.topic(name), range(1)))
        return [record async for record in scan(self.where.kafka, first)]

    async def values(self, name: str) -> list[bytes]:
        return [each.value for each in await self.read(name)]

    async def allow_large(self) -> None:
        """What an operator does about the refusals."""
        wanted = {"max.message.bytes": str(LARGEST), **APPEND_TIME}
        resource = ConfigResource(ConfigResourceType.TOPIC, self.topic("tiny"), configs=wanted)
        await self.where.admin.alter_configs([resource])


@contextlib.asynccontextmanager
async def desk(servers: str) -> AsyncIterator[Desk]:
    async with place(servers) as where:
        topics, clock, built = where.topics, BrokerClock(), list[AIOKafkaProducer]()
        prefix = where.kafka.prefix
        tiny = {**APPEND_TIME, "max.message.bytes": str(TINY)}
        await where.admin.create_topics(
            [
                *(
                    NewTopic(name, 1, 1, topic_configs=APPEND_TIME)
                    for name in (f"{prefix}.wide", topics.dead_letters, topics.results())
                ),
                NewTopic(f"{prefix}.tiny", 1, 1, topic_configs=tiny),
            ]
        )

        def build() -> AIOKafkaProducer:
            built.append(producer(where.kafka))
            return built[-1]

        def too_large(job: Job) -> Sequence[Outgoing]:
            decision = SetAside(job, Reason.TOO_LARGE, "it does not fit")
            return records(decision, topics, CATALOGUE, clock.now())

        outbox = Outbox(build, where.codec, clock, largest=LARGEST, too_large=too_large)
        await outbox.start()
        try:
            yield Desk(where, outbox, clock, built)
        finally:
            await outbox.stop()


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller."""
    return b"".join(uuid.uuid4().bytes for _ in range(size // 16))


async def test_when_send_returns_all_its_records_are_in_kafka_in_their_order(kafka: str) -> None:
    async with desk(kafka) as here:
        jobs = [replace(a_job(), id=f"job-{number}") for number in range(5)]
        await here.outbox.send([Hop(here.topic("wide"), job) for job in jobs])
        found = await here.read("wide")

        assert [each.key.decode() for each in found] == [job.id for job in jobs]
        assert [here.where.codec.decode(each).job.body for each in found] == [jobs[0].body] * 5


async def test_each_record_is_acknowledged_before_the_next_is_written(kafka: str) -> None:
    async with desk(kafka) as here:
        held = asyncio.create_task(
            here.outbox.send(
                [
                    Hop(here.topic("tiny"), a_job(body=noise(2_000))),
                    Hop(here.topic("wide"), a_job()),
                ]
            )
        )
        await until(lambda: here.outbox.is_blocked)
        assert await here.values("wide") == []
        await here.allow_large()
        await asyncio.wait_for(held, BOUND)

        assert len(await here.values("wide")) == 1


async def test_an_ack_teaches_the_clock_the_brokers_time(kafka: str) -> None:
    async with desk(kafka) as here:
        here.clock.learn(1_000_000)  # as if this machine stood in 1970
        await here.outbox.write(here.record("wide", b"x"))
        [record] = await here.read("wide")

        assert record.timestamp <= here.clock.now() < record.timestamp + 60_000


@pytest.mark.parametrize(("over", "is_whole"), [(0, True), (1, False)])
async def test_a_record_above_the_limit_becomes_a_dead_letter_of_its_beginning(
    kafka: str, over: int, is_whole: bool
) -> None:
    async with desk(kafka) as here:
        job = a_job(("customer", b"c"), ("outlast-tenant", b"t"), body=b"")
        codec, wide = here.where.codec, here.topic("wide")
        room = LARGEST - codec.encode(Hop(wide, job), 0).size
        job = replace(job, body=noise(room + 16)[: room + over])
        await here.outbox.send([Hop(wide, job)])
        letters, results = await here.read("dead-letters"), await here.read("results")

        assert len(await here.values("wide")) == is_whole
        assert len(letters) == len(results) == (not is_whole)
        for letter in letters:
            headers = dict(letter.headers)
            assert headers["outlast-reason"] == b"too_large"
            assert headers["outlast-from"] == str(job.origin).encode()
            assert headers["outlast-tenant"] == b"t"
            assert "customer" not in headers
            assert job.body.startswith(letter.value)
        assert not here.outbox.is_blocked


async def test_while_a_write_is_refused_others_go_on_and_it_goes_on_by_itself(kafka: str) -> None:
    async with desk(kafka) as here:
        with capture_logs() as logs:
            large = noise(2_000)
            refused = asyncio.create_task(here.outbox.write(here.record("tiny", large)))
            await until(lambda: here.outbox.is_blocked)
            for number in range(20):
                await here.outbox.write(here.record("wide", b"%d" % number))
                await here.outbox.write(here.record("tiny", b"%d" % number))
            assert not refused.done()
            assert here.outbox.is_blocked
            await here.allow_large()
            await asyncio.wait_for(refused, BOUND)

        assert not here.outbox.is_blocked
        numbers = [b"%d" % number for number in range(20)]
        assert await here.values("wide") == numbers
        assert [each for each in await here.values("tiny") if each != large] == numbers
        assert (await here.values("tiny")).count(large) == 1
        refusals = [each["error"] for each in logs if each["event"] == "outbox.refused"]
        # by the broker, each time anew: never the broken sequence of an old producer
        assert set(refusals) == {"MessageSizeTooLargeError"}
        assert len(here.built) == 1 + len(refusals)


async def test_what_one_batch_refuses_is_written_by_each_in_the_end(kafka: str) -> None:
    async with desk(kafka) as here:
        writes = [here.record("tiny", noise(400)) for _ in range(30)]
        await asyncio.wait_for(asyncio.gather(*map(here.outbox.write, writes[:1])), BOUND)
        rest = asyncio.gather(*map(here.outbox.write, writes[1:]))
        await until(lambda: here.outbox.is_blocked)  # together they are too large for the topic
        await here.allow_large()
        await asyncio.wait_for(rest, BOUND)

        assert sorted(await here.values("tiny")) == sorted(each.value for each in writes)
        assert not here.outbox.is_blocked


async def test_a_slow_write_holds_new_work_back_until_it_is_acknowledged(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(kafka) as here:
        await here.outbox.write(here.record("wide", b"first"))
        assert (here.outbox.oldest_seconds, here.outbox.is_blocked) == (0.0, False)
        was_blocked = False
        with monkeypatch.context() as patched:
            patched.setattr(module, "SLOW_SECONDS", 0.0)
            slow = asyncio.create_task(here.outbox.write(here.record("wide", b"slow")))
            while not slow.done():
                was_blocked = was_blocked or here.outbox.is_blocked
                await asyncio.sleep(0)

        assert was_blocked
        assert (here.outbox.oldest_seconds, here.outbox.is_blocked) == (0.0, False)
