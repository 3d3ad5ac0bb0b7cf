"""What a simulated provider has seen."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from outlast.drill.simulator.minute import Minute
from outlast.drill.simulator.seconds import Seconds, SecondsTally

__all__ = ["Counters", "Tally", "content_key"]


def content_key(content: str) -> str:
    """The name a job is counted under: a digest of its last message's text."""
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """A reading.

    Attributes:
        started: all calls that came.
        in_flight: those that have not ended.
        max_in_flight: the most of them at once.
        call_seconds: how long they took in all, those in flight until now; divided by a time it
            is how many were in flight at a time.
        calls_by_content: :func:`content_key` of the last message → calls.
        answered: status → answers that were sent whole.
        refused: ``concurrency``, ``requests`` or ``tokens`` → calls that this limit refused.
        calls_by_key: :func:`content_key` of the caller's API key → calls, by which a test tells
            workers apart.
        calls_while_unwell: calls that came in any other mode than ``ok``.
        tokens: those of the answers that were given, as they say themselves.
        most_requests_per_minute: the most requests of a sliding minute that no limit refused.
        most_tokens_per_minute: the most tokens that those of a sliding minute had together.
        most_arrived_per_minute: the most calls of a sliding minute, refused ones too.
        seconds: what happened in each second.
    """

    started: int
    in_flight: int
    max_in_flight: int
    call_seconds: float
    calls_by_content: Mapping[str, int]
    answered: Mapping[int, int]
    refused: Mapping[str, int]
    calls_by_key: Mapping[str, int]
    calls_while_unwell: int
    tokens: int
    most_requests_per_minute: int
    most_tokens_per_minute: int
    most_arrived_per_minute: int
    seconds: Seconds

    def calls_of(self, content: str) -> int:
        """How often a job with this last message was called."""
        return self.calls_by_content.get(content_key(content), 0)

    def calls_with(self, key: str) -> int:
        """How often a caller with this API key called."""
        return self.calls_by_key.get(content_key(key), 0)

    def to_json(self) -> dict[str, object]:
        """As the control endpoint shows it."""
        return {
            "started": self.started,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "call_seconds": self.call_seconds,
            "calls_by_content": dict(self.calls_by_content),
            "answered": {str(status): count for status, count in self.answered.items()},
            "refused": dict(self.refused),
            "calls_by_key": dict(self.calls_by_key),
            "calls_while_unwell": self.calls_while_unwell,
            "tokens": self.tokens,
            "most_requests_per_minute": self.most_requests_per_minute,
            "most_tokens_per_minute": self.most_tokens_per_minute,
            "most_arrived_per_minute": self.most_arrived_per_minute,
            "seconds": self.seconds.to_json(),
        }


class Tally:
    """Keeps the count; ``admitted`` is that of the requests which no limit refused."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin at nothing; the clock gives seconds."""
        self.in_flight = 0
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget the past; calls in flight stay counted as such."""
        self._started = 0
        self._max_in_flight = self.in_flight
        self._by_content: Counter[str] = Counter()
        self._by_key: Counter[str] = Counter()
        self._call_seconds = 0.0
        self._flying_since = self._clock()
        self._answered: Counter[int] = Counter()
        self._refused: Counter[str] = Counter()
        self._while_unwell = 0
        self._tokens = 0
        self.admitted = Minute()
        self._arrived = Minute()
        self._seconds = SecondsTally(self._clock(), self.in_flight)

    def began(self, content: str, *, key: str = "", is_well: bool = True) -> None:
        """A call came in."""
        now = self._clock()
        self._started += 1
        self._fly(now, 1)
        self._max_in_flight = max(self._max_in_flight, self.in_flight)
        self._by_content[content_key(content)] += 1
        self._by_key[content_key(key)] += 1
        self._while_unwell += not is_well
        self._arrived.admit(now, 0)
        self._seconds.count("arrived", now)

    def refused(self, limit: str) -> None:
        """A limit did not let a call in."""
        self._refused[limit] += 1

    def spent(self, tokens: int) -> None:
        """An answer says that it has used so many tokens."""
        self._tokens += tokens

    def ended(self) -> None:
        """A call is over, whatever its end."""
        self._fly(self._clock(), -1)

    def _fly(self, now: float, more: int) -> None:
        self._call_seconds += self.in_flight * (now - self._flying_since)
        self._flying_since = now
        self.in_flight += more
        self._seconds.flying(self.in_flight, now)

    def answered(self, status: int) -> None:
        """An answer was sent."""
        self._answered[status] += 1
        now = self._clock()
        match status:
            case 200:
                self._seconds.count("served", now)
            case 429:
                self._seconds.count("refused", now)
            case _:
                self._seconds.count("failed", now)

    def read(self) -> Counters:
        """The count so far."""
        self._fly(self._clock(), 0)
        return Counters(
            started=self._started,
            in_flight=self.in_flight,
            max_in_flight=self._max_in_flight,
            call_seconds=self._call_seconds,
            calls_by_content=MappingProxyType(dict(self._by_content)),
            answered=MappingProxyType(dict(self._answered)),
            refused=MappingProxyType(dict(self._refused)),
            calls_by_key=MappingProxyType(dict(self._by_key)),
            calls_while_unwell=self._while_unwell,
            tokens=self._tokens,
            most_requests_per_minute=self.admitted.most_requests,
            most_tokens_per_minute=self.admitted.most_tokens,
            most_arrived_per_minute=self._arrived.most_requests,
            seconds=self._seconds.read(self._clock()),
        )
