"""How late the event loop is: what waits for it waits so much longer than it should."""

import asyncio
import time
from typing import Final

__all__ = ["LoopLag"]

LOOK_SECONDS: Final = 0.25
KEPT_SECONDS: Final = 30.0
"""The worst is remembered so long, up to twice that: several may scrape, at any interval."""


class LoopLag:
    """Wakes up four times a second, and looks how late that was."""

    def __init__(self) -> None:
        """Begin with none."""
        self._worst = self._worst_before = 0.0
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        """The worst of the last half minute or minute."""
        return max(self._worst, self._worst_before)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            due = time.monotonic() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self.saw(time.monotonic() - due, time.monotonic())

    def saw(self, late: float, now: float) -> None:
        """It was late by so many seconds, at ``now`` (monotonic seconds)."""
        if now - self._since > KEPT_SECONDS:
            self._worst_before, self._worst, self._since = self._worst, 0.0, now
        self._worst = max(self._worst, late)
