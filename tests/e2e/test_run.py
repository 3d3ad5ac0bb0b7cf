"""`outlast run` itself: what it refuses, how it ends, what it never says."""

import asyncio
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from outlast.drill.simulator import Behaviour
from outlast.edges.kafka.connection import groupless_consumer
from tests.e2e.scene import KEYS, Scene, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]


async def ended(world: Scene, *arguments: str, **environ: str) -> tuple[int, str]:
    """Start `outlast run …` that is to end by itself; its exit code and log."""
    process = await world.start(*arguments, **environ)
    async with asyncio.timeout(30):
        code = await process.process.wait()
    return code, process.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        ((), {"DEEPSEEK_API_KEY": ""}, 2, "DEEPSEEK_API_KEY"),
        # every missing key is named, not only the first
        ((), {"DEEPSEEK_API_KEY": "", "OPENAI_API_KEY": ""}, 2, "OPENAI_API_KEY"),
        (("work", "--provider", "nobody"), {}, 2, "nobody"),
        ((), {"OUTLAST_KAFKA__PREFIX": "not-there"}, 2, "outlast topics apply"),
        ((), {"OUTLAST_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"}, 3, "127.0.0.1:9"),
        ((), {"OUTLAST_PROVIDERS__DEEPSEEK__LIMITS__CONCURRENCY": "3"}, 2, "concurrency"),
        (("route", "--provider", "deepseek"), {}, 2, "--provider"),
    ],
)
async def test_what_cannot_run_says_why_and_ends(
    tmp_path: Path,
    kafka: str,
    arguments: tuple[str, ...],
    environ: dict[str, str],
    code: int,
    says: str,
) -> None:
    async with scene(tmp_path, kafka) as world:
        exit_code, log = await ended(world, *arguments, **environ)

    assert exit_code == code, log
    assert says in log
    assert "Traceback" not in log


async def test_only_its_own_pool_needs_its_key(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world:
        await (await world.start("route", DEEPSEEK_API_KEY="", OPENAI_API_KEY="")).ready()
        pool = ("work", "--provider", "deepseek")
        await (await world.start(*pool, OPENAI_API_KEY="")).ready()
        await world.publish("hello")
        [served] = await world.results(1)

    assert served.result.provider == "deepseek"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_a_second_leaves_at_once(
    tmp_path: Path, kafka: str, number: signal.Signals
) -> None:
    async with scene(
        tmp_path, kafka, behaviour=Behaviour(mode="hang"), clocks="first_token_seconds = 600"
    ) as world:
        calm = await (await world.start()).ready()
        calm.process.send_signal(number)
        async with asyncio.timeout(20):
            drained = await calm.process.wait()
        busy = await (await world.start()).ready()
        await world.publish("hangs")
        async with asyncio.timeout(20):
            while not world.simulators["deepseek"].counters.in_flight:
                await asyncio.sleep(0.02)
        busy.process.send_signal(number)
        async with asyncio.timeout(20):
            while b"process.draining" not in busy.log.read_bytes():
                await asyncio.sleep(0.02)
        busy.process.send_signal(number)
        async with asyncio.timeout(5):
            left = await busy.process.wait()
        report = await world.audited()

    assert drained == 0
    assert left == 1
    assert (report["open"], report["lost"]) == (1, 0)


async def test_a_slot_that_is_taken_is_refused(tmp_path: Path, kafka: str) -> None:
    instance = f"slot-{uuid4().hex[:6]}"
    async with scene(tmp_path, kafka) as world:
        await (await world.start("route", OUTLAST_INSTANCE_ID=instance)).ready()
        code, log = await ended(world, "route", OUTLAST_INSTANCE_ID=instance)

    assert code == 2
    assert instance in log


async def test_no_key_reaches_a_log_or_a_topic_and_no_prompt_a_log(
    tmp_path: Path, kafka: str
) -> None:
    """The canary: a provider that refuses the key, one that fails, and one that serves."""
    async with scene(tmp_path, kafka, ("deepseek", "openai", "anthropic")) as world:
        await world.simulators["deepseek"].set_mode("quota")
        await world.simulators["openai"].set_mode("unavailable")
        run = await (await world.start()).ready()
        await world.publish(*(f"canary-prompt {number}" for number in range(20)))
        await world.results(20)
        await run.stop()
        written = await everything(world)
        log = run.log.read_text()

    assert "canary-prompt" in written
    assert "canary-prompt" not in log
    for key in KEYS.values():
        assert key not in written
        assert key not in log


async def everything(world: Scene) -> str:
    """All keys, values and headers of all topics, as text."""
    table = world.topics.table(tuple(world.simulators))
    consumer = groupless_consumer(world.kafka, *(topic.name for topic in table))
    await consumer.start()
    found: list[str] = []
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [text_of(record) for record in records]
    finally:
        await consumer.stop()
    return "\n".join(found)


def text_of(record: Any) -> str:
    """A record as text."""
    return f"{record.key!r} {record.value!r} {record.headers!r}"
