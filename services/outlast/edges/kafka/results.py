"""Reads a topic of results as a member of a group: each result once, as far as one can remember.

It owns partitions as a feed does (:mod:`.assignment`): what is acknowledged may be so in any
order, and a restart, or whoever takes a partition over, reads exactly what was not.
"""

import asyncio
import contextlib
from collections import deque
from functools import partial
from typing import Any, Final, Literal
from uuid import getnode

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from outlast.core.errors import KafkaUnreachable, WatchdogTripped
from outlast.core.seen import Seen, Sight
from outlast.edges.answers import Result, acknowledged_by, result_of
from outlast.edges.clock import BrokerClock
from outlast.edges.kafka import private
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.clients import Consumer
from outlast.edges.kafka.connection import addresses, connect, fetch_bytes
from outlast.edges.kafka.topics import require
from outlast.edges.logs import Log
from outlast.edges.settings import Kafka
from outlast.edges.slot import Slot

__all__ = ["Ack", "ResultStream"]

log = Log(__name__)

Ack = Literal["auto", "manual"]

POLL_MS: Final = 500
AT_ONCE: Final = 500
FLUSH_SECONDS: Final = 5.0
JOINING_SECONDS: Final = 1.0
BEHIND_SECONDS: Final = 0.2
"""What is committed may be so far behind before the next result waits for it, as long again."""
SESSION_MS: Final = 30_000
REBALANCE_MS: Final = 15_000
REQUEST_MS: Final = 20_000
"""Above the rebalance timeout, because aiokafka applies it to JoinGroup too."""
A_DAY_MS: Final = 86_400_000


class ResultStream:
    """An async iterator of results.

    With ``auto``, asking for the next one acknowledges the one before. What was acknowledged is
    committed every 50 ms and at the end; what was not comes again, here or at another member.
    """

    def __init__(self, kafka: Kafka, topic: str, group: str, *, ack: Ack = "auto") -> None:
        """Prepare; it joins the group with the first result that is asked for."""
        self._kafka = kafka
        self._topic = topic
        self._group = group
        self._is_auto = ack == "auto"
        self._consumer: AIOKafkaConsumer | None = None
        self._slot: Slot | None = None
        self._assignment = Assignment(
            name="results",
            consumer=self._connected,
            clock=BrokerClock(),
            begin_at="earliest",
            look_back_ms=0,
        )
        self._held: dict[TopicPartition, deque[Any]] = {}
        self._handed_out: set[tuple[TopicPartition, int, int]] = set()
        self._epoch = -1
        self._seen = Seen()
        self._given: Result | None = None
        self._joining: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._is_closed

    def __aiter__(self) -> "ResultStream":
        """Itself."""
        return self

    async def __anext__(self) -> Result:
        """The next result, whenever it comes.

        Raises ``TopicsError`` when the topic is missing, ``KafkaUnreachable`` when it cannot be
        read, ``WatchdogTripped`` when the client library stands still.
        """
        if self._is_auto and self._given is not None:
            await self._given.ack()
            self._given = None
        await self._join()
        await self._let_others_run()
        while not self._is_closed:
            self._drop_stale()
            while (record := self._next_held()) is not None:
                if (result := self._admitted(record)) is not None:
                    self._given = result
                    return result
            await self._fetch()
        raise StopAsyncIteration

    async def __aenter__(self) -> "ResultStream":
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """As :meth:`aclose`."""
        await self.aclose()

    async def aclose(self) -> None:
        """Commit what was acknowledged and leave the group."""
        if self._is_closed:
            return
        self._is_closed = True
        self._assignment.changed.set()
        if (joining := self._joining) is not None:
            # Connections that are cut off while they are made would stay open.
            await asyncio.wait({joining}, timeout=JOINING_SECONDS)
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)
        if self._consumer is not None:
            await self._assignment.commits.flush(FLUSH_SECONDS)
            await self._leave(self._consumer)
        if self._slot is not None:
            self._slot.release()

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        if self._committing is not None:
            self._committing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._committing
        self._assignment.commits.closed()
        private.forget_instance(consumer)
        await consumer.stop()

    def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("it has not joined yet")
        return self._consumer

    async def _join(self) -> None:
        """Join once: whoever is cancelled while it takes its time finds it done the next time."""
        if self._committing is not None or self._is_closed:
            return
        if self._joining is None:
            self._joining = asyncio.create_task(self._joined())
        joining = self._joining
        await asyncio.wait({joining})
        self._joining = None
        if not joining.cancelled():
            joining.result()

    async def _joined(self) -> None:
        await require(self._kafka, [self._topic])
        if self._slot is None:
            self._slot = _slot(f"{(await connect(self._kafka)).id}.{self._group}")
        self._consumer = consumer = _consumer(self._kafka, self._group, _instance(self._slot))
        consumer.subscribe([self._topic], listener=self._assignment)
        try:
            await consumer.start()
        except BaseException as error:
            private.forget_instance(consumer)
            await consumer.stop()
            self._consumer = None
            if isinstance(error, KafkaError):
                raise KafkaUnreachable(f"the results cannot be read: {error}") from error
            raise
        self._committing = asyncio.create_task(self._assignment.commits.run())

    async def _let_others_run(self) -> None:
        """Commits and heartbeats have no other turn when results are handled without an await."""
        commits = self._assignment.commits
        await asyncio.sleep(0)
        if commits.behind_seconds > BEHIND_SECONDS:
            await commits.once(BEHIND_SECONDS)

    def _drop_stale(self) -> None:
        """After a rebalance all is read again from where it is not done."""
        if self._epoch != self._assignment.epoch:
            self._epoch = self._assignment.epoch
            self._held.clear()

    def _next_held(self) -> Any | None:
        """A fetched record of a partition that has room for one more that is not acknowledged.

        None while nothing may start, because a crash now would repeat too much.
        """
        if not self._assignment.is_open:
            return None
        for tp, records in self._held.items():
            if self._assignment.records.may_admit(tp, records[0].offset):
                record = records.popleft()
                if not records:
                    del self._held[tp]
                return record
        return None

    async def _fetch(self) -> None:
        """Wait for records, or for a change that may let some through."""
        self._raise_fatal()
        self._assignment.changed.clear()
        wanted = [tp for tp in self._assignment.open_partitions() if tp not in self._held]
        if not wanted:
            # It is getmany that hears of it else, and the coordinator waits until somebody does.
            if (error := private.take_error(self._connected())) is not None:
                log.warning("results.coordination_failed", error=repr(error)[:300])
            await self._assignment.changed_within(POLL_MS / 1000)
            return
        try:
            batches = await self._connected().getmany(
                *wanted, timeout_ms=POLL_MS, max_records=AT_ONCE
            )
        except ConsumerStoppedError:
            return  # closed while somebody waited for the next result
        except KafkaError as error:
            log.warning("results.fetch_failed", error=type(error).__name__)
            await self._assignment.changed_within(POLL_MS / 1000)
            return
        self._drop_stale()
        for tp, records in batches.items():
            whole = await self._assignment.without_holes(tp, records)
            if self._epoch != self._assignment.epoch:
                return  # what is left was read before the partitions were sought anew
            if whole:
                self._held[tp] = deque(whole)

    def _raise_fatal(self) -> None:
        if self._assignment.fatal is not None:
            raise self._assignment.fatal
        if (dead := private.stands_still(self._connected())) is not None and not self._is_closed:
            raise WatchdogTripped(f"results: the Kafka client's {dead} task has ended")

    def _admitted(self, record: Any) -> Result | None:
        """The result to hand out, unless it is done, under way here, or a repeat of one."""
        tp, offset = TopicPartition(record.topic, record.partition), record.offset
        records = self._assignment.records
        if records.is_done(tp, offset) or not records.admit(tp, offset):
            return None
        life = records.life(tp)
        result = result_of(record)
        if result is None:
            log.warning("results.foreign_record", partition=tp.partition, offset=offset)
        elif self._is_new(result, record):
            self._handed_out.add((tp, offset, life))
            return acknowledged_by(result, partial(self._acknowledge, tp, offset, life))
        records.done(tp, offset, life)
        return None

    def _is_new(self, result: Result, record: Any) -> bool:
        key = (result.job_id, result.replays, 0)
        place = (record.topic, record.partition, record.offset)
        return self._seen.look(key, place) is Sight.NEW

    def _acknowledge(self, tp: TopicPartition, offset: int, life: int) -> None:
        if (tp, offset, life) in self._handed_out and not self._is_closed:
            self._handed_out.remove((tp, offset, life))
            self._assignment.records.done(tp, offset, life)
            self._assignment.changed.set()


def _slot(group: str) -> Slot | None:
    """A place of its own on this host, where that can be locked."""
    try:
        return Slot.take(group, None)
    except OSError:
        return None


def _instance(slot: Slot | None) -> str | None:
    """Of a static member: killed and started again, it has its partitions back at once.

    The hardware address tells two hosts of one name apart.
    """
    return None if slot is None else f"{slot.name}-{getnode():x}"


def _consumer(kafka: Kafka, group: str, instance: str | None) -> AIOKafkaConsumer:
    return Consumer(
        **addresses(kafka),
        group_id=group,
        group_instance_id=instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=fetch_bytes(kafka),
        request_timeout_ms=REQUEST_MS,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=1_000,
        rebalance_timeout_ms=REBALANCE_MS,
        max_poll_interval_ms=A_DAY_MS,
    )
