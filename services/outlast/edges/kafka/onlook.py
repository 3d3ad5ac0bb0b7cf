"""What an onlooker reads of a running Outlast: verdicts, vitals, and what waits how long."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from outlast.core.overview import Backlog
from outlast.core.progress import decode
from outlast.edges.kafka.beginnings import committed
from outlast.edges.kafka.connection import groupless_consumer
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.scan import from_the_first, scan
from outlast.edges.kafka.topics import partitions
from outlast.edges.settings import Kafka
from outlast_schemas.health import Health
from outlast_schemas.topics import Topics
from outlast_schemas.vitals import Vitals

__all__ = ["Onlook"]

LOOK_BACK_MS: Final = 10_000
FETCH_SECONDS: Final = 5.0
MISFITS: Final = (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError)


class Onlook:
    """Reads without a group, and writes nothing."""

    def __init__(self, kafka: Kafka, admin: AIOKafkaAdminClient) -> None:
        """``admin`` is started, and stays the caller's."""
        self._kafka = kafka
        self._admin = admin
        self._topics = Topics(kafka.prefix)

    async def health(self) -> dict[str, Health]:
        """The latest verdict on each provider. Raises ``KafkaUnreachable``."""
        found: dict[str, Health] = {}
        async for record in scan(self._kafka, from_the_first(await self._all(self._topics.health))):
            try:
                health = Health.from_json(orjson.loads(record.value or b""))
            except MISFITS:
                continue
            before = found.get(health.provider)
            if before is None or health.epoch >= before.epoch:
                found[health.provider] = health
        return found

    async def vitals(self, now: int) -> list[Vitals]:
        """What workers said in the last ten seconds; ``now`` is epoch ms."""
        tps = await self._all(self._topics.vitals)
        async with _reading(self._kafka, self._topics.vitals) as consumer:
            since = await consumer.offsets_for_times(dict.fromkeys(tps, now - LOOK_BACK_MS))
        starts = {tp: at.offset for tp, at in since.items() if at is not None}
        found = []
        async for record in scan(self._kafka, starts):
            try:
                found.append(Vitals.from_json(orjson.loads(record.value or b"")))
            except MISFITS:
                continue
        return found

    async def backlogs(self, providers: Mapping[str, object], now: int) -> dict[str, Backlog]:
        """Topic → how many records no stage has done yet, and how old the oldest of them is."""
        groups = Groups(self._kafka.prefix).moving(self._topics, providers)
        names = [name for topics in groups.values() for name in topics]
        there = await partitions(names, self._admin)
        async with _reading(self._kafka, *(name for name in names if there.get(name))) as consumer:
            jobs, lows = dict.fromkeys(names, 0), dict[TopicPartition, int]()
            for group, topics in groups.items():
                wanted = [
                    TopicPartition(t, each) for t in topics for each in range(there.get(t, 0))
                ]
                commits = await committed(group, wanted, self._admin)
                ends = await consumer.end_offsets(wanted)
                for tp in wanted:
                    commit = commits.get(tp)
                    done = decode(commit.offset, commit.metadata) if commit else decode(0, "")
                    left = ends[tp] - done.high + len(done.incomplete)
                    jobs[tp.topic] += left
                    if left > 0:
                        lows[tp] = done.low
            oldest = await _oldest(consumer, lows)
        return {name: Backlog(count, _age(oldest.get(name), now)) for name, count in jobs.items()}

    async def _all(self, topic: str) -> list[TopicPartition]:
        there = await partitions([topic], self._admin)
        return [TopicPartition(topic, each) for each in range(there.get(topic, 0))]


def _age(appended: int | None, now: int) -> float | None:
    return None if appended is None else max(0.0, round((now - appended) / 1000, 1))


async def _oldest(consumer: AIOKafkaConsumer, lows: Mapping[TopicPartition, int]) -> dict[str, int]:
    """Topic → append time (epoch ms) of the first record that is not done, where it comes soon."""
    found: dict[TopicPartition, int] = {}
    if not lows:
        return {}
    consumer.unsubscribe()
    consumer.assign(list(lows))
    for tp, low in lows.items():
        consumer.seek(tp, low)
    loop = asyncio.get_running_loop()
    end = loop.time() + FETCH_SECONDS
    while (left := lows.keys() - found.keys()) and loop.time() < end:
        for tp, records in (await consumer.getmany(*left, timeout_ms=200)).items():
            if records:
                found[tp] = records[0].timestamp
    by_topic: dict[str, int] = {}
    for tp, appended in found.items():
        by_topic[tp.topic] = min(appended, by_topic.get(tp.topic, appended))
    return by_topic


@asynccontextmanager
async def _reading(kafka: Kafka, *topics: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A groupless consumer for as long as the context lasts."""
    consumer = groupless_consumer(kafka, *topics)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
