"""What the stages need of the world, as protocols; :mod:`outlast.edges` fulfils them."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from outlast.core.admission import Fault
from outlast.core.capability import Operation
from outlast.core.choose import Fleet
from outlast.core.decide import View
from outlast.core.lifecycle import Outgoing
from outlast.core.policy import Catalogue, Permit, Target
from outlast.core.verdict import Verdict
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.health import Health
from outlast_schemas.job import Job
from outlast_schemas.result import Status
from outlast_schemas.topics import Topics

__all__ = [
    "Archive",
    "Call",
    "Clock",
    "Codec",
    "EndedRun",
    "FleetView",
    "HealthPorts",
    "Open",
    "Outbox",
    "ParkPorts",
    "Pool",
    "Ports",
    "Starts",
    "Sweeps",
    "Verdicts",
    "WorkPorts",
]


class Clock(Protocol):
    """Broker time and dice."""

    def now(self) -> int:
        """Epoch milliseconds on the broker's clock."""
        ...

    def roll(self) -> float:
        """A number from 0 up to, not including, 1."""
        ...

    async def wait_until(self, due: int) -> None:
        """Return at ``due`` (epoch ms). Raises ``Released`` when the stage is asked to let go."""
        ...


class Starts(Protocol):
    """What is known, and made known, of the work on a record."""

    def resting(self, job: Job) -> AbstractAsyncContextManager[None]:
        """A context in which the job waits for its time: nobody works on it meanwhile.

        It moves with its partition at once: then the context ends with ``Released``.
        """
        ...

    def is_doubtful(self, job: Job) -> bool:
        """Whether an earlier start of it may have been a call whose end nobody knows."""
        ...

    async def recorded(self, job: Job) -> None:
        """Return when the start is committed: whatever dies, it will be known.

        Raises ``Released`` when the partition moved away before.
        """
        ...


class Outbox(Protocol):
    """The way out: records to Kafka."""

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all are acknowledged, in order; never gives up, never raises to re-run."""
        ...


class Codec(Protocol):
    """Bytes to values, where a stage needs to look inside."""

    def body(self, job: Job) -> object | Fault:
        """The parsed body, or the fault that it is no JSON."""
        ...


class Call(Protocol):
    """One HTTP call of a provider, and what it came to."""

    async def __call__(
        self,
        body: Mapping[str, object],
        target: Target,
        seconds_left: float,
        operation: Operation,
    ) -> Verdict:
        """Call once, never again; ``seconds_left`` until the job's deadline cuts the call."""
        ...


class Pool(Protocol):
    """This process's part of a provider's pool."""

    def fleet(self) -> Fleet:
        """The fleet's verdicts, and what this process itself has just found out."""
        ...

    def may_try(self, job: Job) -> bool:
        """Whether the retry budget has room, where this provider has failed the job before."""
        ...

    def calling(self, job: Job, target: Target) -> AbstractAsyncContextManager[Permit]:
        """Hold one of the pool's permits for as long as the context lasts.

        While the job waits for it, it rests; where the target is found down meanwhile it waits no
        longer. Raises ``Released`` when it is not to wait any more.
        """
        ...

    def ended(self, permit: Permit, job_id: str, verdict: Verdict) -> None:
        """A call ended; what it says of the provider goes into the vitals."""
        ...

    def failed_over_from(self, provider: str) -> None:
        """A job is called here for the first time that would have gone to that provider first."""
        ...

    def is_suspect(self, target: Target, verdict: Verdict) -> bool:
        """Whether so many different jobs were rejected in these words that they may be good."""
        ...

    def refuted(self, target: Target, note: str | None) -> None:
        """A job was served here that this target, of another provider, had just rejected."""
        ...

    def does_well(self, job_id: str) -> bool:
        """Whether the provider does well with *other* jobs: under 10 % of their calls failed."""
        ...


class Sweeps(Protocol):
    """When parked jobs are looked at again."""

    async def wait(self, job: Job) -> None:
        """Return when a sweep covers the job, or its deadline passes. Raises ``Released``."""
        ...

    async def room(self, job: Job, target: Target) -> bool:
        """Whether the target has room, which is the job's then; ``False``: decide anew.

        Returns when there is room, the verdicts change, the deadline passes or the job has come to
        stand in the way. Raises ``Released``.
        """
        ...

    def is_in_the_way(self, job: Job, target: Target | None = None) -> bool:
        """Whether it keeps others from leaving that could; ``target``: the one it waits for."""
        ...

    async def stays(self, job: Job) -> bool:
        """Whether it may stay where it is: ``True`` when the next sweep covers it.

        ``True`` also when its deadline passes; ``False`` as soon as it stands in the way. Raises
        ``Released``.
        """
        ...


class Verdicts(Protocol):
    """Where health writes."""

    async def publish(self, health: Health) -> None:
        """Write a provider's verdict to the fleet."""
        ...


class FleetView(Protocol):
    """The latest verdicts this process has read."""

    def fleet(self) -> Fleet:
        """What is known now."""
        ...

    def sent(self, target: Target) -> None:
        """A job was sent there: it counts where that provider is trusted only step by step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What route, retry and park need."""

    catalogue: Catalogue
    topics: Topics
    clock: Clock
    outbox: Outbox
    codec: Codec
    fleet: FleetView
    starts: Starts

    def view(self) -> View:
        """The world at this moment, for a decision."""
        return View(
            catalogue=self.catalogue,
            fleet=self.fleet.fleet(),
            now=self.clock.now(),
            roll=self.clock.roll(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkPorts(Ports):
    """What work needs beside."""

    call: Call
    pool: Pool

    def view(self) -> View:
        """The world at this moment, with what the pool itself has found out."""
        return View(
            catalogue=self.catalogue,
            fleet=self.pool.fleet(),
            now=self.clock.now(),
            roll=self.clock.roll(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkPorts(Ports):
    """What park needs beside; ``ramped``: the fleet without whom no more may be sent just now."""

    sweeps: Sweeps
    ramped: FleetView


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A result as an operator's tool reads it back."""

    job_id: str
    replays: int
    status: Status
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A record that is not done: where a job lives now."""

    job_id: str
    replays: int
    topic: str


class Archive(Protocol):
    """All topics, read without a group, for replay and audit."""

    def accepted(self) -> AsyncIterator[Job]:
        """Every record of the jobs topic, decoded."""
        ...

    def ended(self) -> AsyncIterator[EndedRun]:
        """Every record of all result topics."""
        ...

    def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """Every dead letter, oldest first in each partition."""
        ...

    def open(self) -> AsyncIterator[Open]:
        """Every record that no stage has done yet, in any topic a stage reads."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPorts:
    """What health needs."""

    clock: Clock
    verdicts: Verdicts
    known: Callable[[str], Health | None]
