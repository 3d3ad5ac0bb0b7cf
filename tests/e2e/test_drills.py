"""The drills, as a user runs them: the shortest always, all of them with ``-m drill``."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from outlast.drill.scenarios import SCENARIOS

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

SHORT: Final = {"outage-one": 10}
"""Seconds of trouble with which it still shows what it is for."""


async def drilled(kafka: str, name: str, *options: str, logs: Path) -> tuple[int, dict[str, Any]]:
    """Exit code, and what the drill told a program."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outlast.cli", "drill", name, "--bootstrap-servers", kafka),
        *("--json", "--logs", str(logs), *options),
        env={**os.environ, "OUTLAST_KAFKA__PREFIX": "somebody-elses"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert out, err.decode()
    return process.returncode or 0, json.loads(out)


def shown(told: dict[str, Any]) -> str:
    """What was seen: with ``-s`` it is read also where all of it holds."""
    lines = ["", told["scenario"]]
    for each in told["figures"]:
        word = {None: "", True: "holds", False: "DOES NOT HOLD"}[each["holds"]]
        lines.append(f"  {each['what']}: {each['seen']} (promised: {each['promised']}) {word}")
    lines += (f"  {each['seconds']:6.1f} s  {each['event']}" for each in told["events"])
    for provider, calls in told["calls_per_second"].items():
        lines.append(f"  {provider}, calls in each second: {' '.join(map(str, calls))}")
    return "\n".join((*lines, ""))


def require(code: int, told: dict[str, Any], name: str) -> None:
    """Every promise is kept, and the exit code says so."""
    sys.stdout.write(shown(told))
    broken = [each for each in told["figures"] if each["holds"] is False]
    assert told["scenario"] == name
    assert not broken, "\n".join((*map(str, broken), *told["account"]))
    assert code == 0


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", SHORT)
async def test_a_short_drill_keeps_what_is_promised(kafka: str, name: str, tmp_path: Path) -> None:
    options = ("--seconds", str(SHORT[name]), "--jobs", "300")

    require(*await drilled(kafka, name, *options, logs=tmp_path), name)


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_drill_keeps_what_is_promised(kafka: str, name: str, tmp_path: Path) -> None:
    require(*await drilled(kafka, name, logs=tmp_path), name)
