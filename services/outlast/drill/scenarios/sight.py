"""What was seen of a drill, at its end, and the numbers that are in it: values only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil

__all__ = ["Bound", "Ended", "Exit", "Figure", "Sight", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """The fleet's verdict on a provider became another; seconds are those since the first job."""

    at: float
    provider: str
    state: str
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job's end: when it was accepted and served (seconds), and what it took.

    ``path`` are its latest calls, each as (seconds, provider, what it came to).
    """

    status: str
    provider: str | None
    calls: int
    accepted: float
    served: float
    path: tuple[tuple[float, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """A process ended by itself."""

    at: float
    process: str
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """All of it.

    Attributes:
        jobs: how many were acknowledged.
        lost: how many of them nobody has.
        holds: whether the account of conservation holds.
        account: its lines.
        ended: the ends.
        turns: verdicts, in order.
        marks: the steps by their names.
        arrived: provider → calls that came in each second, probes among them.
        probes: provider → calls that were for no job.
        depth: (seconds, jobs in the pool under fire), in order.
        most_parked: the most jobs that were parked at once.
        exits: processes that ended by themselves.
    """

    jobs: int
    lost: int
    holds: bool
    account: tuple[str, ...] = ()
    ended: tuple[Ended, ...] = ()
    turns: tuple[Turn, ...] = ()
    marks: Mapping[str, float] = field(default_factory=dict)
    arrived: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    probes: Mapping[str, int] = field(default_factory=dict)
    depth: tuple[tuple[float, int], ...] = ()
    most_parked: int = 0
    exits: tuple[Exit, ...] = ()

    def turned(self, provider: str, state: str, since: float = 0.0) -> float | None:
        """When its verdict first became this one after ``since``, or never."""
        times = (t.at for t in self.turns if (t.provider, t.state) == (provider, state))
        return next((at for at in times if at >= since), None)

    def openings(self, provider: str, since: float = 0.0) -> int:
        """How often it was found down from then on; a failed probe is no new opening."""
        before, found = "closed", 0
        for turn in (each for each in self.turns if each.provider == provider):
            found += turn.state == "open" and before in ("closed", "ramp") and turn.at >= since
            before = turn.state
        return found

    def calls_between(self, provider: str, since: float, until: float | None = None) -> int:
        """Calls that came from the first whole second after ``since`` to before ``until``."""
        end = None if until is None else int(until)
        return sum(self.arrived.get(provider, ())[ceil(since) : end])

    def rate(self, provider: str, since: float, seconds: int) -> tuple[int, ...]:
        """Calls that came in each of so many seconds."""
        return self.arrived.get(provider, ())[int(since) : int(since) + seconds]

    def count(self, status: str) -> int:
        """Jobs that ended so."""
        return sum(each.status == status for each in self.ended)

    def calls_per_job(self, since: float = 0.0) -> float | None:
        """The mean of the jobs accepted from then on; none without such jobs."""
        calls = [each.calls for each in self.ended if each.accepted >= since]
        return sum(calls) / len(calls) if calls else None

    def served_elsewhere(self, provider: str, since: float) -> float | None:
        """When the first job that another provider served was served after ``since``."""
        times = [
            each.served
            for each in self.ended
            if each.provider not in (None, provider) and each.served >= since
        ]
        return min(times, default=None)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; ``holds`` is none where nothing is promised."""

    what: str
    value: str
    promised: str = ""
    holds: bool | None = None


Bound = Callable[[Sight], Figure]
"""What is printed, and whether it holds."""
