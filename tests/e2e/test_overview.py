"""`outlast providers` and `outlast status`: what an operator sees of an outage."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scene import PATIENCE, Scene, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]


async def the_verdict(world: Scene, provider: str) -> str:
    _, out, err = await world.outlast("providers", "--json")
    assert out, err
    return str(rows_of(out)[provider]["verdict"])


def rows_of(line: bytes | str) -> dict[str, dict[str, Any]]:
    """What `outlast providers --json` has printed, by provider."""
    return {row["provider"]: row for row in json.loads(line)["providers"]}


@asynccontextmanager
async def watched(world: Scene) -> AsyncIterator[asyncio.StreamReader]:
    """What `outlast providers --watch --json` prints, a line each time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outlast.cli", "providers", "--watch", "--json"),
        env=world.environ,
        cwd=world.directory,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def until_row(lines: asyncio.StreamReader, provider: str, **wanted: object) -> None:
    """Read on until the provider's row is so."""
    async with asyncio.timeout(PATIENCE):
        while row := rows_of(await lines.readline())[provider]:
            if wanted.items() <= row.items():
                return


async def test_an_operator_sees_who_is_down_why_and_what_waits(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka, ("deepseek",), topics="partitions = 3") as world:
        code, out, _ = await world.outlast("status")
        assert (code, "unknown" in out) == (0, True)
        await (await world.start()).ready()
        await world.publish(*(f"job {number}" for number in range(20)))
        await world.results(20)
        code, out, _ = await world.outlast("providers")
        assert code == 0, out
        await world.simulators["deepseek"].set_mode("refuse")
        await world.publish(*(f"late {number}" for number in range(20)))
        await world.until_depth(world.topics.parked, 20)
        code, out, err = await world.outlast("providers")
        assert code == 1, out + err
        assert "connections in a row failed" in out
        assert "parked for it" in out
        code, out, _ = await world.outlast("status", "--json")
        found = json.loads(out)
        assert (code, found["parked"], found["parked_for"]) == (1, 20, {"deepseek": 20})
        assert found["topics"][world.topics.parked]["oldest_seconds"] >= 0
        await world.simulators["deepseek"].set_mode("ok")
        await world.results(40)
        await world.until_depth(world.topics.parked, 0)
        assert await the_verdict(world, "deepseek") in ("ramp", "closed")


async def test_an_operator_sees_who_took_whose_jobs_and_for_whom_the_rest_waits(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka, topics="partitions = 3") as world:
        await (await world.start()).ready()
        async with watched(world) as lines:
            await world.publish(*(f"job {number}" for number in range(10)))
            await until_row(lines, "deepseek", workers=1, failed_over_out=0, parked=0)
            await world.simulators["deepseek"].set_mode("refuse")
            await world.publish(*(f"late {number}" for number in range(20)))
            await world.results(30)
            taken = sum(each.result.provider == "openai" for each in world.ended.values())
            assert taken >= 20
            await until_row(lines, "openai", failed_over_in=taken, failed_over_out=0)
            await until_row(lines, "deepseek", failed_over_in=0, failed_over_out=taken)
            await world.simulators["openai"].set_mode("refuse")
            await world.publish(*(f"parked {number}" for number in range(5)))
            await world.publish("of openai", headers={"outlast-scope": "openai"})
            await until_row(lines, "deepseek", parked=5, parked_at_least=False)
            await until_row(lines, "openai", parked=1)
            code, out, _ = await world.outlast("status")
            assert (code, "parked for: deepseek 5, openai 1" in out) == (1, True), out
            assert "failed over: " in out
            await world.simulators["deepseek"].set_mode("ok")
            await world.results(35)
            await until_row(lines, "deepseek", parked=0)
            await until_row(lines, "openai", parked=1)
