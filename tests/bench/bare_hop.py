"""What one hop through the broker takes just now, so that a loaded machine shows as such."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from outlast.edges.kafka.connection import groupless_consumer, producer
from tests.e2e.scene import Scene

EVERY_SECONDS: Final = 0.05


async def _send(writer: AIOKafkaProducer, topic: str) -> None:
    """A record now and then; each says when it was sent, by the loop's clock."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        await writer.send(topic, repr(asyncio.get_running_loop().time()).encode())


async def _read(reader: AIOKafkaConsumer, took: list[float]) -> None:
    while True:
        fetched = await reader.getmany(timeout_ms=500)
        now = asyncio.get_running_loop().time()
        for records in fetched.values():
            took += [(now - float(record.value)) * 1e3 for record in records]


@asynccontextmanager
async def bare_hops(world: Scene, topic: str) -> AsyncIterator[list[float]]:
    """Milliseconds from send to read of raw records, measured beside what else goes on."""
    took: list[float] = []
    writer, reader = producer(world.kafka), groupless_consumer(world.kafka, topic)
    await writer.start()
    await reader.start()
    tasks = [
        asyncio.ensure_future(_send(writer, topic)),
        asyncio.ensure_future(_read(reader, took)),
    ]
    try:
        yield took
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await writer.stop()
        await reader.stop()
