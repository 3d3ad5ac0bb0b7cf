"""The limit: consume, call, send with raw aiokafka and raw aiohttp, and no safety at all."""

import asyncio
import gc
import signal
import sys
from typing import Any

import aiohttp
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def main(servers: str, source: str, target: str, url: str, in_flight: int) -> None:
    """Work until SIGTERM; ready once it reads."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    consumer = AIOKafkaConsumer(
        source, bootstrap_servers=servers, group_id=f"bare-{target}", auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, linger_ms=2, max_batch_size=512 * 1024, compression_type="zstd"
    )
    await consumer.start()
    await producer.start()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    working = asyncio.ensure_future(_work(consumer, producer, target, url, in_flight))
    print('"process.ready"', flush=True)
    await stopped.wait()
    working.cancel()
    await asyncio.wait({working})
    await producer.stop()
    await consumer.stop()


async def _work(
    consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, target: str, url: str, in_flight: int
) -> None:
    permits = asyncio.Semaphore(in_flight)
    tasks: set[asyncio.Task[None]] = set()

    async def carry(record: Any, session: aiohttp.ClientSession) -> None:
        body = {**orjson.loads(record.value), "model": "deepseek-flash"}
        async with session.post(
            url, data=orjson.dumps(body), headers={"authorization": "Bearer k"}
        ) as response:
            answer = await response.read()
        orjson.loads(answer)
        await (await producer.send(target, answer, key=record.key))
        permits.release()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    await permits.acquire()
                    task = asyncio.ensure_future(carry(record, session))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    servers, source, target, url, in_flight = sys.argv[1:]
    uvloop.run(main(servers, source, target, url, int(in_flight)))
