"""All that a decision looks at: the world at one moment, and what the job asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from outlast.core.admission import Fault, Terms, terms
from outlast.core.capability import Operation
from outlast.core.choose import Choice, Fleet, choose
from outlast.core.policy import Catalogue, OnAmbiguous, Route
from outlast_schemas.dead_letter import Reason
from outlast_schemas.drafts import draft_of
from outlast_schemas.job import Job

__all__ = [
    "AVOID_MS",
    "Situation",
    "View",
    "avoiding",
    "chosen",
    "deferred",
    "facing",
    "situation",
    "starting_over",
]

NOBODY: Final[Mapping[str, int]] = {}
AVOID_MS: Final = 60_000
"""How long a job stays away from a provider that just failed it, unless it starts over sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The world at one moment: ``now`` is epoch ms of the broker's clock, ``roll`` in [0, 1)."""

    catalogue: Catalogue
    fleet: Fleet
    now: int
    roll: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a decision looks at beside the job: the world, and what the job asks for."""

    route: Route
    operation: Operation
    scope: frozenset[str] | None
    on_ambiguous: OnAmbiguous
    fleet: Fleet
    catalogue: Catalogue
    now: int
    roll: float

    def at(self, view: View) -> "Situation":
        """The same job's situation at another moment; what it asks for has not changed."""
        draft = _Draft()
        draft.route = self.route
        draft.operation = self.operation
        draft.scope = self.scope
        draft.on_ambiguous = self.on_ambiguous
        draft.catalogue = self.catalogue
        return _at(draft, view)


def situation(job: Job, view: View) -> Situation | Fault:
    """What the job asks for, read anew against this process's own configuration."""
    route = view.catalogue.route(job.state.route)
    if route is None:
        name = job.state.route[:200]
        return Fault(Reason.UNKNOWN_ROUTE, f"route {name!r} is not in the configuration any more")
    asked = terms(job.headers, view.catalogue)
    if isinstance(asked, Fault):
        return asked
    return facing(route, asked, view)


def facing(route: Route, asked: Terms, view: View) -> Situation:
    """The situation of a job on this route that asks for this."""
    draft = _Draft()
    draft.route = route
    draft.operation = asked.operation
    draft.scope = asked.scope
    draft.on_ambiguous = asked.on_ambiguous or route.on_ambiguous
    draft.catalogue = view.catalogue
    return _at(draft, view)


_Draft: Final = draft_of(Situation)


def _at(draft: Any, view: View) -> Situation:
    """Complete what a job asks for with the moment."""
    draft.fleet = view.fleet
    draft.now = view.now
    draft.roll = view.roll
    draft.__class__ = Situation
    found: Situation = draft
    return found


def chosen(job: Job, s: Situation) -> Choice:
    """Who takes the job now."""
    return choose(s.route, s.operation, s.scope, job.state.avoid, s.fleet, s.catalogue, s.now)


def deferred(job: Job, avoid: Mapping[str, int] = NOBODY) -> Job:
    """The job after one more wait that spends nothing, then staying away from these as well."""
    return job.with_state(job.state.deferred(avoid))


def avoiding(job: Job, avoid: Mapping[str, int]) -> Job:
    """The job staying away from these (provider or target → epoch ms) as well."""
    return job.with_state(job.state.avoiding({**job.state.avoid, **avoid}))


def starting_over(job: Job, now: int) -> Job:
    """The job ready to be tried by who failed it before; what lasts is still avoided."""
    avoid = lasting(job, now)
    return job if avoid == job.state.avoid else job.with_state(job.state.avoiding(avoid))


def lasting(job: Job, now: int) -> Mapping[str, int]:
    """What is avoided for more than a provider's failure: that is not started over."""
    return {
        name: until
        for name, until in job.state.avoid.items()
        if "/" in name or until > now + AVOID_MS
    }
