"""The limit of a move: getmany, a task per record, an acknowledged send, a mark; nothing else."""

import asyncio
import gc
import signal
import sys
from collections import OrderedDict
from typing import Any, Final

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

IN_FLIGHT: Final = 1_000
TICK_SECONDS: Final = 0.05


class Marks:
    """Per partition the offsets under way; the lowest of them is committed."""

    def __init__(self) -> None:
        """Know of no partition yet."""
        self._open: dict[TopicPartition, OrderedDict[int, None]] = {}
        self._high: dict[TopicPartition, int] = {}

    def admit(self, tp: TopicPartition, offset: int) -> None:
        """It is under way."""
        self._open.setdefault(tp, OrderedDict())[offset] = None
        self._high[tp] = offset + 1

    def done(self, tp: TopicPartition, offset: int) -> None:
        """Its record is acknowledged."""
        del self._open[tp][offset]

    def offsets(self) -> dict[TopicPartition, int]:
        """What to commit."""
        return {tp: next(iter(each), self._high[tp]) for tp, each in self._open.items()}


async def main(servers: str, source: str, target: str, partitions: str) -> None:
    """Move what is in these partitions (``0,3,6``) until SIGTERM; ready once it reads."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        group_id=f"bare-{target}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        max_batch_size=512 * 1024,
        compression_type="zstd",
    )
    await consumer.start()
    consumer.assign([TopicPartition(source, int(each)) for each in partitions.split(",")])
    await producer.start()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    marks = Marks()
    parts = [
        asyncio.ensure_future(_move(consumer, producer, marks, target)),
        asyncio.ensure_future(_commit(consumer, marks)),
    ]
    print('"process.ready"', flush=True)
    await stopped.wait()
    for part in parts:
        part.cancel()
    await asyncio.wait(parts)
    await producer.stop()
    await consumer.commit(marks.offsets())
    await consumer.stop()


async def _move(
    consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, marks: Marks, target: str
) -> None:
    permits = asyncio.Semaphore(IN_FLIGHT)
    tasks: set[asyncio.Task[None]] = set()

    async def carry(tp: TopicPartition, record: Any) -> None:
        headers = list(record.headers)
        await (await producer.send(target, record.value, key=record.key, headers=headers))
        marks.done(tp, record.offset)
        permits.release()

    while True:
        for tp, records in (await consumer.getmany(timeout_ms=200)).items():
            for record in records:
                await permits.acquire()
                marks.admit(tp, record.offset)
                task = asyncio.ensure_future(carry(tp, record))
                tasks.add(task)
                task.add_done_callback(tasks.discard)


async def _commit(consumer: AIOKafkaConsumer, marks: Marks) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        if offsets := marks.offsets():
            await consumer.commit(offsets)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
