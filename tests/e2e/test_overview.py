"""`outlast providers` and `outlast status`: what an operator sees of an outage."""

import json
from pathlib import Path

import pytest

from tests.e2e.scene import Scene, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]


async def the_verdict(world: Scene, provider: str) -> str:
    _, out, err = await world.outlast("providers", "--json")
    assert out, err
    rows = {row["provider"]: row for row in json.loads(out)["providers"]}
    return str(rows[provider]["verdict"])


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
        code, out, _ = await world.outlast("status", "--json")
        found = json.loads(out)
        assert (code, found["parked"]) == (1, 20)
        assert found["topics"][world.topics.parked]["oldest_seconds"] >= 0
        await world.simulators["deepseek"].set_mode("ok")
        await world.results(40)
        await world.until_depth(world.topics.parked, 0)
        assert await the_verdict(world, "deepseek") in ("ramp", "closed")
