"""What a simulated provider has seen."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["Counters", "Tally", "content_key"]


def content_key(content: str) -> str:
    """The name a job is counted under: a digest of its last message's text."""
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """A reading.

    ``calls_by_content`` maps :func:`content_key` to calls; ``answered`` maps a status to answers
    that were sent whole.
    """

    started: int
    in_flight: int
    max_in_flight: int
    calls_by_content: Mapping[str, int]
    answered: Mapping[int, int]

    def calls_of(self, content: str) -> int:
        """How often a job with this last message was called."""
        return self.calls_by_content.get(content_key(content), 0)

    def to_json(self) -> dict[str, object]:
        """As the control endpoint shows it."""
        return {
            "started": self.started,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "calls_by_content": dict(self.calls_by_content),
            "answered": {str(status): count for status, count in self.answered.items()},
        }


class Tally:
    """Keeps the count."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Forget the past; calls in flight stay counted as such."""
        self._started = 0
        self._max_in_flight = self.in_flight
        self._by_content: Counter[str] = Counter()
        self._answered: Counter[int] = Counter()

    def began(self, content: str) -> None:
        """A call came in."""
        self._started += 1
        self.in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self.in_flight)
        self._by_content[content_key(content)] += 1

    def ended(self) -> None:
        """A call is over, whatever its end."""
        self.in_flight -= 1

    def answered(self, status: int) -> None:
        """An answer was sent."""
        self._answered[status] += 1

    def read(self) -> Counters:
        """The count so far."""
        return Counters(
            started=self._started,
            in_flight=self.in_flight,
            max_in_flight=self._max_in_flight,
            calls_by_content=MappingProxyType(dict(self._by_content)),
            answered=MappingProxyType(dict(self._answered)),
        )
