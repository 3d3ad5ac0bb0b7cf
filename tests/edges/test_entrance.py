"""Records enter where their key belongs, and only so many wait for room in one partition."""

import asyncio
from collections import Counter
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from outlast.edges.codec import Encoded
from outlast.edges.kafka import entrance as module
from outlast.edges.kafka.entrance import WAITING, Entrance
from outlast.edges.kafka.partitioner import partition_of
from tests.stages.fakes import turns

TOPIC = "outlast.retry.10s"


class Crowded:
    """A producer whose partitions have room only as far as the test gives it."""

    def __init__(self, partitions: set[int] | None) -> None:
        self.partitions = partitions
        self.client = self.cluster = self
        self.asking: Counter[int | None] = Counter()
        self.entered: list[bytes] = []
        self.room = asyncio.Semaphore(0)

    def partitions_for_topic(self, _: str) -> set[int] | None:
        return self.partitions

    async def send(
        self, _: str, value: bytes, *, partition: int | None, **__: Any
    ) -> "asyncio.Future[str]":
        self.asking[partition] += 1
        try:
            await self.room.acquire()
        finally:
            self.asking[partition] -= 1
        self.entered.append(value)
        ack = asyncio.get_running_loop().create_future()
        ack.set_result("acknowledged")
        return ack


def record(number: int, key: bytes = b"one") -> Encoded:
    return Encoded(TOPIC, key, b"%d" % number, [])


def key_of(partition: int, partitions: int) -> bytes:
    keys = (b"%d" % number for number in range(1_000))
    return next(key for key in keys if partition_of(key, partitions) == partition)


@given(st.binary(max_size=64), st.integers(1, 64))
def test_a_key_belongs_where_every_kafka_client_puts_it(key: bytes, partitions: int) -> None:
    all_of_them = list(range(partitions))

    assert partition_of(key, partitions) == DefaultPartitioner()(key, all_of_them, all_of_them)


async def test_of_thousands_only_so_many_ask_at_once_and_all_enter_in_their_order() -> None:
    producer, entrance = Crowded({0}), Entrance()
    tasks = [
        asyncio.create_task(entrance.enter(cast(AIOKafkaProducer, producer), record(number)))
        for number in range(3_000)
    ]
    await turns()
    assert producer.asking == {0: WAITING}
    for _ in tasks:
        producer.room.release()
    acks = await asyncio.wait_for(asyncio.gather(*tasks), 10)

    assert producer.entered == [b"%d" % number for number in range(3_000)]
    assert {ack.result() for ack in acks} == {"acknowledged"}


async def test_a_partition_without_room_keeps_nobody_from_another() -> None:
    producer, entrance = Crowded({0, 1}), Entrance()
    keys = [key_of(0, 2)] * 3 * WAITING + [key_of(1, 2)]
    tasks = [
        asyncio.create_task(entrance.enter(cast(AIOKafkaProducer, producer), record(number, key)))
        for number, key in enumerate(keys)
    ]
    await turns()
    assert producer.asking == {0: WAITING, 1: 1}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_is_cancelled_while_it_waits_never_enters_and_takes_nobodys_turn() -> None:
    producer, entrance = Crowded({0}), Entrance()
    tasks = [
        asyncio.create_task(entrance.enter(cast(AIOKafkaProducer, producer), record(number)))
        for number in range(2 * WAITING)
    ]
    await turns()
    for task in tasks[: WAITING + 3]:
        task.cancel()
    await turns()
    for _ in tasks:
        producer.room.release()
    await asyncio.wait(tasks)

    assert producer.entered == [b"%d" % number for number in range(WAITING + 3, 2 * WAITING)]


async def test_a_topic_that_stays_unknown_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNKNOWN_SECONDS", 0.01)
    producer = Crowded(None)
    with pytest.raises(TimeoutError):
        await Entrance().enter(cast(AIOKafkaProducer, producer), record(1))

    assert producer.entered == []
    assert producer.asking == {None: 0}


async def test_who_waited_while_its_topic_was_made_anew_enters_where_its_key_belongs_now() -> None:
    producer, entrance = Crowded({0, 1}), Entrance()
    tasks = [
        asyncio.create_task(
            entrance.enter(cast(AIOKafkaProducer, producer), record(number, key_of(1, 2)))
        )
        for number in range(WAITING + 1)
    ]
    await turns()
    assert producer.asking == {1: WAITING}
    producer.partitions = {0}
    producer.room.release()
    await turns()

    assert producer.asking == {1: WAITING - 1, 0: 1}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
