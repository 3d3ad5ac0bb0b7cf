"""The outbox on real Kafka: acknowledged or still trying, in order, and whole after a refusal."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer.transaction_manager import PidAndEpoch
from aiokafka.protocol.produce import ProduceRequest
from structlog.testing import capture_logs

from outlast.core.lifecycle import Hop, Outgoing, SetAside, records
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Encoded
from outlast.edges.kafka import entrance, private
from outlast.edges.kafka import outbox as module
from outlast.edges.kafka.connection import producer
from outlast.edges.kafka.outbox import Outbox
from outlast.edges.kafka.partitioner import partition_of
from outlast.edges.kafka.scan import from_the_first, scan
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job
from outlast_schemas.topics import HEADER_BYTES
from tests.core.given import CATALOGUE, a_job
from tests.kafka.cluster import Place, partitions, place
from tests.kafka.member import BOUND, until

pytestmark = pytest.mark.kafka

LARGEST = 80_000
TINY = 1_000
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


@dataclass
class Desk:
    """An outbox and its topics: ``tiny`` takes small records only, as its broker says."""

    where: Place
    outbox: Outbox
    clock: BrokerClock
    built: list[AIOKafkaProducer] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)
    """What the next builds of a producer raise."""

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
    async with place(servers, max_body_bytes=LARGEST - HEADER_BYTES) as where:
        topics, clock, built = where.topics, BrokerClock(), list[AIOKafkaProducer]()
        fails = list[Exception]()
        prefix = where.kafka.prefix
        wide = {**APPEND_TIME, "max.message.bytes": str(LARGEST)}
        tiny = {**APPEND_TIME, "max.message.bytes": str(TINY)}
        await where.admin.create_topics(
            [
                *(
                    NewTopic(name, 1, 1, topic_configs=wide)
                    for name in (f"{prefix}.wide", topics.dead_letters, topics.results())
                ),
                NewTopic(f"{prefix}.tiny", 1, 1, topic_configs=tiny),
            ]
        )

        def build() -> AIOKafkaProducer:
            if fails:
                raise fails.pop()
            built.append(producer(where.kafka))
            return built[-1]

        def too_large(job: Job) -> Sequence[Outgoing]:
            decision = SetAside(job, Reason.TOO_LARGE, "it does not fit")
            return records(decision, topics, CATALOGUE, clock.now())

        outbox = Outbox(build, where.codec, clock, largest=LARGEST, too_large=too_large)
        await outbox.start()
        try:
            yield Desk(where, outbox, clock, built, fails)
        finally:
            await outbox.stop()


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller."""
    return b"".join(uuid.uuid4().bytes for _ in range(size // 16))


def size(record: Encoded) -> int:
    return private.batch_bytes(record.key, record.value, record.headers)


def told(logs: Sequence[Any], event: str) -> list[Any]:
    return [each for each in logs if each["event"] == event]


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
        noisy = noise(LARGEST + 16)
        frame = size(codec.encode(Hop(wide, replace(job, body=noisy)), 0)) - len(noisy)
        job = replace(job, body=noisy[: LARGEST - frame + over])
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
        refusals = [each["error"] for each in told(logs, "outbox.refused")]
        # by the broker, each time anew: never the broken sequence of an old producer
        assert set(refusals) == {"MessageSizeTooLargeError"}
        assert len(here.built) == 1 + len(told(logs, "outbox.rebuilt"))


async def test_from_the_refusal_on_nothing_new_is_taken_also_while_the_producer_is_rebuilt(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(kafka) as here:
        started, may_start = here.outbox._producers._started, asyncio.Event()

        async def slowly() -> AIOKafkaProducer:
            await may_start.wait()
            return await started()

        monkeypatch.setattr(here.outbox._producers, "_started", slowly)
        with capture_logs() as logs:
            refused = asyncio.create_task(here.outbox.write(here.record("tiny", noise(2_000))))
            await until(lambda: told(logs, "outbox.refused"))
            assert here.outbox.is_blocked
            await here.allow_large()
            may_start.set()
            await asyncio.wait_for(refused, BOUND)

        assert not here.outbox.is_blocked


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


async def test_as_many_bytes_as_the_topic_takes_arrive_and_one_more_never_enters_the_producer(
    kafka: str,
) -> None:
    async with desk(kafka) as here:
        names = [("é" * 300, b"x" * 20), ("plain", None)]
        job = replace(a_job(*names), id="job-0", body=noise(LARGEST))
        frame = size(here.where.codec.encode(Hop(here.topic("wide"), job), 0)) - LARGEST
        entered = seen_by(here.built[0])
        with capture_logs() as logs:
            for number, over in enumerate((-1, 0, 1, 2)):
                cut = replace(job, id=f"job-{number}", body=job.body[: LARGEST - frame + over])
                await here.outbox.send([Hop(here.topic("wide"), cut)])
        found = await here.read("wide")

        assert sorted(each.key for each in found) == [b"job-0", b"job-1"]
        assert len(await here.read("dead-letters")) == len(await here.read("results")) == 2
        assert [topic for topic in entered if topic == here.topic("wide")] == [found[0].topic] * 2
        assert not told(logs, "outbox.not_taken")
        assert not told(logs, "outbox.refused")


async def test_a_burst_is_cut_into_batches_that_the_topic_takes(kafka: str) -> None:
    async with desk(kafka) as here:
        with capture_logs() as logs:
            writes = [here.record("wide", noise(2_000 + 16 * number)) for number in range(200)]
            await asyncio.gather(*map(here.outbox.write, writes))

        assert sorted(await here.values("wide")) == sorted(each.value for each in writes)
        assert not told(logs, "outbox.refused")


async def test_whoever_is_cancelled_leaves_a_record_that_may_still_land(kafka: str) -> None:
    async with desk(kafka) as here:
        heard, answers = mute(here.built[0]), answers_of(here.built[0])
        given_up = asyncio.create_task(here.outbox.write(here.record("wide", b"given up")))
        await until(lambda: answers)
        given_up.cancel()
        await asyncio.wait({given_up})
        was_cancelled, was_known = given_up.cancelled(), answers[0].done()
        still_waits = here.outbox.oldest_seconds > 0
        heard.set()
        await until(lambda: not here.outbox.oldest_seconds)

        assert (was_cancelled, was_known, still_waits) == (True, False, True)
        assert answers[0].result().offset == 0
        assert await here.values("wide") == [b"given up"]


async def test_a_refusal_that_nobody_waits_for_any_more_breaks_nothing_for_the_others(
    kafka: str,
) -> None:
    async with desk(kafka) as here:
        answers = answers_of(here.built[0])
        given_up = asyncio.create_task(here.outbox.write(here.record("tiny", noise(2_000))))
        await until(lambda: answers)
        given_up.cancel()
        await until(lambda: len(here.built) == 2)
        with capture_logs() as logs:
            await here.outbox.write(here.record("tiny", b"next"))

        assert await here.values("tiny") == [b"next"]
        assert not told(logs, "outbox.refused")
        assert not here.outbox.is_blocked


async def test_whoever_is_cancelled_while_the_producer_is_rebuilt_leaves_no_half_of_one(
    kafka: str,
) -> None:
    async with desk(kafka) as here:
        refused = asyncio.create_task(here.outbox.write(here.record("tiny", noise(2_000))))
        await until(lambda: len(here.built) == 2)
        refused.cancel()
        await asyncio.wait({refused})
        await until(lambda: serves(here, here.built[1]))

        await here.outbox.write(here.record("wide", b"next"))
        await until(here.built[0]._sender.sender_task.done)
        assert len(here.built) == 2


@pytest.mark.parametrize("refusal", ["OutOfOrderSequenceNumber", "ProducerFenced"])
async def test_after_a_broken_sequence_or_a_fence_each_record_is_written_once(
    kafka: str, refusal: str
) -> None:
    async with desk(kafka) as here:
        await here.outbox.write(here.record("wide", b"first"))
        spoilt(here.built[0], TopicPartition(here.topic("wide"), 0), refusal)
        with capture_logs() as logs:
            numbers = [b"%d" % number for number in range(100)]
            writes = [here.record("wide", number) for number in numbers]
            elsewhere = [here.record("results", number) for number in numbers]
            await asyncio.wait_for(
                asyncio.gather(*map(here.outbox.write, [*writes, *elsewhere])), BOUND
            )

        assert sorted(await here.values("wide")) == sorted([b"first", *numbers])
        assert sorted(await here.values("results")) == sorted(numbers)
        assert {each["error"] for each in told(logs, "outbox.refused")} == {refusal}
        assert len(told(logs, "outbox.refused")) == 1  # not one for each record
        assert len(here.built) == 2


async def test_a_producer_whose_sender_died_is_replaced_even_when_that_fails_at_first(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(kafka) as here:
        await here.outbox.write(here.record("wide", b"first"))
        here.fails[:] = [KafkaConnectionError("first"), RuntimeError("second")]

        async def dies(*_: object, **__: object) -> None:
            raise KeyError("as when two requests to one broker time out in one moment")

        monkeypatch.setattr(here.built[0].client, "send", dies)
        with capture_logs() as logs:
            await asyncio.wait_for(here.outbox.write(here.record("wide", b"second")), BOUND)

        assert await here.values("wide") == [b"first", b"second"]
        assert [each["error"] for each in told(logs, "outbox.not_rebuilt")] == [
            "RuntimeError",
            "KafkaConnectionError",
        ]
        assert not here.outbox.is_blocked


async def test_a_producer_that_learns_of_no_topics_any_more_is_replaced(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "UNKNOWN_SECONDS", 0.5)
    async with desk(kafka) as here:
        here.built[0].client._sync_task.cancel()
        await until(here.built[0].client._sync_task.done)
        await asyncio.wait_for(here.outbox.write(here.record("wide", b"x")), BOUND)

        assert await here.values("wide") == [b"x"]
        assert len(here.built) == 2


async def test_a_topic_created_anew_is_written_to_by_itself(kafka: str) -> None:
    async with desk(kafka) as here:
        for number in range(3):
            await here.outbox.write(here.record("wide", b"%d" % number))
        await here.where.admin.delete_topics([here.topic("wide")])
        late = asyncio.create_task(here.outbox.write(here.record("wide", b"late")))
        await asyncio.wait({late}, timeout=1.0)
        was_in_time = late.done()
        await here.where.admin.create_topics([NewTopic(here.topic("wide"), 1, 1)])
        await asyncio.wait_for(late, BOUND)
        await asyncio.wait_for(here.outbox.write(here.record("wide", b"after")), BOUND)

        assert await here.values("wide") == [*([] if was_in_time else [b"late"]), b"after"]


async def test_a_topic_made_anew_with_fewer_partitions_is_written_to_by_itself(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", 1.0)
    async with desk(kafka) as here:
        name = here.topic("shrinks")
        await here.where.admin.create_topics([NewTopic(name, 7, 1, topic_configs=APPEND_TIME)])
        record = here.record("shrinks", b"first")
        assert partition_of(record.key, 7) > 0
        await asyncio.wait_for(here.outbox.write(record), BOUND)
        await here.where.admin.delete_topics([name])
        late = [
            asyncio.create_task(here.outbox.write(here.record("shrinks", b"%d" % number)))
            for number in range(3)
        ]
        async with asyncio.timeout(BOUND):
            while name in await here.where.admin.list_topics():
                await asyncio.sleep(0.05)
        await here.where.admin.create_topics([NewTopic(name, 1, 1, topic_configs=APPEND_TIME)])
        await asyncio.wait_for(asyncio.gather(*late), BOUND)

        assert sorted(await here.values("shrinks")) == [b"0", b"1", b"2"]
        await until(lambda: not here.outbox.is_blocked)


async def test_a_slow_write_is_said_once_and_so_is_that_all_goes_on(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.5)
    async with desk(kafka) as here:
        heard = mute(here.built[0])
        with capture_logs() as logs:
            slow = [here.record("wide", b"%d" % number) for number in range(50)]
            waiting = asyncio.gather(*map(here.outbox.write, slow))
            await until(lambda: told(logs, "outbox.slow"))
            assert here.outbox.is_blocked
            await until(lambda: here.outbox.oldest_seconds > 2.5)
            assert not told(logs, "outbox.goes_on")
            heard.set()
            await asyncio.wait_for(waiting, BOUND)
            await until(lambda: told(logs, "outbox.goes_on"))
        [alarm] = told(logs, "outbox.slow")
        [end] = told(logs, "outbox.goes_on")

        assert (alarm["topic"], alarm["records"]) == (here.topic("wide"), 50)
        assert 0.5 <= alarm["seconds"] < end["blocked_seconds"]
        assert not told(logs, "outbox.refused")
        assert not here.outbox.is_blocked


async def test_an_outbox_that_stops_with_unwritten_records_says_how_many_and_ends(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.5)
    with capture_logs() as logs:
        async with desk(kafka) as here:
            heard = mute(here.built[0])
            lost = asyncio.create_task(here.outbox.write(here.record("wide", b"x")))
            await until(lambda: here.outbox.is_blocked)
        heard.set()
        lost.cancel()
        await asyncio.wait({lost})

    assert [each["records"] for each in told(logs, "outbox.not_flushed")] == [1]


def seen_by(producer: AIOKafkaProducer) -> list[str]:
    """The topics of what is handed to the producer, in order."""
    topics: list[str] = []
    send = producer.send

    async def spy(topic: str, *rest: Any, **named: Any) -> Any:
        topics.append(topic)
        return await send(topic, *rest, **named)

    producer.send = spy
    return topics


def answers_of(producer: AIOKafkaProducer) -> "list[asyncio.Future[Any]]":
    """The futures that the producer gives for what it has taken."""
    futures: list[asyncio.Future[Any]] = []
    send = producer.send

    async def spy(*rest: Any, **named: Any) -> Any:
        futures.append(await send(*rest, **named))
        return futures[-1]

    producer.send = spy
    return futures


def serves(here: Desk, producer: AIOKafkaProducer) -> bool:
    return here.outbox._producers.current is producer


def mute(producer: AIOKafkaProducer) -> asyncio.Event:
    """Let the answers of the brokers to what it writes not arrive before the event is set."""
    heard, send = asyncio.Event(), producer.client.send

    async def late(node: int, request: Any, **named: Any) -> Any:
        answer = await send(node, request, **named)
        if isinstance(request, ProduceRequest):
            await heard.wait()
        return answer

    producer.client.send = late
    return heard


def spoilt(producer: AIOKafkaProducer, tp: TopicPartition, refusal: str) -> None:
    """Make the broker refuse what the producer sends next to the partition."""
    txn = producer._txn_manager
    if refusal == "OutOfOrderSequenceNumber":
        txn.increment_sequence_number(tp, 5)
    else:  # an epoch below that of a later life of the same producer
        txn._pid_and_epoch = PidAndEpoch(txn.producer_id, txn.producer_epoch - 1)
