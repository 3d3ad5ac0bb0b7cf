"""Puts dead letters back to work, each as the next run of its job.

Reads dead-letters, results and jobs; writes jobs.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from outlast.core.lifecycle import Hop, Outgoing
from outlast.ports import Archive
from outlast_schemas import headers as h
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.job import Job
from outlast_schemas.result import Status
from outlast_schemas.topics import Topics

__all__ = ["History", "Publisher", "Selection", "Wish", "look", "next_run", "replay", "select"]

LEFT_BEHIND: Final = frozenset(
    {
        h.DEADLINE,
        h.TTL_SECONDS,
        h.REPLAY,
        h.REASON,
        h.DETAIL,
        h.FROM,
        h.TRACEPARENT,
        h.TRACESTATE,
    }
)
AT_ONCE: Final = 500
"""Publishes in flight."""
NOT_WHOLE: Final = "too large: its body was not kept whole"
CONFLICT: Final = "conflict: its id belongs to another body; publish it under a new id"
SERVED: Final = "succeeded already, in this run or a later one"
UNDER_WAY: Final = "a later run has begun"


class Publisher(Protocol):
    """The way out."""

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all are acknowledged."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Which dead letters to replay: all that both filters let through; none set lets through all.

    ``ttl_seconds`` is the time each has in its new run; ``None``: as the route says.
    """

    ids: frozenset[str] = frozenset()
    reason: Reason | None = None
    ttl_seconds: float | None = None

    def wants(self, letter: DeadLetter) -> bool:
        """Whether the letter passes the filters."""
        by_id = not self.ids or letter.job.id in self.ids
        return by_id and self.reason in (None, letter.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Job id → the latest run that succeeded, and the latest run in the jobs topic."""

    succeeded: Mapping[str, int] = field(default_factory=dict)
    accepted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """``letters`` are to be replayed; ``skipped`` maps an id to why it is not; ``unknown`` are
    ids that were asked for and have no dead letter."""

    letters: tuple[DeadLetter, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def select(wish: Wish, letters: Iterable[DeadLetter], history: History) -> Selection:
    """Only the latest run's letter of each id, and none whose job is served or runs again."""
    latest: dict[str, DeadLetter] = {}
    for letter in letters:
        known = latest.get(letter.job.id)
        if known is None or _supersedes(letter, known):
            latest[letter.job.id] = letter
    wanted = [letter for letter in latest.values() if wish.wants(letter)]
    skipped = {
        letter.job.id: why for letter in wanted if (why := _why_not(letter, history)) is not None
    }
    return Selection(
        letters=tuple(letter for letter in wanted if letter.job.id not in skipped),
        skipped=skipped,
        unknown=tuple(sorted(wish.ids - latest.keys())),
    )


def _supersedes(letter: DeadLetter, known: DeadLetter) -> bool:
    """A conflict's letter is of another job that took the id, so any other goes before it."""
    if (known.reason is Reason.CONFLICT) != (letter.reason is Reason.CONFLICT):
        return known.reason is Reason.CONFLICT
    return letter.job.state.replays > known.job.state.replays


def _why_not(letter: DeadLetter, history: History) -> str | None:
    job_id, run = letter.job.id, letter.job.state.replays
    if letter.reason is Reason.CONFLICT:
        return CONFLICT
    if letter.reason is Reason.TOO_LARGE:
        return NOT_WHOLE
    if history.succeeded.get(job_id, -1) >= run:
        return SERVED
    if history.accepted.get(job_id, -1) > run:
        return UNDER_WAY
    return None


def next_run(job: Job, run: str, ttl_seconds: float | None = None) -> Job:
    """The job as it is published again: same id, body and history, a fresh count and deadline.

    Args:
        job: as its dead letter holds it.
        run: the id of the replay, which stands in ``outlast-replay``.
        ttl_seconds: the time it has, or ``None`` for what its route says.
    """
    kept = tuple(pair for pair in job.headers if pair[0] not in LEFT_BEHIND)
    added: h.Headers = ((h.REPLAY, run.encode()),)
    if ttl_seconds is not None:
        added = (*added, (h.TTL_SECONDS, str(ttl_seconds).encode()))
    state = replace(
        job.state,
        replays=job.state.replays + 1,
        hop=0,
        charged=0,
        calls=0,
        deferrals=0,
        due=None,
        target=None,
        avoid={},
    )
    return replace(job, headers=(*kept, *added), state=state)


async def look(archive: Archive, wish: Wish) -> Selection:
    """Read what there is and select; the jobs topic last, so that no run that began is missed."""
    letters = [letter async for letter in archive.dead_letters()]
    if not letters:
        return select(wish, letters, History())
    succeeded = await _latest(
        (ended.job_id, ended.replays)
        async for ended in archive.ended()
        if ended.status is Status.SUCCEEDED
    )
    accepted = await _latest((job.id, job.state.replays) async for job in archive.accepted())
    return select(wish, letters, History(succeeded=succeeded, accepted=accepted))


async def _latest(runs: AsyncIterator[tuple[str, int]]) -> dict[str, int]:
    latest: dict[str, int] = {}
    async for job_id, run in runs:
        latest[job_id] = max(latest.get(job_id, 0), run)
    return latest


async def replay(
    letters: Iterable[DeadLetter], wish: Wish, run: str, publisher: Publisher, topics: Topics
) -> int:
    """Publish the next run of each letter's job, and return how many were acknowledged."""
    jobs = [next_run(letter.job, run, wish.ttl_seconds) for letter in letters]
    for start in range(0, len(jobs), AT_ONCE):
        batch = jobs[start : start + AT_ONCE]
        await asyncio.gather(*(publisher.send([Hop(topics.jobs, job)]) for job in batch))
    return len(jobs)
