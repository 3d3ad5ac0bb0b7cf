"""What aiokafka does silently: a task dies, a rejoin never ends, nothing comes or counts any more.

Each look asks what can be seen from outside; what only a new client is known to help against ends
the process, and whoever runs it starts it again.
"""

import asyncio
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aiokafka import TopicPartition

from outlast.core.errors import WatchdogTripped
from outlast.edges.kafka import private
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.subscribers import Subscriber
from outlast.edges.logs import Log

__all__ = ["Watchdog", "watched"]

log = Log(__name__)

LOOK_SECONDS: Final = 1.0
REBALANCE_SECONDS: Final = 25.0
"""The rebalance timeout and ten seconds: without an assignment, a membership or without errors."""
COMMIT_SECONDS: Final = 60.0
COMPARE_SECONDS: Final = 10.0
BEHIND_SECONDS: Final = 30.0
"""How long nothing may come of a partition that has more."""
TWIN_SECONDS: Final = 10.0
ALONE_SECONDS: Final = 1.5
"""Who holds its partitions and was not pushed out for so long has won, or has no twin any more."""
TWIN_ASSIGNMENTS: Final = 3
"""More than so many of one generation, or under so many names, in that time: that is no rebalance.

Two members of one instance id push each other out of the group for ever.
"""


async def watched(name: str, subscriber: Subscriber) -> None:
    """Look at a subscriber without a feed. Raises ``WatchdogTripped`` when it stands still."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        dead = private.stands_still(subscriber.consumer) if subscriber.is_started else None
        if dead is not None:
            raise WatchdogTripped(f"{name}: the Kafka client's {dead} task has ended")


class Watchdog:
    """Looks at one feed's consumer every second, and every ten where its partitions end."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        instance: str | None = None,
        generations: Iterable[tuple[float, int]] = (),
        idle_since: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Watch this one.

        Args:
            assignment: of the feed.
            instance: the id by which the group knows this member.
            generations: loop time and generation of the last assignments; it is read live.
            idle_since: since when, by the loop's time, the feed asks and gets nothing; ``None``
                while it does not ask or gets some.
        """
        self._assignment = assignment
        self._instance = instance
        self._generations = generations
        self._idle_since = idle_since
        self._strange_since: float | None = None
        self._failing_since: float | None = None
        self._error: str | None = None
        self._member = ""
        self._renamed: deque[float] = deque(maxlen=2 * TWIN_ASSIGNMENTS)
        self._fenced: deque[float] = deque(maxlen=2 * TWIN_ASSIGNMENTS)
        self._began = _now()
        self._pushed_since: float | None = None
        self._silence: str | None = None
        self._still: dict[TopicPartition, tuple[int | None, float]] = {}

    async def run(self) -> None:
        """Return never; raises ``WatchdogTripped`` when only a restart is known to help."""
        comparing = asyncio.ensure_future(self._compare())
        try:
            while not comparing.done():
                await asyncio.sleep(LOOK_SECONDS)
                if (trouble := self._trouble(_now())) is not None:
                    raise WatchdogTripped(f"{self._assignment.name}: {trouble}")
            await comparing
        finally:
            comparing.cancel()
            await asyncio.wait({comparing})

    def _trouble(self, now: float) -> str | None:
        dead = private.stands_still(self._assignment.consumer)
        if dead is not None:
            return f"the Kafka client's {dead} task has ended"
        return (
            self._twin(now)
            or self._failing(now)
            or self._without_assignment(now)
            or self._no_member(now)
            or self._uncommitted()
            or self._silence
        )

    def _without_assignment(self, now: float) -> str | None:
        since = self._assignment.closed_since
        if since is None or now - since <= REBALANCE_SECONDS:
            return None
        why = "" if self._error is None else f"; the last error was {self._error}"
        return f"no partitions were assigned within {REBALANCE_SECONDS:.0f} s{why}"

    def _uncommitted(self) -> str | None:
        if self._assignment.commits.behind_seconds <= COMMIT_SECONDS:
            return None
        return f"no commit was acknowledged for {COMMIT_SECONDS:.0f} s"

    def _twin(self, now: float) -> str | None:
        """Two members of one instance id take it from each other, until one of them gives up."""
        member = private.member_id(self._assignment.consumer)
        if member and member != self._member:
            self._member = member
            self._renamed.append(now)
        recent = Counter(
            number for at, number in self._generations if now - at <= TWIN_SECONDS and number >= 0
        )
        names = sum(now - at <= TWIN_SECONDS for at in self._renamed)
        most = max(names, *recent.values(), 0)
        if most <= TWIN_ASSIGNMENTS:
            self._pushed_since = None  # another time is another twin
            return None
        if not self._is_its_turn(now):
            return None
        return f"it had to join {most} times within {TWIN_SECONDS:.0f} s: {self._twin_said()}"

    def _is_its_turn(self, now: float) -> bool:
        """Of two twins the one that was shut out goes, else the younger; who is alone stays."""
        joined = max((*(at for at, _ in self._generations), *self._renamed), default=now)
        if self._assignment.closed_since is None and now - joined > ALONE_SECONDS:
            self._pushed_since = now
            return False
        if self._pushed_since is None:
            self._pushed_since = now
        is_young = now - self._began < TWIN_SECONDS
        wait = zlib.crc32(self._assignment.lent.me.encode()) % 3 * 2 + (2 if is_young else 8)
        return now - self._pushed_since >= wait

    def _twin_said(self) -> str:
        return (
            "another process "
            f"seems to have the same instance id, {self._instance!r}. It is OUTLAST_INSTANCE_ID, "
            "or else the host's name with the number of a slot; give each process its own"
        )

    def _failing(self, now: float) -> str | None:
        """An error for which the coordinator stands still: taking it lets it try again."""
        error = private.take_error(self._assignment.consumer)
        if error is None:
            self._failing_since = None
            return None
        self._error = repr(error)[:300]
        log.warning("feed.coordination_failed", feed=self._assignment.name, error=self._error)
        if self._failing_since is None:
            self._failing_since = now
        # FENCED_INSTANCE_ID (82), of which aiokafka 0.14 knows neither the number nor the name.
        if "UnknownError" in self._error:
            self._fenced.append(now)
        if sum(now - at <= REBALANCE_SECONDS for at in self._fenced) > TWIN_ASSIGNMENTS:
            return f"the group has shut it out: {self._twin_said()}"
        if now - self._failing_since <= REBALANCE_SECONDS:
            return None
        return (
            f"for {REBALANCE_SECONDS:.0f} s the group answered member {self._instance!r} "
            f"with errors only: {self._error}"
        )

    def _no_member(self, now: float) -> str | None:
        if private.generation(self._assignment.consumer) >= 0:
            self._strange_since = None
        elif self._strange_since is None:
            self._strange_since = now
        elif now - self._strange_since > REBALANCE_SECONDS:
            return f"it has been no member of its group for {REBALANCE_SECONDS:.0f} s"
        return None

    async def _compare(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            ends = await self._assignment.ends()
            if self._assignment.closed_since is not None:
                ends = {}  # it tells of another assignment
            self._silence = self._silent(ends, _now())

    def _silent(self, ends: Mapping[TopicPartition, int], now: float) -> str | None:
        """Which partition has more, of which nothing came since several looks ago."""
        self._still = {
            tp: each for tp, end in ends.items() if (each := self._stands(tp, end, now)) is not None
        }
        for tp, (position, since) in self._still.items():
            if now - since >= BEHIND_SECONDS:
                return (
                    f"{tp.topic}/{tp.partition} was read to offset {position} of {ends[tp]}, "
                    f"and nothing came of it for {BEHIND_SECONDS:.0f} s"
                )
        return None

    def _stands(self, tp: TopicPartition, end: int, now: float) -> tuple[int | None, float] | None:
        """Where it stands and since when; nothing when it moves, or nothing is missing."""
        consumer = self._assignment.consumer
        position = private.position(consumer, tp)
        if position is not None and position >= end:
            return None
        idle = self._idle_since()
        if private.is_buffered(consumer, tp) and (idle is None or now - idle < COMPARE_SECONDS):
            return None  # it came; the feed has no room for it yet
        before = self._still.get(tp)
        return before if before is not None and before[0] == position else (position, now)


def _now() -> float:
    return asyncio.get_running_loop().time()
