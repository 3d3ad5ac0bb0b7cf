"""How a process is, for those who look at it from outside: is it alive, may it be given work."""

from collections.abc import Callable
from enum import StrEnum

__all__ = ["Condition", "Phase"]


class Phase(StrEnum):
    """A process's life; each value completes "the process is …"."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    ENDING = "ending"


class Condition:
    """Is told what happens to the process, and says what follows from it."""

    def __init__(self) -> None:
        """The process is starting, and nothing is wrong with it."""
        self.phase = Phase.STARTING
        self.failure: str | None = None
        """Why it has to leave, in a line."""
        self._checks: list[Callable[[], str | None]] = []

    def watch(self, *checks: Callable[[], str | None]) -> None:
        """Ask these, too: each says in a line why no work should come here now, or nothing."""
        self._checks += checks

    def failed(self, failure: BaseException) -> None:
        """Something made going on pointless."""
        first, *_ = str(failure).splitlines() or [""]
        self.failure = f"{type(failure).__name__}: {first}"[:300]

    @property
    def unalive(self) -> str | None:
        """Why only a restart helps; ``None`` as long as that the event loop turns says enough."""
        if self.failure is not None:
            return self.failure
        return "the process has drained and ends" if self.phase is Phase.ENDING else None

    @property
    def unready(self) -> str | None:
        """Why no work should come here just now; ``None`` when it may."""
        if self.failure is not None:
            return self.failure
        if self.phase is not Phase.RUNNING:
            return f"the process is {self.phase.value}"
        return next((why for check in self._checks if (why := check()) is not None), None)
