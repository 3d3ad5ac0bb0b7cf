"""How many records of each topic are not done, without reading them."""

from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from outlast.core.progress import decode
from outlast.edges.kafka.beginnings import committed
from outlast.edges.kafka.topics import partitions

__all__ = ["depths"]


async def depths(
    groups: Mapping[str, tuple[str, ...]], admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer
) -> dict[str, int]:
    """Topic → records that no stage has done yet; ``consumer`` is any that is started."""
    names = [name for topics in groups.values() for name in topics]
    there = await partitions(names, admin)
    found = dict.fromkeys(names, 0)
    for group, topics in groups.items():
        wanted = [
            TopicPartition(name, each) for name in topics for each in range(there.get(name, 0))
        ]
        commits = await committed(group, wanted, admin)
        ends = await consumer.end_offsets(wanted)
        for tp in wanted:
            commit = commits.get(tp)
            done = decode(commit.offset, commit.metadata) if commit else decode(0, "")
            found[tp.topic] += ends[tp] - done.high + len(done.incomplete)
    return found
