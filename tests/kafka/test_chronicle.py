"""A topic in the order of time, whichever partition lags behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from outlast.edges.kafka import chronicle as module
from outlast.edges.kafka.chronicle import Window, chronicle
from outlast.edges.kafka.connection import producer
from tests.kafka.cluster import Place, place

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def written(kafka: str, *counts: int) -> AsyncIterator[Place]:
    """So many records in each partition of the results, one after the other."""
    async with place(kafka) as where:
        await where.apply()
        for partition, count in enumerate(counts):
            await write(where, partition, count)
        yield where


async def write(where: Place, partition: int, count: int) -> None:
    out = producer(where.kafka)
    await out.start()
    try:
        topic = where.topics.results()
        sent = [await out.send(topic, b"%d" % n, partition=partition) for n in range(count)]
        await asyncio.gather(*sent)
    finally:
        await out.stop()


async def read(where: Place, window: Window | None = None) -> list[Any]:
    topic = where.topics.results()
    return [record async for record in chronicle(where.kafka, topic, window)]


async def test_all_records_come_and_none_before_an_older_one(kafka: str) -> None:
    async with written(kafka, 1_700, 0, 40) as where:
        await write(where, 1, 600)
        records = await read(where)

    times = [record.timestamp for record in records]
    assert times == sorted(times)
    by_partition = {p: [r.offset for r in records if r.partition == p] for p in range(3)}
    assert by_partition == {0: [*range(1_700)], 1: [*range(600)], 2: [*range(40)]}


async def test_the_newest_are_read_from_the_ends_only(kafka: str) -> None:
    async with written(kafka, 100, 5, 0) as where:
        records = await read(where, Window(newest=10))

    assert [r.offset for r in records if r.partition == 0] == [*range(90, 100)]
    assert [r.offset for r in records if r.partition == 1] == [*range(5)]


async def test_since_an_instant_only_what_came_then(kafka: str) -> None:
    async with written(kafka, 20) as where:
        last = (await read(where))[-1].timestamp
        while True:  # the broker counts in milliseconds
            await write(where, 1, 1)
            newest = (await read(where))[-1].timestamp
            if newest > last:
                break
        records = await read(where, Window(since=newest))
        later = await read(where, Window(since=newest + 60_000))

    assert {record.timestamp for record in records} == {newest}
    assert later == []


async def test_following_loses_nothing_between_what_was_there_and_what_comes(kafka: str) -> None:
    """What is written while the first part is read lies beyond the ends it was read to."""
    async with written(kafka, 700, 10, 0) as where:
        seen: list[tuple[int, int]] = []
        topic = where.topics.results()
        async with asyncio.timeout(60):
            async with aclosing(chronicle(where.kafka, topic, Window(follow=True))) as records:
                async for record in records:
                    seen.append((record.partition, record.offset))
                    if len(seen) in (1, 600, 730):
                        for partition in range(3):
                            await write(where, partition, 10)
                    if len(seen) == 800:
                        break

    wanted = (
        [(0, n) for n in range(730)] + [(1, n) for n in range(40)] + [(2, n) for n in range(30)]
    )
    assert sorted(seen) == wanted


async def test_what_was_fetched_beyond_the_ends_is_not_lost(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that come after the ends were asked for are in the same fetch as those before."""
    begun = module._begun

    async def then_more_comes(consumer: Any, window: Window) -> Any:
        readings = await begun(consumer, window)
        await write(where, 0, 5)
        for tp in readings:
            consumer.seek(tp, 0)  # what was fetched before is dropped
        return readings

    monkeypatch.setattr(module, "_begun", then_more_comes)
    seen: list[int] = []
    async with written(kafka, 5) as where, asyncio.timeout(60):
        topic = where.topics.results()
        async with aclosing(chronicle(where.kafka, topic, Window(follow=True))) as records:
            async for record in records:
                seen.append(record.offset)
                if len(seen) == 10:
                    break

    assert seen == [*range(10)]


async def test_an_empty_topic_ends_at_once(kafka: str) -> None:
    async with written(kafka) as where:
        assert await read(where) == []
