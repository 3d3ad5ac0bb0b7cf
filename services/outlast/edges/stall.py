"""Ends a process whose event loop stands still: nothing inside the loop could.

A loop that does not turn sends no heartbeats, commits nothing and ends no call, while the process
looks alive from outside. A thread watches it, and ends the process to be started again.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

from outlast.core.errors import WatchdogTripped
from outlast.edges.logs import Log

__all__ = ["LAG_SECONDS", "Stall"]

log = Log(__name__)

LAG_SECONDS: Final = 30.0
"""Two thirds of the session: at its end the group gives the partitions to others."""
LOOK_SECONDS: Final = 1.0
SAY_SECONDS: Final = 2.0
DEEPEST: Final = 5


class Stall:
    """Watches the loop it is started in.

    Only seconds in which the thread itself could run count: when the whole process was suspended
    and goes on, or a call held the interpreter, the loop gets as long again, and the group decides
    whether we are still a member.
    """

    def __init__(
        self, loop_lag_seconds: float = LAG_SECONDS, exit: Callable[[int], object] = os._exit
    ) -> None:
        """Prepare.

        Args:
            loop_lag_seconds: how long the loop may stand still.
            exit: ends the process at once with this code; not for a whole loop to run.
        """
        self._most = loop_lag_seconds
        self._exit = exit
        self._ended = threading.Event()
        self._turns = 0
        self._next: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._watch, name="stall", daemon=True)
        self._watched = 0

    def start(self) -> None:
        """Watch the running loop, from the thread that it runs in."""
        self._watched = threading.get_ident()
        self._turn(asyncio.get_running_loop())
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._ended.set()
        if self._next is not None:
            self._next.cancel()
        self._thread.join(SAY_SECONDS)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turns += 1
        self._next = loop.call_later(min(LOOK_SECONDS, self._most / 4), self._turn, loop)

    def _watch(self) -> None:
        look = min(LOOK_SECONDS, self._most / 4)
        seen, lag, before = self._turns, 0.0, time.monotonic()
        while not self._ended.wait(look):
            now = time.monotonic()
            # A gap far above the time slept: this thread did not run either.
            lag = 0.0 if self._turns != seen else lag + min(now - before, 2 * look)
            seen, before = self._turns, now
            if lag > self._most:
                self._end(lag)
                return

    def _end(self, lag: float) -> None:
        """The line is written by a thread of its own: the loop may stand in the log's lock."""
        at = _stack(sys._current_frames().get(self._watched))
        saying = threading.Thread(target=_say, args=(lag, at), daemon=True)
        saying.start()
        saying.join(SAY_SECONDS)
        self._exit(WatchdogTripped.exit_code)


def _say(lag: float, at: str) -> None:
    log.critical("process.stalled", seconds=round(lag, 1), at=at)


def _stack(frame: FrameType | None) -> str:
    """Where it stands, innermost first: functions and lines, and no values."""
    found: list[str] = []
    while frame is not None and len(found) < DEEPEST:
        module = frame.f_globals.get("__name__", "?")
        found.append(f"{module}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)
