"""One process of a fleet, to be frozen, told and watched."""

import asyncio
import signal
from dataclasses import dataclass

from tests.e2e.scene import Process

__all__ = ["Worker"]


@dataclass(kw_only=True)
class Worker(Process):
    """One process of the fleet; times are those of the event loop."""

    slot: str
    stage: str
    key: str
    born: float

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """Once it has ended by itself or been ended."""
        return self.process.returncode

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, seconds: float) -> int:
        """Wait for its end; the exit code."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    def said(self, event: str) -> bool:
        """Whether its log has the event."""
        return f'"{event}"' in self.log.read_text()
