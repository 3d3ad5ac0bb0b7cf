"""A loop that stands still ends its process; one that was suspended with it does not."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from outlast.core.errors import WatchdogTripped
from outlast.edges.stall import Stall

BOUND: Final = 30.0
ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = """
import asyncio, os, sys, time
from outlast.edges.logs import configure
from outlast.edges.stall import Stall

async def main(does):
    stall = Stall(loop_lag_seconds=0.6)
    stall.start()
    print("ready", flush=True)
    if does == "stalls":
        time.sleep(60)
    if does == "stalls in the log":
        import logging
        for handler in logging.getLogger().handlers:
            handler.acquire()
        time.sleep(60)
    await asyncio.sleep(3)
    stall.stop()
    print("whole", flush=True)

configure(os.environ)
asyncio.run(main(sys.argv[1]))
"""


@contextmanager
def process(does: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    paths = os.pathsep.join([str(ROOT / "services"), str(ROOT / "schemas")])
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, does],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environ},
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def test_a_stalled_loop_ends_the_process_with_code_4_and_says_where_it_stood() -> None:
    with process("stalls", OUTLAST_LOG="json") as child:
        _, told = child.communicate(timeout=BOUND)

    [line] = told.splitlines()
    said: Mapping[str, object] = json.loads(line)
    assert child.returncode == WatchdogTripped.exit_code == 4
    assert (said["event"], said["level"]) == ("process.stalled", "critical")
    assert float(str(said["seconds"])) >= 0.6
    assert str(said["at"]).startswith("__main__.main:")


def test_in_a_terminal_it_says_so_in_the_readable_form() -> None:
    with process("stalls", OUTLAST_LOG="console") as child:
        _, told = child.communicate(timeout=BOUND)

    assert child.returncode == 4
    assert "process.stalled" in told
    assert not told.startswith("{")


def test_a_loop_that_stands_in_the_log_itself_ends_the_process_too() -> None:
    with process("stalls in the log") as child:
        child.communicate(timeout=BOUND)

    assert child.returncode == 4


def test_a_process_that_was_suspended_as_a_whole_goes_on() -> None:
    with process("goes on") as child:
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(2.0)  # three times as long as its loop may stand still
        os.kill(child.pid, signal.SIGCONT)
        told, errors = child.communicate(timeout=BOUND)

    assert (child.returncode, told, errors) == (0, "whole\n", "")


async def test_a_loop_that_turns_is_left_alone_and_no_thread_stays() -> None:
    codes: list[int] = []
    stall = Stall(loop_lag_seconds=0.2, exit=codes.append)
    stall.start()
    for _ in range(20):
        await asyncio.sleep(0.05)
    stall.stop()

    assert codes == []
    assert not [each for each in threading.enumerate() if each.name == "stall"]


async def test_short_stalls_do_not_add_up() -> None:
    codes: list[int] = []
    stall = Stall(loop_lag_seconds=0.8, exit=codes.append)
    stall.start()
    for _ in range(5):
        time.sleep(0.3)  # noqa: ASYNC251  # the loop stands, as a call that is too long makes it
        await asyncio.sleep(0.3)
    stall.stop()

    assert codes == []


@pytest.mark.parametrize("seconds", [1.0, 30.0])
async def test_stopping_does_not_wait_for_the_next_look(seconds: float) -> None:
    stall = Stall(loop_lag_seconds=seconds)
    stall.start()
    began = time.monotonic()
    stall.stop()

    assert time.monotonic() - began < 1.0
