"""`./deploy/demo` and the drill behind it, as a user runs them, only shorter."""

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]


async def run(*command: str, together: bool = True, **environ: str) -> tuple[int, str]:
    """Exit code, and all that was said; or, not together, what was said on standard output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if together else asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(150):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.timeout(200)
async def test_the_demo_outlives_an_outage_and_accounts_for_every_job(kafka: str) -> None:
    code, said = await run(
        "./deploy/demo", "--install", "--jobs", "180", OUTLAST_KAFKA__BOOTSTRAP_SERVERS=kafka
    )

    assert code == 0, said
    assert "180 jobs accepted: 180 succeeded, 0 dead-lettered, 0 expired, 0 open" in said
    assert re.search(r"^lost 0$", said, re.MULTILINE)
    assert "deepseek is down for the fleet" in said
    assert "deepseek is tried again" in said
    assert re.search(r"local/smollm2-135m succeeded", said)
    assert re.search(r"^deepseek served [1-9]\d* after it had come back$", said, re.MULTILINE)
    for provider in ("deepseek (simulated)", "openai (simulated)", "anthropic (simulated)"):
        assert provider in said
    assert "Traceback" not in said


@pytest.mark.timeout(120)
async def test_the_drill_says_the_same_to_programs(kafka: str) -> None:
    code, said = await run(
        *(sys.executable, "-m", "outlast.cli", "drill", "outage", "--bootstrap-servers", kafka),
        *("--jobs", "120", "--seconds", "20", "--json"),
        together=False,
        OUTLAST_LOG="json",
        OUTLAST_KAFKA__PREFIX="somebody-elses",
    )
    outcome = json.loads(said)

    assert code == 0, said
    assert outcome["audit"]["succeeded"] == 120
    assert outcome["audit"]["lost"] == 0
    assert outcome["elsewhere"] > 0
    assert outcome["served_again"]["deepseek"] > 0
    served = {who for route in outcome["served"].values() for who in route}
    assert served == {"deepseek", "openai", "anthropic", "local"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_all_that_the_drill_started(
    kafka: str, number: signal.Signals
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outlast.cli", "drill", "outage", "--bootstrap-servers", kafka),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = b""
    async with asyncio.timeout(60):
        while b"publishing" not in said:
            said += await process.stdout.readline()
        children = children_of(process.pid)
        process.send_signal(number)
        rest = await process.stdout.read()
        code = await process.wait()

    assert code == 130
    assert len(children) == 1
    assert not [pid for pid in children if lives(pid)]
    assert b"Traceback" not in rest


def lives(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


def children_of(pid: int) -> list[int]:
    """The processes it started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
