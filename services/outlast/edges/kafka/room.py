"""How much may be in flight here: jobs, and bytes of their bodies, for each topic."""

from collections import Counter
from collections.abc import Callable

__all__ = ["Room"]


class Room:
    """Counts what is in flight against what may be."""

    def __init__(self, jobs: Callable[[], int], body_bytes: int = 64 * 1024 * 1024) -> None:
        """``jobs`` tells how many per topic; it is asked by :meth:`look` only."""
        self._may = jobs
        self._most = 0
        self._most_bytes = body_bytes
        self._jobs: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def look(self) -> None:
        """Ask anew how many there may be."""
        self._most = self._may()

    def is_in(self, topic: str) -> bool:
        """Whether one more has room."""
        return self._jobs[topic] < self._most and self._bytes[topic] < self._most_bytes

    @property
    def is_crowded(self) -> bool:
        """Whether some topic has none left."""
        return any(not self.is_in(topic) for topic in self._jobs)

    def enters(self, topic: str, size: int) -> None:
        """A job of so many bytes is in flight."""
        self._jobs[topic] += 1
        self._bytes[topic] += size

    def leaves(self, topic: str, size: int) -> None:
        """It is no more."""
        self._jobs[topic] -= 1
        self._bytes[topic] -= size
