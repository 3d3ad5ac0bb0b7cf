"""What a feed reads before it opens partitions: what is committed, and where copies may lie."""

from collections.abc import Mapping
from typing import Final, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition

from outlast.core.errors import TopicsError
from outlast.core.progress import Progress, decode
from outlast.edges.kafka import private
from outlast.edges.logs import Log

__all__ = ["LOOK_BACK_MS", "BeginAt", "begun", "committed", "look_back"]

log = Log(__name__)

LOOK_BACK_MS: Final = 120_000
"""Who takes a partition anew re-reads so much of it, to know the copies of what was done."""

BeginAt = Literal["earliest", "latest"]
Partitions = frozenset[TopicPartition]


async def committed(
    consumer: AIOKafkaConsumer, partitions: Partitions, name: str
) -> dict[TopicPartition, Progress]:
    """What is committed; partitions for which nothing is are absent. Raises ``KafkaError``."""
    if not partitions:
        return {}
    found = await private.committed(consumer, partitions)
    return {tp: _read(name, *each) for tp, each in found.items()}


def _read(name: str, offset: int, metadata: str) -> Progress:
    try:
        return decode(offset, metadata)
    except ValueError as error:
        # Reading all again repeats work; believing what cannot be read would lose some.
        log.error("feed.metadata_unreadable", feed=name, error=str(error))
        return Progress(offset, offset)


async def begun(
    consumer: AIOKafkaConsumer, missing: Partitions, begin_at: BeginAt | None, name: str
) -> dict[TopicPartition, Progress]:
    """Where to begin without a committed offset: at the start of what is empty, or has grown.

    Raises ``TopicsError`` where there are other records and nobody said where to begin.
    """
    if not missing:
        return {}
    starts = await consumer.beginning_offsets(list(missing))
    ends = await consumer.end_offsets(list(missing))
    used = frozenset(tp for tp in missing if starts[tp] != ends[tp])
    doubtful = used - await _grown(consumer, used)
    if doubtful and begin_at is None:
        names = ", ".join(sorted({tp.topic for tp in doubtful}))
        raise TopicsError(
            f"the {name} stage has no committed offset in {names}, and there are records. "
            "Run `outlast topics apply` before the first jobs, or say where to begin: "
            "--from earliest (all of it again) or --from latest (skip what is there)."
        )
    skipped = doubtful if begin_at == "latest" else frozenset[TopicPartition]()
    offsets = {tp: ends[tp] if tp in skipped else starts[tp] for tp in missing}
    return {tp: Progress(offset, offset) for tp, offset in offsets.items()}


async def _grown(consumer: AIOKafkaConsumer, missing: Partitions) -> Partitions:
    """Which of them are new in a topic that the group has begun: nobody can have read of them.

    A group's offsets expire together, so that where some are left none is gone.
    """
    siblings = frozenset(
        TopicPartition(topic, number)
        for topic in {tp.topic for tp in missing}
        for number in consumer.partitions_for_topic(topic) or ()
    )
    if not siblings:
        return frozenset()
    begun_topics = {tp.topic for tp in await private.committed(consumer, siblings)}
    return frozenset(tp for tp in missing if tp.topic in begun_topics)


async def look_back(
    consumer: AIOKafkaConsumer, gained: Partitions, since: int
) -> Mapping[TopicPartition, int]:
    """From which offset on the records are younger than ``since`` (epoch ms)."""
    if not gained:
        return {}
    found = await consumer.offsets_for_times(dict.fromkeys(gained, since))
    return {tp: each.offset for tp, each in found.items() if each is not None}
