"""A world for the stages: fakes that keep state, and one log of what happened in which order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from outlast.core.capability import Operation
from outlast.core.choose import Fleet
from outlast.core.errors import Released
from outlast.core.lifecycle import Hop, Outgoing
from outlast.core.policy import Catalogue, Permit, Target
from outlast.core.verdict import Verdict
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Codec
from outlast.ports import ParkPorts, Ports, WorkPorts
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.dead_letter import DeadLetter
from outlast_schemas.health import BreakerWord
from outlast_schemas.job import Job
from outlast_schemas.result import Result, Served
from outlast_schemas.topics import Topics
from tests.core.given import CATALOGUE, NOW, a_fleet


async def turns(count: int = 20) -> None:
    """Let everything that can run without the outside world run."""
    for _ in range(count):
        await asyncio.sleep(0)


def told(records: Sequence[Outgoing]) -> list[str]:
    """The records in words: a topic for a hop, the reason or the status for an end."""
    words = []
    for record in records:
        match record:
            case Hop(topic, _):
                words.append(topic.removeprefix("outlast."))
            case DeadLetter(reason=reason):
                words.append(f"dead letter: {reason}")
            case Result(status=status, topic=topic):
                words.append(f"{topic.removeprefix('outlast.')}: {status}")
    return words


def a_verdict(word: VerdictWord, **more: Any) -> Verdict:
    """What a call came to; a failure speaks against the provider unless told otherwise."""
    if word is VerdictWord.SUCCEEDED:
        served = Served(body=b'{"choices":[]}', provider="deepseek", model="flash-1")
        return Verdict(word=word, **{"served": served, "status": 200, **more})
    return Verdict(word=word, **{"evidence": True, "note": "it failed", **more})


class FrozenClock(BrokerClock):
    """Stands still until it is advanced; who waits can be let go of."""

    def __init__(self, now: int = NOW, roll: float = 0.5) -> None:
        super().__init__()
        self._frozen, self._roll = now, roll
        self._changed = asyncio.Event()
        self._released = False
        self.waiting = 0

    def now(self) -> int:
        return self._frozen

    def roll(self) -> float:
        return self._roll

    async def wait_until(self, due: int) -> None:
        self.waiting += 1
        try:
            while self._frozen < due:
                if self._released:
                    raise Released
                await self._changed.wait()
        finally:
            self.waiting -= 1

    def advance(self, ms: int) -> None:
        self._frozen += ms
        self._wake()

    def let_go(self) -> None:
        self._released = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Outbox:
    """Keeps what was sent; acknowledges at once unless it is held, or has a bug."""

    def __init__(self, log: list[str]) -> None:
        self.sent: list[Outgoing] = []
        self.acknowledges = asyncio.Event()
        self.acknowledges.set()
        self.fails: Exception | None = None
        self._log = log

    async def send(self, records: Sequence[Outgoing]) -> None:
        if self.fails is not None:
            raise self.fails
        for record in records:
            self.sent.append(record)
            self._log.append(f"sent {told([record])[0]}")
            await self.acknowledges.wait()

    @property
    def told(self) -> list[str]:
        return told(self.sent)

    @property
    def hop(self) -> Hop | None:
        """The one hop that was sent; nothing where the job has ended."""
        return self.sent[0] if isinstance(self.sent[0], Hop) else None

    @property
    def job(self) -> Job:
        """The job of the last record."""
        return self.sent[-1].job


class Call:
    """Answers as scripted, one verdict a call; one call too many is an error."""

    def __init__(self, log: list[str]) -> None:
        self.script: list[Verdict | Exception] = []
        self.calls: list[tuple[Target, float]] = []
        self.bodies: list[Mapping[str, object]] = []
        self.operations: list[Operation] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.answers = asyncio.Event()
        self.answers.set()
        self._log = log

    async def __call__(
        self,
        body: Mapping[str, object],
        target: Target,
        seconds_left: float,
        operation: Operation,
    ) -> Verdict:
        self.calls.append((target, seconds_left))
        self.operations.append(operation)
        self.bodies.append(body)
        self._log.append(f"called {target}")
        await self.answers.wait()
        self.meanwhile()
        if not self.script:
            raise AssertionError("nobody expected this call")
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Pool:
    """Permits that may have to be waited for, and what was said of calls that ended."""

    def __init__(self, log: list[str], fleet: Callable[[], Fleet]) -> None:
        self.fleet = fleet
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.taken = self.held = self.waiting = 0
        self.ends: list[tuple[str, VerdictWord]] = []
        self.failed_over: list[str] = []
        self.well = self.in_budget = True
        self.suspect = False
        self.refutations: list[str] = []
        self.lets_go = False
        self._log = log

    @asynccontextmanager
    async def calling(self, job: Job, target: Target) -> AsyncIterator[Permit]:
        self.waiting += 1
        try:
            await self.has_room.wait()
        finally:
            self.waiting -= 1
        if self.lets_go:
            raise Released
        self.taken += 1
        self.held += 1
        self._log.append("permit taken")
        try:
            yield Permit(target.model)
        finally:
            self.held -= 1
            self._log.append("permit returned")

    def ended(self, permit: Permit, job_id: str, verdict: Verdict) -> None:
        self.ends.append((job_id, verdict.word))

    def failed_over_from(self, provider: str) -> None:
        self.failed_over.append(provider)

    def may_try(self, job: Job) -> bool:
        return self.in_budget

    def is_suspect(self, target: Target, verdict: Verdict) -> bool:
        return self.suspect

    def refuted(self, target: Target, note: str | None) -> None:
        self.refutations.append(f"{target}: {note}")

    def does_well(self, job_id: str) -> bool:
        return self.well


class Starts:
    """Who rests, what is known of earlier starts, and commits that may have to be waited for."""

    def __init__(self, log: list[str]) -> None:
        self.is_in_doubt = False
        self.commits = asyncio.Event()
        self.commits.set()
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._has_moved = False
        self._log = log

    @property
    def resting_now(self) -> list[str]:
        return list(self._tasks)

    @asynccontextmanager
    async def resting(self, job: Job) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[job.id] = task
        self._log.append("rests")
        try:
            yield
        except asyncio.CancelledError:
            if not self._has_moved:
                raise
            task.uncancel()
            raise Released from None
        finally:
            del self._tasks[job.id]
        if self._has_moved:
            raise Released
        self._log.append("goes on")

    def is_doubtful(self, job: Job) -> bool:
        return self.is_in_doubt

    async def recorded(self, job: Job) -> None:
        await self.commits.wait()
        if self._has_moved:
            raise Released
        self._log.append("start recorded")

    def move(self) -> None:
        """The partition goes to another process: who rests is let go of."""
        self._has_moved = True
        for task in self._tasks.values():
            task.cancel()


class Sweeps:
    """A sweep comes when it is called for."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.wanting: list[str] = []
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.changes = False
        self.staying: list[str] = []
        self.in_the_way = False
        self._again = asyncio.Event()
        self._reached = asyncio.Event()
        self._released = False

    async def wait(self, job: Job) -> None:
        self.waiting.append(job.id)
        await self._reached.wait()
        if self._released:
            raise Released

    async def room(self, job: Job, target: Target) -> bool:
        if not self.has_room.is_set():
            self.wanting.append(str(target))
        await self.has_room.wait()
        if self._released:
            raise Released
        changes, self.changes = self.changes, False
        return not changes

    def is_in_the_way(self, job: Job, target: Target | None = None) -> bool:
        return self.in_the_way

    async def stays(self, job: Job) -> bool:
        self.staying.append(job.id)
        if not self.in_the_way:
            await self._again.wait()
        if self._released:
            raise Released
        return not self.in_the_way

    def sweep(self) -> None:
        self._reached.set()
        again, self._again = self._again, asyncio.Event()
        again.set()

    def pass_over(self) -> None:
        """Others behind could leave: who has no room, or nobody to go to, is in their way."""
        self.in_the_way = True
        self.changes = True
        self.has_room.set()
        self._again.set()

    def stop(self) -> None:
        """Nobody is up any more: who waits for room waits for a sweep again."""
        self._reached.clear()
        self.changes = True
        self.has_room.set()

    def let_go(self) -> None:
        self._released = True
        self._reached.set()
        self._again.set()
        self.has_room.set()


class FleetView:
    """Who is down, as of now."""

    def __init__(self, clock: FrozenClock) -> None:
        self.down: tuple[str, ...] = ()
        self.counted: list[str] = []
        self._clock = clock

    def fleet(self) -> Fleet:
        return a_fleet(*self.down, at=self._clock.now())

    def sent(self, target: Target) -> None:
        self.counted.append(str(target))


class _Ramped:
    """The verdicts as they are, but no more may be sent to some."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def fleet(self) -> Fleet:
        fleet, full = self._world.fleet.fleet(), self._world.full
        ramping = a_fleet(*full, state=BreakerWord.RAMP, at=self._world.clock.now())
        return Fleet({**fleet.health, **ramping.health}, full=full)

    def sent(self, target: Target) -> None:
        raise AssertionError("who waits for room has it counted there")


class World:
    """All fakes of one test."""

    def __init__(self, *down: str, catalogue: Catalogue = CATALOGUE) -> None:
        self.log: list[str] = []
        self.clock = FrozenClock()
        self.outbox = Outbox(self.log)
        self.call = Call(self.log)
        self.fleet = FleetView(self.clock)
        self.pool = Pool(self.log, self.fleet.fleet)
        self.starts = Starts(self.log)
        self.sweeps = Sweeps()
        self.fleet.down = down
        self.full: tuple[str, ...] = ()
        self._catalogue = catalogue

    def _shared(self) -> dict[str, Any]:
        topics = Topics()
        return {
            "catalogue": self._catalogue,
            "topics": topics,
            "clock": self.clock,
            "outbox": self.outbox,
            "codec": Codec("cluster", topics),
            "fleet": self.fleet,
            "starts": self.starts,
        }

    def ports(self) -> Ports:
        return Ports(**self._shared())

    def work_ports(self) -> WorkPorts:
        return WorkPorts(**self._shared(), call=self.call, pool=self.pool)

    def park_ports(self) -> ParkPorts:
        return ParkPorts(**self._shared(), sweeps=self.sweeps, ramped=_Ramped(self))
