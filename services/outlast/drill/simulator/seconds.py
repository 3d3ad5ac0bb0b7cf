"""What happened in each second since a simulated provider began to count."""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["KEPT", "Seconds", "SecondsTally"]

KEPT: Final = 7_200
"""The last two hours; what is older is forgotten."""

Happening = Literal["arrived", "served", "refused", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """A reading: one number for each second, from second ``first`` (0 for two hours) on.

    Attributes:
        arrived: calls that came.
        served: answers of 200.
        refused: answers of 429.
        failed: all other answers.
        in_flight: the most calls at once.
    """

    first: int
    arrived: tuple[int, ...]
    served: tuple[int, ...]
    refused: tuple[int, ...]
    failed: tuple[int, ...]
    in_flight: tuple[int, ...]

    def most_in_flight(self, since: int = 0, until: int | None = None) -> int:
        """The most calls at once in the seconds from ``since`` up to before ``until``."""
        begin = max(0, since - self.first)
        end = None if until is None else max(0, until - self.first)
        return max(self.in_flight[begin:end], default=0)

    def to_json(self) -> dict[str, object]:
        """As the control endpoint shows it."""
        return {
            "first": self.first,
            "arrived": self.arrived,
            "served": self.served,
            "refused": self.refused,
            "failed": self.failed,
            "in_flight": self.in_flight,
        }


class SecondsTally:
    """Keeps the count, second by second. All instants are seconds of one clock."""

    def __init__(self, now: float, in_flight: int) -> None:
        """Begin at this instant, with so many calls in flight."""
        self._began = now
        self._first = 0
        self._counts: dict[str, list[int]] = {
            "arrived": [0],
            "served": [0],
            "refused": [0],
            "failed": [0],
        }
        self._in_flight = [in_flight]
        self._now_in_flight = in_flight

    def count(self, what: Happening, now: float) -> None:
        """Something happened now."""
        self._reach(now)
        self._counts[what][-1] += 1

    def flying(self, in_flight: int, now: float) -> None:
        """From now on so many calls are in flight."""
        self._reach(now)
        self._now_in_flight = in_flight
        self._in_flight[-1] = max(self._in_flight[-1], in_flight)

    def read(self, now: float) -> Seconds:
        """The count so far, up to the second of now."""
        self._reach(now)
        return Seconds(
            first=self._first,
            arrived=tuple(self._counts["arrived"]),
            served=tuple(self._counts["served"]),
            refused=tuple(self._counts["refused"]),
            failed=tuple(self._counts["failed"]),
            in_flight=tuple(self._in_flight),
        )

    def _reach(self, now: float) -> None:
        """Begin the seconds that have begun since the last event: nothing happened in them."""
        missing = int(now - self._began) + 1 - self._first - len(self._in_flight)
        if missing <= 0:
            return
        self._first += max(0, len(self._in_flight) + missing - KEPT)
        for counts in self._counts.values():
            _grow(counts, missing, 0)
        _grow(self._in_flight, missing, self._now_in_flight)


def _grow(counts: list[int], by: int, value: int) -> None:
    counts.extend([value] * min(by, KEPT))
    del counts[:-KEPT]
