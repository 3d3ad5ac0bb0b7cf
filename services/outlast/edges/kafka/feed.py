"""The only engine: reads records, runs a stage on each, marks them done, in whatever order.

A record is done when its stage returned, and a stage returns only when what it wrote is
acknowledged. What is not done is read again by whoever owns the partition next.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from outlast.core.progress import Start
from outlast.core.watermark import End
from outlast.edges.codec import Codec, Record
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.copies import Copies
from outlast.edges.kafka.moves import Moves, Onward, SendAll, nowhere
from outlast.edges.kafka.patience import Patience, SetAside, Stage
from outlast.edges.kafka.room import Room
from outlast.edges.kafka.runs import Runs
from outlast.edges.kafka.starts import Starts
from outlast.edges.kafka.tasks import Tasks
from outlast.edges.kafka.writing import Task, ended

__all__ = ["Feed"]

log = structlog.get_logger()

POLL_MS: Final = 200
BACKOFF_SECONDS: Final = 0.5


class Feed:
    """Moves the records of some topics through one stage."""

    def __init__(
        self,
        *,
        name: str,
        assignment: Assignment,
        codec: Codec,
        stage: Stage,
        set_aside: SetAside,
        room: Room,
        may_start: Callable[[], bool],
        is_writing: Callable[[Task], bool],
        starts: Starts,
        send_all: SendAll,
        onward: Onward = nowhere,
    ) -> None:
        """Wire a feed; nothing runs until :meth:`run`.

        Args:
            name: of the stage, for the logs.
            assignment: the partitions, their trackers and their commits.
            codec: reads the records.
            stage: what is done with a job; it returns when its outputs are acknowledged.
            set_aside: dead-letters a job whose record or stage is at fault.
            room: per topic or partition, how much may be in flight.
            may_start: whether anything new may start now (the way out is free).
            is_writing: whether a task is at its last step, the writing of what its job came to.
            starts: in what company a record may start, and what is known of earlier starts.
            send_all: writes many records.
            onward: where a job goes at once, for which the stage need not run.
        """
        self.name = name
        self.copies = Copies()
        self._assignment = assignment
        self._codec = codec
        self._patience = Patience(name, stage, set_aside, assignment.sleep)
        self._room = room
        self._may_start = may_start
        self._is_writing = is_writing
        self._starts = starts
        self.held: dict[TopicPartition, deque[Record]] = {}
        """What was fetched and waits for room."""
        self._tasks = Tasks(room, assignment.changed)
        self._runs = Runs(
            name,
            assignment=assignment,
            starts=starts,
            copies=self.copies,
            patience=self._patience,
            set_aside=set_aside,
        )
        self._moves = Moves(
            assignment=assignment,
            starts=starts,
            copies=self.copies,
            tasks=self._tasks,
            onward=onward,
            send_all=send_all,
            passed=self._patience.saw_pass,
        )
        self._epoch = -1
        self._last: TopicPartition | None = None
        self._stopping = False
        self.idle_since: float | None = None
        """Since when, by the loop's clock, it asks for records and gets none."""
        assignment.lent.watch(self._returned)

    @property
    def running(self) -> Sequence[Record]:
        """The records that are under way."""
        return self._tasks.records

    @property
    def in_flight(self) -> int:
        """How many they are."""
        return len(self.running)

    @property
    def is_crowded(self) -> bool:
        """Whether records wait that there is no room for."""
        return self._room.is_crowded or self._assignment.any_full

    def wake(self) -> None:
        """Something changed that may let the feed go on."""
        self._assignment.changed.set()

    async def run(self) -> None:
        """Read and dispatch until :meth:`drain`; raises what makes going on pointless."""
        while not self._stopping:
            self._raise_fatal()
            self._assignment.changed.clear()
            self._drop_stale()
            if self._dispatch_held():
                await asyncio.sleep(0)
            elif wanted := self._wanted():
                await self._fetch(wanted)
            else:
                self.idle_since = None
                await self._assignment.changed_within(POLL_MS / 1000)

    def _raise_fatal(self) -> None:
        failure = self._tasks.failed or self._patience.failed or self._assignment.fatal
        if failure is not None:
            raise failure

    def _drop_stale(self) -> Collection[TopicPartition]:
        """After a rebalance all is read again from where it is not done.

        Returns the partitions that were sought back just now: what was fetched of them is void.
        """
        if self._epoch != self._assignment.epoch:
            self._epoch = self._assignment.epoch
            for tp in self.held:
                self._starts.stands_back(tp)
            self.held = {}
            self.copies.review(self._assignment.records)
        sought = self._assignment.sought_back()
        for tp in sought:
            self._starts.stands_back(tp)
            self.held.pop(tp, None)
        return sought

    def _wanted(self) -> list[TopicPartition]:
        """Partitions with room and nothing held; a partition that is held is not asked again."""
        return [tp for tp in self._open_partitions() if not self.held.get(tp)]

    def _open_partitions(self) -> Iterable[TopicPartition]:
        if self._stopping or not self._may_start():
            return []
        self._room.look()
        return [tp for tp in self._assignment.open_partitions() if self._room.is_in(tp)]

    async def _fetch(self, wanted: list[TopicPartition]) -> None:
        consumer = self._assignment.consumer
        try:
            fetched = await consumer.getmany(*wanted, timeout_ms=POLL_MS)
        except ConsumerStoppedError:
            self._stopping = True
            return
        except KafkaError as error:
            log.warning("feed.fetch_failed", feed=self.name, error=type(error).__name__)
            await self._assignment.changed_within(BACKOFF_SECONDS)
            return
        if fetched:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = asyncio.get_running_loop().time()
        # A rebalance may have passed meanwhile. What came from before it is recognised by its
        # offsets, not by the time of the call: one call can outlast a rebalance and bring what
        # was read after it, and whoever drops that never sees it again.
        sought = self._drop_stale()
        for tp, records in fetched.items():
            if tp in sought:
                continue  # it comes again, from where the partition was sought to
            whole = await self._assignment.without_holes(tp, records)
            if self._epoch != self._assignment.epoch:
                return  # what is left was read before the partitions were sought anew
            self.held[tp] = deque(whole)

    def _dispatch_held(self) -> bool:
        """One record of each partition in turn, while there is room; whether it has to go on."""
        turn = [tp for tp in self._open_partitions() if self.held.get(tp)]
        self._starts.only(turn)
        if self._last in turn:  # else the room that others leave would all be the first one's
            after = turn.index(self._last) + 1
            turn = [*turn[after:], *turn[:after]]
        while turn and not self._moves.is_full:
            turn = [tp for tp in turn if self._dispatch_next(tp)]
        self._moves.go()
        return bool(turn)

    def _dispatch_next(self, tp: TopicPartition) -> bool:
        """Dispatch one; false when the partition has to stand back."""
        held = self.held[tp]
        if not self._room.is_in(tp):
            return False
        if not self._assignment.records.may_admit(tp, held[0].offset):
            return False
        if not self._dispatch(tp, held[0]):
            return False
        held.popleft()
        self._last = tp
        return bool(held)

    def _dispatch(self, tp: TopicPartition, record: Record) -> bool:
        """Run it, or pass it over; false when it has to wait for others to end."""
        records, offset = self._assignment.records, record.offset
        start = records.start(tp, offset)
        if start.runner is not None:
            if start.runner != records.me:
                self.copies.lent(tp, offset, self._codec.decode(record).job)
        elif records.is_done(tp, offset):
            self.copies.remember(self._codec.decode(record).job)
        elif self._starts.may_start(tp, offset, start.unclean):
            records.admit(tp, offset)
            self._begin(tp, record, start)
        else:
            return False
        return True

    def _begin(self, tp: TopicPartition, record: Record, start: Start) -> None:
        life, decoded = self._assignment.records.life(tp), self._codec.decode(record)
        self._tasks.enters(tp, record)
        if not self._moves.takes(tp, record, decoded, start, life):
            run = self._runs.carry(tp, record, decoded, start, life)
            self._tasks.begin(run, ((tp, record),))

    def _returned(self, tp: TopicPartition, offset: int, end: End | None) -> None:
        """What another process ran came back."""
        self.copies.returned(tp, offset, is_done=end is End.DONE)

    def stop(self) -> None:
        """Take nothing new from here on."""
        self._stopping = True
        self._starts.only(())
        self.wake()

    async def drain(self, seconds: float) -> int:
        """Take nothing new, let what runs end; returns how many were cut off."""
        self.stop()
        return await ended(self._tasks.all, seconds, self._is_writing)
