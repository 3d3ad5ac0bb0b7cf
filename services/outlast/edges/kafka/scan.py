"""Reads partitions from where they begin to where they ended at the start, without a group."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from outlast.core.errors import KafkaUnreachable
from outlast.edges.kafka.connection import groupless_consumer
from outlast.edges.settings import Kafka

__all__ = ["FIRST", "follow", "from_the_first", "scan"]

FIRST: Final = -1
"""Start at the first offset that is still there."""
STILL_SECONDS: Final = 60.0
"""Without any progress for so long, the broker is gone."""
WAIT_MS: Final = 200


async def scan(kafka: Kafka, starts: Mapping[TopicPartition, int]) -> AsyncGenerator[Any, None]:
    """Every record from the starts up to the ends as they are when the scan begins.

    Holes, markers of transactions and what compaction removed are passed by position: nothing
    is counted. Records of one partition come in order.

    Raises:
        KafkaUnreachable: when there is no progress for a minute.
    """
    if not starts:
        return
    # Named at first for the metadata only: learning of topics one by one costs 0.2 s each.
    consumer = groupless_consumer(kafka, *{tp.topic for tp in starts})
    try:
        await consumer.start()
        consumer.unsubscribe()
        async for record in _records(consumer, starts, kafka):
            yield record
    except KafkaError as error:
        raise KafkaUnreachable(
            f"reading from {kafka.bootstrap_servers} failed: {str(error) or type(error).__name__}"
        ) from error
    finally:
        await consumer.stop()


async def _records(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], kafka: Kafka
) -> AsyncGenerator[Any, None]:
    ends = await _ends(consumer, starts)
    consumer.assign(list(ends))
    for tp, start in starts.items():
        if tp in ends and start > FIRST:
            consumer.seek(tp, start)
    loop = asyncio.get_running_loop()
    moved = loop.time()
    while open_ := await _unfinished(consumer, ends):
        batches = await consumer.getmany(*open_, timeout_ms=WAIT_MS)
        for tp, records in batches.items():
            for record in records:
                if record.offset < ends[tp]:
                    yield record
        if batches:
            moved = loop.time()
        elif loop.time() - moved > STILL_SECONDS:
            raise KafkaUnreachable(f"{kafka.bootstrap_servers} sends nothing any more")


async def _ends(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """The ends of those partitions that hold anything from their start on."""
    first = await consumer.beginning_offsets(list(starts))
    ends = await consumer.end_offsets(list(starts))
    return {tp: end for tp, end in ends.items() if end > max(first[tp], starts[tp])}


async def _unfinished(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> list[TopicPartition]:
    return [tp for tp in ends if await consumer.position(tp) < ends[tp]]


def from_the_first(partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Each from its first record on."""
    return dict.fromkeys(partitions, FIRST)


async def follow(kafka: Kafka, topic: str) -> AsyncGenerator[Any, None]:
    """Every record of a topic from the first on, and then those that come, without an end."""
    consumer = groupless_consumer(kafka, topic)
    try:
        await consumer.start()
        while True:
            for records in (await consumer.getmany(timeout_ms=WAIT_MS)).values():
                for record in records:
                    yield record
    finally:
        await consumer.stop()
