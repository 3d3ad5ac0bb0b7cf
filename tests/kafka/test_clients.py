"""Wherever our Kafka clients are cut off, nothing of them stays open and nothing goes on."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaError

from outlast.edges.kafka import private
from outlast.edges.kafka.clients import Consumer
from outlast.edges.kafka.connection import admin, groupless_consumer, producer
from outlast.edges.kafka.glance import Glance
from outlast.edges.settings import Kafka
from tests.kafka.cluster import Place, place
from tests.kafka.member import until

pytestmark = pytest.mark.kafka

MOST = 60
"""Nothing below waits so often."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All connections that aiokafka begins; held, so that none is collected and closed thereby."""
    found: list[Any] = []
    connect = AIOKafkaConnection.connect

    async def noted(self: Any) -> Any:
        found.append(self)
        return await connect(self)

    monkeypatch.setattr(AIOKafkaConnection, "connect", noted)
    return found


async def by_nobody(kafka: Kafka, topic: str) -> None:
    consumer = groupless_consumer(kafka, topic)
    try:
        await consumer.start()
        await consumer.end_offsets([TopicPartition(topic, 0)])
    finally:
        await consumer.stop()


async def by_nobody_who_stops_only_what_has_started(kafka: Kafka, topic: str) -> None:
    consumer = groupless_consumer(kafka, topic)
    await consumer.start()
    await consumer.stop()


async def by_a_group(kafka: Kafka, topic: str) -> None:
    consumer = member(kafka, topic)
    try:
        await consumer.start()
    finally:
        await consumer.stop()


async def by_a_writer(kafka: Kafka, topic: str) -> None:
    writer = producer(kafka)
    try:
        await writer.start()
        await writer.send_and_wait(topic, b"x")
    finally:
        await writer.stop()


async def by_an_administrator(kafka: Kafka, topic: str) -> None:
    asking = admin(kafka)
    try:
        await asking.start()
        await private.metadata(asking, [topic])
    finally:
        await asking.close()


async def by_a_glance(kafka: Kafka, topic: str) -> None:
    await Glance(kafka)({TopicPartition(topic, 0): 0})


USES = (
    *(by_nobody, by_nobody_who_stops_only_what_has_started, by_a_group, by_a_writer),
    *(by_an_administrator, by_a_glance),
)


def member(kafka: Kafka, topic: str) -> Consumer:
    return Consumer(
        topic,
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=f"{topic}.{uuid.uuid4().hex}",  # nobody waits for one that was cut off
        enable_auto_commit=False,
    )


class Waiting:
    """Something under way that can be disturbed each time it waits."""

    def __init__(self, work: Coroutine[Any, Any, None], at: int, disturb: Callable[[], Any]):
        self._work, self._at, self._disturb = work, at, disturb
        self.times = 0

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration:
                return
            self.times += 1
            if self.times == self._at:
                asyncio.get_running_loop().call_soon(self._disturb)
            try:
                yield waits_for
                thrown = None
            except BaseException as error:  # noqa: BLE001  # it is handed on
                thrown = error


async def cancelled(work: Coroutine[Any, Any, None], at: int) -> bool:
    """Cancel it when it waits for the so-manieth time; false when it never waited so often."""
    waiting = Waiting(work, at, lambda: task.cancel())

    async def run() -> None:
        await waiting

    task = asyncio.create_task(run())
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
    return waiting.times >= at


async def each_wait(disturbed: Callable[[int], Awaitable[bool]], made: list[Any]) -> int:
    """Disturb it at one wait after the other; returns at how many."""
    others = asyncio.all_tasks()
    for at in range(1, MOST):
        went_on = await disturbed(at)
        await until(lambda: asyncio.all_tasks() <= others)
        assert not [each for each in made if each.connected()], f"at wait {at}"
        made.clear()
        if not went_on:
            return at - 1
    raise AssertionError("it waits more often than this test looks at")


async def topic_of(where: Place) -> str:
    topic = f"{where.kafka.prefix}.topic"
    await where.admin.create_topics([NewTopic(topic, 1, 1)])
    async with producer(where.kafka) as writer:
        await writer.send_and_wait(topic, b"x")
    return topic


@pytest.mark.parametrize("use", USES)
async def test_who_is_cancelled_leaves_nothing_behind(
    kafka: str, use: Callable[[Kafka, str], Coroutine[Any, Any, None]], made: list[Any]
) -> None:
    async with place(kafka) as where:
        topic = await topic_of(where)
        made.clear()
        waits = await each_wait(lambda at: cancelled(use(where.kafka, topic), at), made)

        assert waits > 5


async def stopped(client: Any, at: int) -> bool:
    """Stop it when its start waits for the so-manieth time; false when it never waited so often."""
    stops: list[asyncio.Task[None]] = []
    waiting = Waiting(client.start(), at, lambda: stops.append(asyncio.create_task(client.stop())))

    async def start() -> None:
        await waiting

    task = asyncio.create_task(start())
    await until(lambda: stops or task.done())
    if not stops:
        await client.stop()
    await asyncio.gather(*stops)
    task.cancel()  # of a group that it has left, a consumer would wait for ever
    await asyncio.gather(task, return_exceptions=True)
    return waiting.times >= at


@pytest.mark.parametrize("make", [groupless_consumer, member, lambda kafka, _: producer(kafka)])
async def test_who_is_stopped_while_it_starts_leaves_nothing_behind(
    kafka: str, make: Callable[[Kafka, str], Any], made: list[Any]
) -> None:
    async with place(kafka) as where:
        topic = await topic_of(where)
        made.clear()
        waits = await each_wait(lambda at: stopped(make(where.kafka, topic), at), made)

        assert waits > 3


async def test_what_is_asked_after_the_stop_connects_no_more(kafka: str, made: list[Any]) -> None:
    async with place(kafka) as where:
        topic = await topic_of(where)
        consumer = member(where.kafka, topic)
        await consumer.start()
        await consumer.stop()
        made.clear()

        with pytest.raises(KafkaError):
            await private.committed(consumer, [TopicPartition(topic, 0)])
        assert made == []


async def test_a_connection_that_the_broker_has_ended_is_closed_when_another_takes_its_place(
    kafka: str,
) -> None:
    async with place(kafka) as where:
        topic = await topic_of(where)
        async with groupless_consumer(where.kafka) as consumer:
            tp = TopicPartition(topic, 0)
            await consumer.end_offsets([tp])
            [before] = consumer._client._conns.values()
            before._reader.feed_eof()
            transport = before._writer.transport
            del before

            assert await consumer.end_offsets([tp]) == {tp: 1}
            assert transport.is_closing()
