"""Time and dice: the broker's clock, learnt from acks, and waits that can be let go of."""

import asyncio
import random
import time
from typing import Final

from outlast.core.errors import Released
from outlast.edges.logs import Log

__all__ = ["BrokerClock"]

log = Log(__name__)

SKEW_ALARM_MS: Final = 2_000
RELEARN_MS: Final = 600_000
"""Local clocks drift: what was learnt is forgotten after ten minutes."""


class BrokerClock:
    """Epoch milliseconds as the brokers count them.

    An ack tells the append time of its record (``LogAppendTime``), which lies before the ack: so
    each ack gives a lower bound of the offset between the broker's clock and our monotonic one,
    and the highest of them is the best. Until the first ack our own wall clock must do.
    """

    def __init__(self) -> None:
        """Begin with the wall clock."""
        self._offset = int(time.time() * 1000) - _monotonic_ms()
        self._learnt_at: int | None = None
        self._appended: int | None = None
        self._alarmed = False
        self._letting_go = asyncio.Event()

    def now(self) -> int:
        """Epoch ms on the broker's clock."""
        return _monotonic_ms() + self._offset

    def roll(self) -> float:
        """A number in [0, 1) for jitter; nothing secret hangs on it."""
        return random.random()

    def learn(self, appended: int) -> None:
        """Take the append time (epoch ms) of a record whose ack came in just now."""
        if appended == self._appended:
            return  # of the same batch, and heard of later: it tells nothing more
        self._appended = appended
        local = _monotonic_ms()
        offset = appended - local
        if self._learnt_at is None or local - self._learnt_at > RELEARN_MS:
            self._offset, self._learnt_at = offset, local
            self._alarm()
        elif offset > self._offset:
            self._offset = offset

    def _alarm(self) -> None:
        skew = int(time.time() * 1000) - self.now()
        if abs(skew) > SKEW_ALARM_MS and not self._alarmed:
            self._alarmed = True
            log.warning("clock.skewed", skew_ms=skew)

    async def wait_until(self, due: int) -> None:
        """Return at ``due`` (epoch ms). Raises ``Released`` once :meth:`let_go` was called."""
        while (left := due - self.now()) > 0:
            if self._letting_go.is_set():
                raise Released
            try:
                async with asyncio.timeout(left / 1000):
                    await self._letting_go.wait()
            except TimeoutError:
                continue
        if self._letting_go.is_set() and due > self.now():
            raise Released

    def let_go(self) -> None:
        """All who wait stop waiting: the process drains."""
        self._letting_go.set()


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
