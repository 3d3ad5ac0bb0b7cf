"""What is parked behind that which is in hand, counted by kind: what each wants, and until when."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from outlast.core.admission import terms
from outlast.core.decide.situation import lasting
from outlast.core.policy import Catalogue
from outlast_schemas.job import Job

__all__ = ["Census"]

MINUTE_MS: Final = 60_000
NEVER: Final = 2**53


@dataclass(slots=True)
class Census:
    """One partition from its first record that is not in hand. Times are epoch ms.

    Jobs of one kind are alike in all that decides where they go; of each kind one is kept, without
    its body, and the last offset at which one lies. Memory grows with the kinds, not with the jobs.

    Attributes:
        read: the next offset to look at.
    """

    read: int
    _kinds: dict[Hashable, tuple[int, Job]] = field(default_factory=dict)
    _deadlines: dict[int, int] = field(default_factory=dict)

    def saw(self, job: Job, catalogue: Catalogue, now: int) -> None:
        """The job lies at its origin's offset."""
        offset, state = job.origin.offset, job.state
        self.read = max(self.read, offset + 1)
        # Up to the minute, lest each job be a kind of its own.
        avoid = {name: _minute(until) for name, until in lasting(job, now).items()}
        kind = (state.route, terms(job.headers, catalogue), frozenset(avoid.items()))
        like = replace(state, avoid=avoid, attempts=(), deadline=NEVER)
        self._kinds[kind] = (offset, replace(job, body=b"", state=like))
        self._deadlines[_minute(state.deadline)] = offset

    def came_to(self, offset: int) -> None:
        """All below is in hand now, or gone."""
        self.read = max(self.read, offset)
        self._kinds = {kind: each for kind, each in self._kinds.items() if each[0] >= offset}
        self._deadlines = {at: last for at, last in self._deadlines.items() if last >= offset}

    def expired(self, now: int) -> int | None:
        """The last offset of a job whose deadline has passed, to the minute."""
        return max((last for at, last in self._deadlines.items() if at <= now), default=None)

    def kinds(self) -> Iterator[tuple[int, Job]]:
        """Of each kind the last offset, and a job like those."""
        return iter(self._kinds.values())


def _minute(at: int) -> int:
    """The end of the minute that the instant lies in."""
    return at + -at % MINUTE_MS
