"""The three inputs of the account: what was published, what the topics hold, who was called."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Origin
from outlast_schemas.result import Status

__all__ = ["Allowance", "Calls", "Dump", "End", "Letter", "Open", "Published", "Run", "Trace"]

Run = tuple[str, int]
"""Job id, replays."""

Calls = Mapping[str, Mapping[str, int]]
"""Provider → job id → how many calls it saw; a provider that was not asked is not in it."""


@dataclass(frozen=True, slots=True)
class Published:
    """Job ids by what their publisher learnt; one that is in several counts by the first of them.

    ``acked``: the broker has it. ``unknown``: no answer came, so it may have landed. ``failed``:
    refused for good, so no topic may hold it.
    """

    acked: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()

    @property
    def ours(self) -> frozenset[str]:
        """Ids that topics may hold."""
        return self.acked | self.unknown

    @property
    def refused(self) -> frozenset[str]:
        """Ids that no topic may hold, although we tried."""
        return self.failed - self.ours


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A result record; ``calls`` is what it says its run took, ``provider`` who answered."""

    job_id: str
    replays: int
    status: Status
    calls: int
    place: Origin
    charged: int | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter; ``calls`` is what its run took so far."""

    job_id: str
    replays: int
    reason: Reason
    calls: int
    place: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A record that no stage has done; at hop 0 it is one of the jobs topic."""

    job_id: str
    replays: int
    hop: int
    calls: int
    place: Origin


Trace = End | Letter | Open
"""What a run left in a topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """What the topics hold, at rest: no call in flight, every commit made.

    ``accepted`` counts each id's records in the jobs topic that begin its first run, ``replayed``
    those that begin a later one. ``foreign`` are records among results and dead letters that are
    neither.
    """

    accepted: Mapping[str, int] = field(default_factory=dict)
    replayed: Mapping[Run, int] = field(default_factory=dict)
    ends: tuple[End, ...] = ()
    letters: tuple[Letter, ...] = ()
    open: tuple[Open, ...] = ()
    foreign: tuple[Origin, ...] = ()

    @property
    def traces(self) -> tuple[Trace, ...]:
        """All but what lies done in the jobs topic."""
        return (*self.ends, *self.letters, *self.open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the faults of a scenario permit; without faults nothing beyond the routes' limits.

    ``extra_calls`` and ``repeats`` bound sums over all jobs, ``max_calls`` and ``max_charged``
    (a route's ``max_attempts``) each run.
    """

    extra_calls: int = 0
    repeats: int = 0
    max_calls: int = 40
    max_charged: int = 8
