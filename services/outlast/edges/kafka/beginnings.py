"""The first commit of every group, so that a missing offset always means something is wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CommitFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from aiokafka.structs import OffsetAndMetadata

from outlast.core.errors import TopicsError
from outlast.edges.kafka.clients import Consumer
from outlast.edges.kafka.connection import addresses, groupless_consumer
from outlast.edges.kafka.topic_plan import Beginning
from outlast.edges.settings import Kafka

__all__ = ["begin", "committed", "coordinated", "unbegun"]

PATIENCE_SECONDS: Final = 30.0
AGAIN_SECONDS: Final = 0.1
NOT_YET: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
"""A fresh cluster makes its topic of offsets when the first group is asked for."""


async def unbegun(
    kafka: Kafka,
    reads: Mapping[str, tuple[str, ...]],
    partitions: Mapping[str, int],
    admin: AIOKafkaAdminClient,
) -> tuple[Beginning, ...]:
    """Where a group has never committed.

    Args:
        kafka: where to ask how much lies in those partitions.
        reads: group → its topics.
        partitions: how many each existing topic has; the others are passed over.
        admin: started.
    """
    missing: dict[tuple[str, str], list[TopicPartition]] = {}
    for group, topics in reads.items():
        wanted = [TopicPartition(t, p) for t in topics for p in range(partitions.get(t, 0))]
        known = await committed(group, wanted, admin)
        for tp in wanted:
            if tp not in known:
                missing.setdefault((group, tp.topic), []).append(tp)
    records = await _records(kafka, [tp for tps in missing.values() for tp in tps])
    return tuple(
        Beginning(
            group=group,
            topic=topic,
            partitions=tuple(tp.partition for tp in tps),
            records=sum(records[tp] for tp in tps),
        )
        for (group, topic), tps in missing.items()
    )


async def committed(
    group: str, partitions: Iterable[TopicPartition], admin: AIOKafkaAdminClient
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The group's commits with their metadata; partitions without one are absent."""
    wanted = list(partitions)
    if not wanted:
        return {}

    async def ask() -> dict[TopicPartition, OffsetAndMetadata]:
        found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
            group, partitions=wanted
        )
        if any(tp not in found for tp in wanted):
            # aiokafka passes over the error of the whole answer, in which no partition is named:
            # taken for "nothing committed", a group would begin again with what it has done.
            raise GroupLoadInProgressError
        return found

    found: dict[TopicPartition, OffsetAndMetadata] = await coordinated(ask, group)
    return {tp: each for tp, each in found.items() if each.offset >= 0}


async def coordinated(ask: Callable[[], Awaitable[Any]], group: str) -> Any:
    """What ``ask`` returns, once the group has a coordinator. Raises ``TopicsError``."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    return await ask()
                except NOT_YET:
                    await asyncio.sleep(AGAIN_SECONDS)
    except (KafkaError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise TopicsError(f"the offsets of {group} cannot be read: {why}") from error


async def begin(kafka: Kafka, beginnings: Iterable[Beginning]) -> tuple[str, ...]:
    """Commit offset 0 for each; returns the groups that are at work and commit for themselves."""
    wanted: dict[str, dict[TopicPartition, int]] = {}
    for each in beginnings:
        zeros = {TopicPartition(each.topic, partition): 0 for partition in each.partitions}
        wanted.setdefault(each.group, {}).update(zeros)
    return tuple(
        [group for group, zeros in wanted.items() if not await _commit(kafka, group, zeros)]
    )


async def _commit(kafka: Kafka, group: str, offsets: Mapping[TopicPartition, int]) -> bool:
    """Commit from outside the group: the broker takes that only while it has no members."""
    consumer = Consumer(**addresses(kafka), group_id=group, enable_auto_commit=False)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await consumer.start()
            consumer.assign(list(offsets))
            await consumer.commit(dict(offsets))
    except CommitFailedError:
        return False
    except (KafkaError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise TopicsError(f"no offset can be committed for {group}: {why}") from error
    finally:
        await consumer.stop()
    return True


async def _records(kafka: Kafka, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """How many offsets each partition holds."""
    if not partitions:
        return {}
    consumer = groupless_consumer(kafka, *{tp.topic for tp in partitions})
    await consumer.start()
    try:
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return {tp: end[tp] - first[tp] for tp in partitions}
