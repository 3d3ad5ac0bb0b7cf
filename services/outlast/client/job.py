"""What goes in and what comes back when jobs are published."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from outlast.core.capability import Operation
from outlast.core.errors import PublishRefused, PublishUnknown
from outlast.core.policy import OnAmbiguous
from outlast.edges.request import Body

__all__ = ["Job", "NewJob", "PublishTerms", "Receipt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that the broker has acknowledged, and where its record lies.

    ``accepted`` is when, in epoch ms by the broker's clock; ``results`` names the result topic
    that its answer is expected in.
    """

    id: str
    topic: str
    partition: int
    offset: int
    accepted: int
    results: str


class PublishTerms(TypedDict, total=False):
    """The keyword arguments that :meth:`AsyncClient.publish` explains."""

    route: str | None
    operation: Operation | None
    ttl: float | timedelta | None
    deadline: datetime | None
    scope: Iterable[str] | None
    on_ambiguous: OnAmbiguous | None
    results: str | None
    headers: Mapping[str, str | bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job for ``publish_many`` with an id or terms of its own; what is ``None`` is as for all."""

    body: Body
    job_id: str | None = None
    route: str | None = None
    operation: Operation | None = None
    ttl: float | timedelta | None = None
    deadline: datetime | None = None
    scope: Iterable[str] | None = None
    on_ambiguous: OnAmbiguous | None = None
    results: str | None = None
    headers: Mapping[str, str | bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one item of ``publish_many``; ``number`` counts the items.

    Exactly one of ``job`` and ``error`` is there.
    """

    number: int
    job_id: str
    job: Job | None = None
    error: PublishRefused | PublishUnknown | None = None

    def raise_for_error(self) -> Job:
        """The job; raises ``PublishRefused`` or ``PublishUnknown`` when there is none."""
        if self.job is None:
            raise self.error or PublishRefused(f"job {self.job_id} was not published")
        return self.job
