"""The way of a record into a producer: to its partition, where only so many wait for room.

aiokafka wakes all who wait for room in a partition whenever a batch of it leaves, and all but a
few wait again. With thousands of jobs that fall due at once, that costs more than the rest of
their way.
"""

from asyncio import Future, Semaphore, timeout
from collections import defaultdict
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition

from outlast.edges.codec import Encoded
from outlast.edges.kafka import private
from outlast.edges.kafka.partitioner import partition_of

__all__ = ["Entrance"]

WAITING: Final = 64
"""How many may wait for room in one partition; a batch of theirs takes hundreds."""
UNKNOWN_SECONDS: Final = 20.0
"""For a topic that the client does not know yet; a client closed meanwhile would never tell."""

Place = tuple[str, int]


class Entrance:
    """Of all records of the process."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._room: defaultdict[Place, Semaphore] = defaultdict(partial(Semaphore, WAITING))

    async def enter(self, producer: AIOKafkaProducer, record: Encoded) -> "Future[Any]":
        """Hand it to the producer: the future of its answer. Cancelled meanwhile, it never enters.

        Raises ``KafkaError`` when the producer does not take it, ``TimeoutError`` when its topic
        stays unknown.
        """
        while (partitions := _partitions(producer, record.topic)) > 0:
            partition = partition_of(record.key, partitions)
            room = self._room[(record.topic, partition)]
            goes_at_once = not room.locked()
            async with room:
                if (
                    goes_at_once or _partitions(producer, record.topic) == partitions
                ):  # as before it waited
                    return await _sent(producer, record, partition)
        async with timeout(UNKNOWN_SECONDS):
            return await _sent(producer, record, None)

    async def enter_among(self, producer: AIOKafkaProducer, record: Encoded) -> "Future[Any]":
        """As :meth:`enter`, for one of many that one task hands over: it waits for room alone.

        Raises as that does.
        """
        if not (partitions := _partitions(producer, record.topic)):
            return await self.enter(producer, record)
        place = TopicPartition(record.topic, partition_of(record.key, partitions))
        return await private.append(producer, place, record.key, record.value, record.headers)


def _partitions(producer: AIOKafkaProducer, topic: str) -> int:
    """How many the topic has; none while the client does not know it."""
    return len(producer.client.cluster.partitions_for_topic(topic) or ())


async def _sent(
    producer: AIOKafkaProducer, record: Encoded, partition: int | None
) -> "Future[Any]":
    ack: Future[Any] = await producer.send(
        record.topic, record.value, key=record.key, partition=partition, headers=record.headers
    )
    return ack
