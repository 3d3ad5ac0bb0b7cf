"""Looks at the cluster for `outlast doctor`: what is there, who is at work, what time it is.

Nothing is changed, but for the one record that :mod:`.skew` writes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from outlast.core.errors import TopicsError
from outlast.core.facts import ClusterFacts, GroupFacts, TopicFacts
from outlast.core.policy import Catalogue
from outlast.edges.kafka import private
from outlast.edges.kafka.beginnings import coordinated, unbegun
from outlast.edges.kafka.connection import Cluster, groupless_consumer, largest_record
from outlast.edges.kafka.depth import depths
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.skew import skew
from outlast.edges.kafka.topic_plan import Found, compare, table
from outlast.edges.kafka.topics import find, partitions
from outlast.edges.settings import Kafka
from outlast_schemas.topics import Topics

__all__ = ["look"]


async def look(
    kafka: Kafka, catalogue: Catalogue, cluster: Cluster, admin: AIOKafkaAdminClient
) -> ClusterFacts:
    """What there is. ``admin`` is started.

    Raises ``KafkaUnreachable``; ``TopicsError`` when committed offsets cannot be read.
    """
    names = [topic.name for topic in table(kafka, catalogue)]
    found = await find(names, admin)
    steps, refusal = _planned(kafka, catalogue, found, cluster)
    there = await partitions(None, admin)
    groups = await _groups(kafka, catalogue, found, admin)
    reads = Groups(kafka.prefix).moving(Topics(kafka.prefix), catalogue.providers)
    return ClusterFacts(
        brokers=cluster.brokers,
        steps=steps,
        refusal=refusal,
        topics=await _topics(found, admin),
        groups=groups,
        read_by_groups=frozenset(name for topics in reads.values() for name in topics),
        settings=await _broker_settings(admin),
        largest_record=largest_record(kafka),
        orphans=await _orphans(kafka, names, there, admin),
        clock_ms=await skew(kafka, there),
    )


def _planned(
    kafka: Kafka, catalogue: Catalogue, found: Mapping[str, Found], cluster: Cluster
) -> tuple[tuple[str, ...], str | None]:
    try:
        plan = compare(kafka, catalogue, found, replicas=cluster.replication_factor)
    except TopicsError as error:
        return (), str(error)
    return plan.lines(), None


async def _topics(found: Mapping[str, Found], admin: AIOKafkaAdminClient) -> tuple[TopicFacts, ...]:
    there = (await private.metadata(admin, found))["topics"] if found else []
    about = {each["topic"]: each["partitions"] for each in there}
    return tuple(_topic(name, is_, about.get(name, [])) for name, is_ in found.items())


def _topic(name: str, found: Found, about: list[dict[str, Any]]) -> TopicFacts:
    return TopicFacts(
        name=name,
        replicas=found.replicas,
        behind=sum(len(each["isr"]) < len(each["replicas"]) for each in about),
        leaderless=sum(each["leader"] < 0 for each in about),
        retention_ms=_number(found.settings.get("retention.ms")),
        min_in_sync=_number(found.settings.get("min.insync.replicas")),
    )


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


async def _groups(
    kafka: Kafka, catalogue: Catalogue, found: Mapping[str, Found], admin: AIOKafkaAdminClient
) -> tuple[GroupFacts, ...]:
    groups, topics = Groups(kafka.prefix), Topics(kafka.prefix)
    reads = groups.reads(topics, catalogue.providers)
    counts = {name: topic.partitions for name, topic in found.items()}
    missing = {
        each.group: len(each.partitions) for each in await unbegun(kafka, reads, counts, admin)
    }
    waiting = await _waiting(kafka, groups.moving(topics, catalogue.providers), found, admin)
    members = await _members(reads, admin)
    return tuple(
        GroupFacts(
            name=name,
            command=f"outlast run {_stage(name, kafka.prefix)}",
            members=members.get(name, 0),
            waiting=waiting.get(name, 0),
            unbegun=missing.get(name, 0),
        )
        for name in reads
    )


def _stage(group: str, prefix: str) -> str:
    stage, dot, provider = group.removeprefix(f"{prefix}.").partition(".")
    return f"{stage} --provider {provider}" if dot else stage


async def _waiting(
    kafka: Kafka,
    reads: Mapping[str, tuple[str, ...]],
    there: Iterable[str],
    admin: AIOKafkaAdminClient,
) -> dict[str, int]:
    """Group → records of its topics that are not done."""
    names = set(there)
    asked = {group: tuple(t for t in topics if t in names) for group, topics in reads.items()}
    known = {group: topics for group, topics in asked.items() if topics}
    if not known:
        return {}
    consumer = groupless_consumer(kafka, *{name for topics in known.values() for name in topics})
    await consumer.start()
    try:
        counts = await depths(known, admin, consumer)
    finally:
        await consumer.stop()
    return {group: sum(counts[name] for name in topics) for group, topics in known.items()}


async def _members(groups: Iterable[str], admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Group → how many are in it; one a request: aiokafka 0.14 reads the second one wrongly."""
    return {name: await _count(name, admin) for name in groups}


async def _count(group: str, admin: AIOKafkaAdminClient) -> int:
    [response] = await coordinated(lambda: admin.describe_consumer_groups([group]), group)
    [(_, _, _, _, _, members, *_)] = response.groups
    return len(members)


async def _orphans(
    kafka: Kafka, names: list[str], there: Iterable[str], admin: AIOKafkaAdminClient
) -> dict[str, int]:
    prefix, groups = Topics(kafka.prefix).work(""), Groups(kafka.prefix)
    orphans = [name for name in there if name.startswith(prefix) and name not in names]
    reads = {groups.work(name.removeprefix(prefix)): (name,) for name in orphans}
    waiting = await _waiting(kafka, reads, orphans, admin)
    return {topic: waiting.get(group, 0) for group, (topic,) in reads.items()}


async def _broker_settings(admin: AIOKafkaAdminClient) -> dict[str, str]:
    """Those of the first broker; none where it does not tell them to this user."""
    about = await private.metadata(admin, ())
    node = min(each["node_id"] for each in about["brokers"])
    try:
        responses = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.BROKER, str(node))]
        )
    except KafkaError:
        return {}
    return {
        key: value
        for response in responses
        for code, _, _, _, entries in response.resources
        if not code
        for key, value, *_ in entries
        if value is not None
    }
