"""What safety costs: a worker's CPU per job against a bare loop, in one run on one machine."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic

from outlast.core.lifecycle import Hop
from outlast.edges.codec import Codec
from outlast.edges.kafka.connection import admin, connect
from outlast_schemas.job import Job, Origin
from outlast_schemas.state import State
from tests.e2e.scene import Scene, chat, scene

pytestmark = pytest.mark.bench

JOBS = 12_000
IN_FLIGHT = 1_000
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def simulator() -> tuple[asyncio.subprocess.Process, str]:
    """A provider in a process of its own: half a second to one and a half, evenly spread."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outlast.drill.simulator", "--family", "deepseek"),
        *("--latency-seconds", "0.5", "--latency-spread-seconds", "1"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    return process, line.split('"base_url":')[1].split('"')[1]


async def fill(world: Scene) -> None:
    """Put the jobs where a router would."""
    codec = Codec((await connect(world.kafka)).id, world.topics)
    topic, now = world.topics.work("deepseek"), 1_774_820_100_000
    assert world._producer is not None
    for number in range(JOBS):
        job = Job(
            id=f"job-{number}",
            body=chat(f"hello {number} " + "x" * 800),
            headers=(),
            state=State(
                accepted=now,
                deadline=now + 10**12,
                route="chat",
                hop=1,
                target="deepseek/deepseek-flash",
            ),
            origin=Origin(topic, 0, 0, now),
        )
        record = codec.encode(Hop(topic, job), now)
        await world._producer.send(topic, record.value, key=record.key, headers=record.headers)
    await world._producer.flush()


async def ours(world: Scene) -> float:
    """CPU seconds per job of `outlast run work`."""
    run = await (await world.start("work", "--provider", "deepseek")).ready()
    before = cpu_seconds(run.process.pid)
    await world.results(JOBS, 120)
    return (cpu_seconds(run.process.pid) - before) / JOBS


async def bare(world: Scene, url: str) -> float:
    """CPU seconds per job of the bare loop."""
    target = f"{world.kafka.prefix}.bare"
    client = admin(world.kafka)
    await client.start()
    await client.create_topics([NewTopic(target, 12, 1)])
    await client.close()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(__file__).with_name("bare_worker.py"))),
        *(world.kafka.bootstrap_servers, world.topics.work("deepseek"), target),
        *(f"{url}/chat/completions", str(JOBS)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    before, last = cpu_seconds(process.pid), 0.0
    while process.returncode is None:
        try:
            last = cpu_seconds(process.pid)
            async with asyncio.timeout(0.2):
                await process.wait()
        except (TimeoutError, FileNotFoundError):
            continue
    return (last - before) / JOBS


@pytest.mark.timeout(400)
async def test_cpu_per_job_at_a_thousand_calls_in_flight(
    tmp_path: Path, kafka: str, capsys: pytest.CaptureFixture[str]
) -> None:
    provider, url = await simulator()
    try:
        async with scene(
            tmp_path, kafka, ("deepseek",), concurrency=IN_FLIGHT, clocks="total_seconds = 60"
        ) as world:
            text = world.config.read_text()
            own = world.simulators["deepseek"].base_url
            world.config.write_text(text.replace(own, url))
            await fill(world)
            limit = await bare(world, url)
            outlast = await ours(world)
    finally:
        provider.terminate()
        await provider.wait()

    with capsys.disabled():
        print(
            f"\nCPU per job at {IN_FLIGHT} in flight: bare {limit * 1e3:.3f} ms, "
            f"outlast {outlast * 1e3:.3f} ms, ratio {outlast / limit:.2f}"
        )
    assert outlast > 0
    assert limit > 0
