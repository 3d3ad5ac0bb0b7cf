"""Where every accepted job is: served, set aside, expired, cancelled, open, or lost.

Reads all topics and writes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from outlast.ports import Archive, EndedRun
from outlast_schemas.job import Job
from outlast_schemas.result import Status

__all__ = ["Accepted", "Report", "audit", "collect", "reconcile"]

ROUNDS: Final = 3
"""A job is called lost only when so many readings of everything agree."""

Ended = Mapping[str, tuple[int, Status]]
"""Job id → its latest run that ended, and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """accepted = succeeded + dead_lettered + expired + cancelled + open + lost, each id once.

    A job counts by its latest run. ``open_ids``, ``lost`` and ``conflicts`` are job ids; a
    conflict is an id that was published with more than one body, and its first body is counted
    like any job.
    """

    accepted: int = 0
    succeeded: int = 0
    dead_lettered: int = 0
    expired: int = 0
    cancelled: int = 0
    open: int = 0
    open_ids: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The object that ``outlast audit --json`` prints."""
        return {
            "accepted": self.accepted,
            "succeeded": self.succeeded,
            "dead_lettered": self.dead_lettered,
            "expired": self.expired,
            "cancelled": self.cancelled,
            "open": self.open,
            "open_ids": list(self.open_ids),
            "lost": len(self.lost),
            "lost_ids": list(self.lost),
            "conflicts": len(self.conflicts),
            "conflict_ids": list(self.conflicts),
        }


@dataclass(slots=True)
class Accepted:
    """What the jobs topic says: each id's latest run, and the ids that came with two bodies."""

    runs: dict[str, int] = field(default_factory=dict)
    conflicts: set[str] = field(default_factory=set)
    _bodies: dict[str, int] = field(default_factory=dict)

    def add(self, job: Job) -> None:
        """Take in one record of the jobs topic."""
        self.runs[job.id] = max(self.runs.get(job.id, 0), job.state.replays)
        body = hash(job.body)
        if self._bodies.setdefault(job.id, body) != body:
            self.conflicts.add(job.id)


def collect(ended: Iterable[EndedRun]) -> dict[str, tuple[int, Status]]:
    """The latest run of each id that ended; within a run the first result stands."""
    latest: dict[str, tuple[int, Status]] = {}
    for run in ended:
        _take(latest, run)
    return latest


def reconcile(accepted: Accepted, ended: Ended, open_: Mapping[str, int]) -> Report:
    """Compare what came in with what went out.

    Args:
        accepted: what the jobs topic says.
        ended: id → the latest run that ended, and how.
        open_: id → the latest run that is still under way.
    """
    places = {job_id: _place(job_id, run, ended, open_) for job_id, run in accepted.runs.items()}
    counts = Counter(places.values())
    return Report(
        accepted=len(places),
        succeeded=counts[Status.SUCCEEDED],
        dead_lettered=counts[Status.DEAD_LETTERED],
        expired=counts[Status.EXPIRED],
        cancelled=counts[Status.CANCELLED],
        open=counts["open"],
        open_ids=tuple(job_id for job_id, place in places.items() if place == "open"),
        lost=tuple(job_id for job_id, place in places.items() if place == "lost"),
        conflicts=tuple(sorted(accepted.conflicts)),
    )


def _place(job_id: str, run: int, ended: Ended, open_: Mapping[str, int]) -> str:
    if job_id in ended and ended[job_id][0] >= max(run, open_.get(job_id, 0)):
        return ended[job_id][1]
    return "open" if open_.get(job_id, -1) >= run else "lost"


async def audit(archive: Archive) -> Report:
    """Read everything and account for every job, while jobs go on moving.

    A round reads what ended, then what is open, then again what ended: a job that ends in
    between is seen at least once, and what was seen once is not lost. Three rounds at most.
    """
    accepted = Accepted()
    async for job in archive.accepted():
        accepted.add(job)
    ended: dict[str, tuple[int, Status]] = {}
    open_: dict[str, int] = {}
    report = Report()
    for _ in range(ROUNDS):
        await _read_ended(archive, ended)
        async for each in archive.open():
            open_[each.job_id] = max(open_.get(each.job_id, 0), each.replays)
        await _read_ended(archive, ended)
        report = reconcile(accepted, ended, open_)
        if not report.lost:
            break
    return report


async def _read_ended(archive: Archive, ended: dict[str, tuple[int, Status]]) -> None:
    async for run in archive.ended():
        _take(ended, run)


def _take(latest: dict[str, tuple[int, Status]], run: EndedRun) -> None:
    known = latest.get(run.job_id)
    if known is None or run.replays > known[0]:
        latest[run.job_id] = (run.replays, run.status)
