"""Writes that are on their way: since when, to which topic, and what nobody waits for any more."""

from collections import Counter, OrderedDict
from itertools import count
from time import monotonic

__all__ = ["Pending"]


class Pending:
    """One entry for each write, be it of one record or of many together; the oldest is first."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._tickets = count()
        self._open: OrderedDict[int, tuple[float, str, int]] = OrderedDict()
        self._late: Counter[int] = Counter()

    def __len__(self) -> int:
        """How many records."""
        return sum(records for _, _, records in self._open.values())

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._open)

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest write has not been acknowledged."""
        return monotonic() - self.oldest()[0] if self._open else 0.0

    def oldest(self) -> tuple[float, str]:
        """Since when, by the monotonic clock, and to which topic. Raises when there is none."""
        since, topic, _ = next(iter(self._open.values()))
        return since, topic

    def opened(self, topic: str, records: int = 1) -> int:
        """A write begins; returns its ticket."""
        ticket = next(self._tickets)
        self._open[ticket] = (monotonic(), topic, records)
        return ticket

    def closed(self, ticket: int) -> None:
        """Who wrote is through; what was left behind goes on."""
        if ticket not in self._late:
            del self._open[ticket]

    def left_behind(self, ticket: int) -> None:
        """Nobody waits for the answer to one of its records any more, and it will come."""
        self._late[ticket] += 1

    def answered_late(self, ticket: int) -> None:
        """It has come."""
        self._late[ticket] -= 1
        if not self._late[ticket]:
            del self._late[ticket], self._open[ticket]
