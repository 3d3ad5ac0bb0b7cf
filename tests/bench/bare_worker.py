"""The limit: consume, call, send with raw aiokafka and raw aiohttp, and no safety at all."""

import asyncio
import sys
from typing import Any

import aiohttp
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

IN_FLIGHT = 1_000


async def main(servers: str, source: str, target: str, url: str, jobs: int) -> None:
    """Work until so many jobs are answered."""
    consumer = AIOKafkaConsumer(
        source, bootstrap_servers=servers, group_id=f"bare-{target}", auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, linger_ms=2, max_batch_size=512 * 1024, compression_type="zstd"
    )
    await consumer.start()
    await producer.start()
    permits, done = asyncio.Semaphore(IN_FLIGHT), asyncio.Event()
    answered = 0
    tasks: set[asyncio.Task[None]] = set()

    async def carry(record: Any, session: aiohttp.ClientSession) -> None:
        nonlocal answered
        body = {**orjson.loads(record.value), "model": "deepseek-flash"}
        async with session.post(
            url, data=orjson.dumps(body), headers={"authorization": "Bearer k"}
        ) as response:
            answer = await response.read()
        orjson.loads(answer)
        await (await producer.send(target, answer, key=record.key))
        permits.release()
        answered += 1
        if answered == jobs:
            done.set()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        print("ready", flush=True)
        while not done.is_set():
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    await permits.acquire()
                    task = asyncio.ensure_future(carry(record, session))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
    await producer.stop()
    await consumer.stop()


if __name__ == "__main__":
    servers, source, target, url, jobs = sys.argv[1:]
    uvloop.run(main(servers, source, target, url, int(jobs)))
