"""When a record was appended, asked of real Kafka by its place alone."""

import asyncio

import pytest
from aiokafka import TopicPartition

from outlast.edges.codec import Encoded
from outlast.edges.kafka.glance import Glance
from outlast.edges.kafka.scan import from_the_first, scan
from tests.kafka.cluster import partitions, place

pytestmark = pytest.mark.kafka


async def test_the_append_time_of_single_records_is_read(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        topic = where.topics.jobs
        for number in range(4):
            await where.write(Encoded(topic, b"one-key", b"%d" % number, []))
            await asyncio.sleep(0.01)  # so that their times differ
        first = from_the_first(partitions(topic, range(where.kafka.partitions)))
        records = [each async for each in scan(where.kafka, first)]
        [tp] = {TopicPartition(topic, each.partition) for each in records}

        second = await Glance(where.kafka)({tp: 1})
        empty = TopicPartition(topic, (tp.partition + 1) % where.kafka.partitions)
        both = await Glance(where.kafka, seconds=3)({tp: 3, empty: 0})

    times = [each.timestamp for each in records]
    assert len(set(times)) == 4
    assert second == {tp: times[1]}
    assert both == {tp: times[3]}  # the other partition has none, and is given up


async def test_where_nobody_answers_nothing_is_known(kafka: str) -> None:
    async with place(kafka) as where:
        nowhere = TopicPartition(f"{where.kafka.prefix}.nowhere", 0)

        assert await Glance(where.kafka, seconds=1)({nowhere: 0}) == {}
