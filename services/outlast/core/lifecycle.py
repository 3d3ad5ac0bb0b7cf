"""Where a job can be, every way on from there, and the record each decision writes.

This file holds all of it: a decision becomes records here and nowhere else. The diagram in
README and the tests read ``WAYS``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from outlast.core.policy import Catalogue, Target
from outlast_schemas import headers as h
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.job import Job
from outlast_schemas.result import Result, Served, Status
from outlast_schemas.topics import TIERS, Topics

__all__ = [
    "WAYS",
    "Ask",
    "Complete",
    "Decision",
    "Expire",
    "Hop",
    "Outgoing",
    "Park",
    "Place",
    "SetAside",
    "Wait",
    "onward",
    "records",
]

LONGEST_TIER_MS: Final = TIERS[-1].seconds * 1000


class Place(StrEnum):
    """A job under way is in one of the first four; the rest are ends of a run."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    WAITING = "waiting"
    PARKED = "parked"
    SUCCEEDED = "succeeded"
    DEAD_LETTERED = "dead_lettered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


ENDS: Final = frozenset({Place.SUCCEEDED, Place.DEAD_LETTERED, Place.EXPIRED, Place.CANCELLED})
_UNSERVED: Final = frozenset({Place.DEAD_LETTERED, Place.EXPIRED, Place.CANCELLED})

WAYS: Final[Mapping[Place, frozenset[Place]]] = {
    Place.ACCEPTED: frozenset({Place.QUEUED, Place.PARKED, *_UNSERVED}),
    Place.QUEUED: frozenset({Place.QUEUED, Place.WAITING, Place.PARKED, *ENDS}),
    Place.WAITING: frozenset({Place.QUEUED, Place.WAITING, Place.PARKED, *_UNSERVED}),
    Place.PARKED: frozenset({Place.QUEUED, Place.PARKED, *_UNSERVED}),
    Place.SUCCEEDED: frozenset(),
    Place.DEAD_LETTERED: frozenset({Place.ACCEPTED}),
    Place.EXPIRED: frozenset({Place.ACCEPTED}),
    Place.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Hop:
    """The job's next record in a topic of ours; its state already counts the hop."""

    topic: str
    job: Job


Outgoing = Hop | DeadLetter | Result


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this target: the job goes to its provider's pool."""

    job: Job
    target: Target


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until ``due`` (epoch ms) in a retry tier; a due that has come means at once."""

    job: Job
    due: int


@dataclass(frozen=True, slots=True)
class Park:
    """Wait, free of charge, until somebody can serve it."""

    job: Job


@dataclass(frozen=True, slots=True)
class Complete:
    """It is served."""

    job: Job
    served: Served


@dataclass(frozen=True, slots=True)
class SetAside:
    """It cannot be served: dead letter. ``verdict`` is the last call's, if there was one."""

    job: Job
    reason: Reason
    detail: str
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Expire:
    """Its deadline passed: an ``expired`` result, and a dead letter so that it can be replayed."""

    job: Job


Decision = Ask | Wait | Park | Complete | SetAside | Expire
_GOING_ON: Final = (Ask, Wait, Park)


def records(
    decision: Decision, topics: Topics, catalogue: Catalogue, now: int
) -> tuple[Outgoing, ...]:
    """The records a decision writes, in the order they must be acknowledged.

    What would be due after its deadline is parked instead: only the deadline expires a job.
    """
    match decision:
        case Ask(job, target):
            return (_hop(job, topics.work(target.provider), target=str(target), due=None),)
        case Wait(job, due):
            if due >= job.state.deadline:
                return (_hop(job, topics.parked, due=None),)
            return (_hop(job, topics.tier_for(due - now), due=due),)
        case Park(job):
            return (_hop(job, topics.parked, due=None),)
        case Complete(job, served):
            return _completed(job, served, topics, catalogue)
        case SetAside(job, reason, detail, verdict):
            return _unserved(
                job, Status.DEAD_LETTERED, reason, detail, _results(job, topics, catalogue), verdict
            )
        case Expire(job):
            return _unserved(
                job,
                Status.EXPIRED,
                Reason.DEADLINE,
                "the deadline passed before the job was served",
                _results(job, topics, catalogue),
            )


def onward(decision: Decision, topics: Topics, catalogue: Catalogue, now: int) -> Hop | None:
    """The one record of a decision that only sends the job on; ``None`` where it ends."""
    if not isinstance(decision, _GOING_ON):
        return None
    [hop] = records(decision, topics, catalogue, now)
    return hop if isinstance(hop, Hop) else None


def _hop(job: Job, topic: str, *, due: int | None, target: str | None = None) -> Hop:
    return Hop(topic, job.with_state(job.state.appended(due=due, target=target)))


def _completed(
    job: Job, served: Served, topics: Topics, catalogue: Catalogue
) -> tuple[Outgoing, ...]:
    topic = _results(job, topics, catalogue)
    if len(served.body) > catalogue.max_body_bytes:
        detail = (
            f"{served.provider}/{served.model} answered {len(served.body):,} bytes; "
            f"the limit is {catalogue.max_body_bytes:,} (kafka.max_body_bytes)"
        )
        return _unserved(job, Status.DEAD_LETTERED, Reason.ANSWER_TOO_LARGE, detail, topic)
    return (Result(job=job, topic=topic, status=Status.SUCCEEDED, served=served),)


def _unserved(
    job: Job,
    status: Status,
    reason: Reason,
    detail: str,
    topic: str,
    verdict: str | None = None,
) -> tuple[Outgoing, ...]:
    letter = DeadLetter(job=job, reason=reason, detail=detail)
    if reason is Reason.CONFLICT:
        # The id belongs to another body, whose result must not be joined by this one's.
        return (letter,)
    return (
        letter,
        Result(job=job, topic=topic, status=status, reason=reason, message=detail, verdict=verdict),
    )


def _results(job: Job, topics: Topics, catalogue: Catalogue) -> str:
    asked = job.header(h.RESULTS)
    if asked is not None and asked in catalogue.results:
        return topics.results(asked)
    route = catalogue.route(job.state.route)
    return topics.results(route.results if route is not None else "default")
