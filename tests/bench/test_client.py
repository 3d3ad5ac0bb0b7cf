"""What the client costs: publish_many against a bare send loop, and how late `wait` hears."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from statistics import median, quantiles
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from outlast import AsyncClient, Job
from outlast.edges.kafka.connection import producer
from tests.kafka.backend import ended
from tests.kafka.cluster import Place, place

pytestmark = pytest.mark.bench

JOBS = 20_000
ROUNDS = 3
WAITS = 300
BODY: dict[str, object] = {"model": "chat", "messages": [{"role": "user", "content": "x" * 800}]}


def bodies() -> Iterator[dict[str, object]]:
    """So many equal requests."""
    return (BODY for _ in range(JOBS))


async def bare(where: Place) -> float:
    """Seconds of a loop of raw sends: the same bodies, keys and producer, five headers."""
    import orjson

    sender: AIOKafkaProducer = producer(where.kafka)
    await sender.start()
    headers = [("ce_id", b"x" * 36), ("ce_time", b"y" * 30), ("a", b"1"), ("b", b"2"), ("c", b"3")]
    began = time.perf_counter()
    acks: deque[Any] = deque()
    for number, body in enumerate(bodies()):
        key = f"0198-{number:031d}".encode()
        acks.append(
            await sender.send(where.topics.jobs, orjson.dumps(body), key=key, headers=headers)
        )
        while len(acks) > 5_000 or (acks and acks[0].done()):
            await acks.popleft()
    await asyncio.gather(*acks)
    seconds = time.perf_counter() - began
    await sender.stop()
    return seconds


async def ours(where: Place) -> float:
    """Seconds of ``publish_many``."""
    async with AsyncClient(where.kafka) as client:
        await client.publish(BODY)  # connected, as the bare one is
        began = time.perf_counter()
        receipts = [receipt.job async for receipt in client.publish_many(bodies())]
        seconds = time.perf_counter() - began
    assert None not in receipts
    assert len(receipts) == JOBS
    return seconds


@pytest.mark.timeout(300)
async def test_publish_many_against_a_bare_send_loop(
    kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with place(kafka, partitions=12) as where:
        await where.apply()
        rounds = [(await bare(where), await ours(where)) for _ in range(ROUNDS)]

    limit, client = (min(each) for each in zip(*rounds, strict=True))
    with capsys.disabled():
        print(
            f"\npublish {JOBS:,} jobs: bare {JOBS / limit:,.0f}/s, "
            f"publish_many {JOBS / client:,.0f}/s, ratio {limit / client:.2f}"
        )


@pytest.mark.timeout(300)
async def test_how_long_after_its_arrival_a_result_is_heard(
    kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    late: list[float] = []
    async with place(kafka, partitions=12) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        writer = producer(where.kafka)
        await writer.start()

        async def answered(job: Job) -> None:
            waiting = asyncio.create_task(client.wait(job, 30))
            await asyncio.sleep(1)  # a model's time: the wait has long begun
            record = where.codec.encode(ended(where, job.id), 0)
            await writer.send_and_wait(
                record.topic, record.value, key=record.key, headers=record.headers
            )
            arrived = time.perf_counter()
            await waiting
            late.append((time.perf_counter() - arrived) * 1e3)

        for _ in range(WAITS // 30):
            jobs = [await client.publish(BODY) for _ in range(30)]
            await asyncio.gather(*map(answered, jobs))
        await writer.stop()

    assert len(late) == WAITS
    with capsys.disabled():
        print(
            f"\nwait above the result's arrival: p50 {median(late):.1f} ms, "
            f"p99 {quantiles(late, n=100)[98]:.1f} ms"
        )
