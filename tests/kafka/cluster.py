"""What the tests on real Kafka start from: own topics under an own prefix."""

import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from outlast.core.lifecycle import Outgoing
from outlast.core.policy import Catalogue, Limits, Provider, Route, Target
from outlast.edges.codec import Codec, Encoded
from outlast.edges.kafka import topics as kafka_topics
from outlast.edges.kafka.archive import Archive
from outlast.edges.kafka.clients import Consumer
from outlast.edges.kafka.connection import Cluster, admin, connect
from outlast.edges.kafka.publish import Publisher
from outlast.edges.kafka.topic_plan import Plan
from outlast.edges.settings import Kafka
from outlast_schemas.topics import Topics

CATALOGUE = Catalogue(
    providers={
        "local": Provider(
            name="local",
            family="compatible",
            base_url="http://127.0.0.1:1/v1",
            limits=Limits(concurrency=3),
        )
    },
    routes={"chat": Route(name="chat", targets=(Target("local", "m"),))},
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A corner of the broker that belongs to one test."""

    kafka: Kafka
    cluster: Cluster
    admin: AIOKafkaAdminClient
    catalogue: Catalogue = field(default=CATALOGUE)

    @property
    def topics(self) -> Topics:
        return Topics(self.kafka.prefix)

    @property
    def codec(self) -> Codec:
        return Codec(self.cluster.id, self.topics)

    @property
    def archive(self) -> Archive:
        return Archive(self.kafka, self.codec, self.admin)

    async def apply(self) -> Plan:
        return await kafka_topics.apply(self.kafka, self.catalogue, self.cluster, self.admin)

    async def plan(self) -> Plan:
        return await kafka_topics.plan(self.kafka, self.catalogue, self.cluster, self.admin)

    async def write(self, *records: Outgoing | Encoded) -> None:
        """Publish, one after the other."""
        publisher = Publisher(self.kafka)
        try:
            for record in records:
                encoded = record if isinstance(record, Encoded) else self.codec.encode(record, 0)
                await publisher.publish(encoded, "record")
        finally:
            await publisher.close()

    async def commit(self, group: str, offsets: dict[TopicPartition, Any]) -> None:
        """Commit from outside a group that has no members."""
        consumer = Consumer(
            bootstrap_servers=self.kafka.bootstrap_servers, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign(list(offsets))
            await consumer.commit(offsets)
        finally:
            await consumer.stop()

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition → committed offset."""
        found = await self.admin.list_consumer_group_offsets(group)
        return {tp.partition: each.offset for tp, each in found.items() if tp.topic == topic}


@asynccontextmanager
async def place(servers: str, **settings: Any) -> AsyncIterator[Place]:
    """A corner with no topics yet."""
    prefix = f"t{uuid.uuid4().hex[:10]}"
    kafka = Kafka(bootstrap_servers=servers, prefix=prefix, **{"partitions": 3, **settings})
    cluster = await connect(kafka)
    client = admin(kafka)
    await client.start()
    try:
        yield Place(kafka=kafka, cluster=cluster, admin=client)
    finally:
        await client.close()


def partitions(topic: str, numbers: Iterable[int]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in numbers]
