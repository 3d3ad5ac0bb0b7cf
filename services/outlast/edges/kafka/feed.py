"""The only engine: reads records, runs a stage on each, marks them done, in whatever order.

A record is done when its stage returned, and a stage returns only when what it wrote is
acknowledged. What is not done is read again by whoever owns the partition next.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from outlast.core.errors import Released
from outlast.core.progress import Start
from outlast.core.quarantine import POISON
from outlast.core.seen import Sight
from outlast.core.watermark import End
from outlast.edges.codec import Codec, Decoded, Record
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.copies import Copies, Identity, identity
from outlast.edges.kafka.patience import Patience, SetAside, Stage
from outlast.edges.kafka.room import Room
from outlast.edges.kafka.starts import Starts
from outlast.edges.kafka.writing import ended
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job

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
        is_writing: Callable[["asyncio.Task[None]"], bool],
        starts: Starts,
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
        """
        self.name = name
        self.copies = Copies()
        self._assignment = assignment
        self._codec = codec
        self._patience = Patience(name, stage, set_aside, assignment.sleep)
        self._set_aside = set_aside
        self._room = room
        self._may_start = may_start
        self._is_writing = is_writing
        self._starts = starts
        self.held: dict[TopicPartition, deque[Record]] = {}
        """What was fetched and waits for room."""
        self.running: dict[asyncio.Task[None], Record] = {}
        """By task, the record that it carries."""
        self._epoch = -1
        self._last: TopicPartition | None = None
        self._stopping = False
        self.idle_since: float | None = None
        """Since when, by the loop's clock, it asks for records and gets none."""
        self.fatal: BaseException | None = None
        assignment.lent.watch(self._returned)

    @property
    def in_flight(self) -> int:
        """How many jobs run now."""
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
            self._dispatch_held()
            wanted = self._wanted()
            if wanted:
                await self._fetch(wanted)
            else:
                self.idle_since = None
                await self._assignment.changed_within(POLL_MS / 1000)

    def _raise_fatal(self) -> None:
        failure = self.fatal or self._patience.failed or self._assignment.fatal
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

    def _dispatch_held(self) -> None:
        """One record of each partition in turn, while there is room."""
        turn = [tp for tp in self._open_partitions() if self.held.get(tp)]
        self._starts.only(turn)
        if self._last in turn:  # else the room that others leave would all be the first one's
            after = turn.index(self._last) + 1
            turn = [*turn[after:], *turn[:after]]
        while turn:
            turn = [tp for tp in turn if self._dispatch_next(tp)]

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
            self._run(tp, record, start)
        else:
            return False
        return True

    def _run(self, tp: TopicPartition, record: Record, start: Start) -> None:
        life = self._assignment.records.life(tp)
        task = asyncio.create_task(self._carry(tp, record, start, life))
        size = len(record.value or b"")
        self.running[task] = record
        self._room.enters(tp, size)
        task.add_done_callback(lambda ended: self._left(ended, tp, size))

    def _left(self, task: asyncio.Task[None], tp: TopicPartition, size: int) -> None:
        del self.running[task]
        self._room.leaves(tp, size)
        self._assignment.changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fatal = self.fatal or error

    async def _carry(self, tp: TopicPartition, record: Record, start: Start, life: int) -> None:
        """One record, from admitted to done."""
        records, offset = self._assignment.records, record.offset
        try:
            if self._starts.must_be_recorded(start):
                await records.commits.recorded(tp)
            await self._move(record, start)
        except (Released, asyncio.CancelledError) as end:
            cut = not isinstance(end, Released)
            if records.release(tp, offset, life, cut=cut):
                self._assignment.read_again(tp)
        except Exception:
            # A bug ends the feed, not the process: it must not look as if it had died over this.
            records.release(tp, offset, life)
            raise
        else:
            # After the stage returned, so after its outputs were acknowledged: the guarantee.
            records.done(tp, offset, life)
        finally:
            self._starts.ended(tp, offset)

    async def _move(self, record: Record, start: Start) -> None:
        """Return when the job's next record is acknowledged, or when it needs none."""
        decoded = self._codec.decode(record)
        who = identity(decoded.job)
        try:
            await self._set_going(decoded, await self._sight(decoded.job, who), start)
        except (Released, asyncio.CancelledError):
            self.copies.gave_up(who)
            raise
        finally:
            self.copies.ended(who)

    async def _sight(self, job: Job, who: Identity) -> Sight:
        """What the record is; a copy rests until its first, whoever has that, has ended."""
        while (first := self.copies.first_of(who)) is not None:
            async with self._starts.resting(job):
                await asyncio.wait({first})
            self.copies.check(first)
        return self.copies.look(who)

    async def _set_going(self, decoded: Decoded, sight: Sight, start: Start) -> None:
        job = decoded.job
        match sight:
            case Sight.COPY:
                log.debug("feed.copy_dropped", feed=self.name, job_id=job.id)
            case Sight.CONFLICT:
                detail = "the id was published before with another body"
                await self._set_aside(job, Reason.CONFLICT, detail)
            case Sight.NEW if start.unclean >= POISON:
                detail = f"its process died {start.unclean} times over it, the last time alone"
                log.error("feed.poison", feed=self.name, job_id=job.id, unclean=start.unclean)
                await self._set_aside(job, Reason.POISON, detail)
            case Sight.NEW:
                await self._patience.carry(job, decoded.fault)

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
        return await ended(self.running, seconds, self._is_writing)
