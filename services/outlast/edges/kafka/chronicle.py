"""Reads a topic in the order of time across its partitions, without a group."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from outlast.core.errors import KafkaUnreachable
from outlast.edges.kafka.connection import groupless_consumer
from outlast.edges.settings import Kafka

__all__ = ["Window", "chronicle"]

STILL_SECONDS: Final = 60.0
"""Without any progress for so long, the broker is gone."""
WAIT_MS: Final = 200
AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which part of the topic.

    Attributes:
        since: epoch ms of append; what came before is passed over.
        newest: only so many of each partition's last offsets: among them are so many newest ones
            of the topic.
        follow: go on with what comes.
    """

    since: int | None = None
    newest: int | None = None
    follow: bool = False


@dataclass(slots=True)
class _Reading:
    """One partition on its way to where it ended at the start."""

    end: int
    ahead: deque[Any] = field(default_factory=deque)
    is_read: bool = False


async def chronicle(
    kafka: Kafka, topic: str, window: Window | None = None
) -> AsyncGenerator[Any, None]:
    """Every record up to the ends as they are at the start, the oldest first.

    Of each partition little more than one fetch is held, however large the topic is. What comes
    later follows as it comes.

    Raises:
        KafkaUnreachable: when there is no progress for a minute.
    """
    window = window or Window()
    consumer = groupless_consumer(kafka, topic)
    try:
        await consumer.start()
        readings = await _begun(consumer, window)
        async for record in _in_order(consumer, readings):
            yield record
        for tp, reading in readings.items():
            consumer.seek(tp, reading.end)  # what was fetched beyond it was set aside
        while window.follow:
            for records in (await consumer.getmany(timeout_ms=WAIT_MS)).values():
                for record in records:
                    yield record
    except KafkaError as error:
        raise KafkaUnreachable(
            f"reading from {kafka.bootstrap_servers} failed: {str(error) or type(error).__name__}"
        ) from error
    finally:
        await consumer.stop()


async def _begun(consumer: AIOKafkaConsumer, window: Window) -> dict[TopicPartition, _Reading]:
    """Seek to where each partition begins, and say where it ends."""
    partitions = list(consumer.assignment())
    first = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    starts = dict(first)
    if window.newest is not None:
        starts = {tp: max(first[tp], ends[tp] - window.newest) for tp in partitions}
    if window.since is not None:
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, window.since))
        for tp, at in found.items():
            starts[tp] = max(starts[tp], ends[tp] if at is None else at.offset)
    for tp in partitions:
        consumer.seek(tp, starts[tp])
    return {tp: _Reading(ends[tp], is_read=starts[tp] >= ends[tp]) for tp in partitions}


async def _in_order(
    consumer: AIOKafkaConsumer, readings: dict[TopicPartition, _Reading]
) -> AsyncGenerator[Any, None]:
    """The oldest of the heads, as long as every partition that is not read to its end has one."""
    loop = asyncio.get_running_loop()
    moved = loop.time()
    while True:
        lacking = [tp for tp, each in readings.items() if not (each.ahead or each.is_read)]
        if lacking:
            if await _fetch(consumer, readings, lacking):
                moved = loop.time()
            elif loop.time() - moved > STILL_SECONDS:
                raise KafkaUnreachable("Kafka sends nothing any more")
            continue
        heads = [each for each in readings.values() if each.ahead]
        if not heads:
            return
        yield min(heads, key=lambda each: each.ahead[0].timestamp).ahead.popleft()


async def _fetch(
    consumer: AIOKafkaConsumer,
    readings: dict[TopicPartition, _Reading],
    lacking: list[TopicPartition],
) -> bool:
    batches = await consumer.getmany(*lacking, timeout_ms=WAIT_MS, max_records=AT_ONCE)
    for tp in lacking:
        reading = readings[tp]
        records = batches.get(tp, [])
        reading.ahead.extend(each for each in records if each.offset < reading.end)
        reading.is_read = await consumer.position(tp) >= reading.end
    return bool(batches)
