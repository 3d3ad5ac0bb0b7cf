"""Waits for the results of single jobs: one reader per partition, shared by all who wait there.

A reader follows one partition without a group. It remembers what it has read since it began, so
that whoever comes later finds a result that has just gone by; who needs what lies before that
gets a reader of its own.
"""

import asyncio
import time
from collections import OrderedDict
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner

from outlast.core.errors import KafkaUnreachable
from outlast.edges.answers import Result, header, result_of
from outlast.edges.kafka.connection import groupless_consumer
from outlast.edges.kafka.topics import require
from outlast.edges.logs import Log
from outlast.edges.settings import Kafka
from outlast_schemas.headers import STATUS

__all__ = ["Waits"]

log = Log(__name__)

SKEW_MS: Final = 10_000
"""Brokers' clocks differ: reading begins so much before the job was accepted."""
REMEMBERED_BYTES: Final = 16 * 1024 * 1024
IDLE_SECONDS: Final = 30.0
"""A reader for whom nobody waits ends after so long: the next request often comes soon."""
LOOK_SECONDS: Final = 60.0
"""How often the partitions are counted anew: a topic that has grown puts keys elsewhere."""
POLL_MS: Final = 500
CLOSED: Final = "the results cannot be read: the client was closed"
RECORD_BYTES: Final = 1_000
"""What a remembered record takes beside its body."""


class Waits:
    """All readers of one client."""

    def __init__(self, kafka: Kafka) -> None:
        """Prepare; readers begin with those who wait."""
        self._kafka = kafka
        self._readers: dict[TopicPartition, list[_Reader]] = {}
        self._counts: dict[str, dict[int, None]] = {}
        self._counted: dict[str, float] = {}
        self._counting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def result(self, topic: str, job_id: str, since: int) -> Result:
        """The result of the job, whenever it comes; of several runs the last one there is.

        Args:
            topic: the result topic.
            job_id: the job's id, by which results are keyed.
            since: epoch ms, when the job was accepted; 0 for everything there is.

        Raises:
            TopicsError: there is no such topic.
            KafkaUnreachable: it cannot be read.
        """
        key = job_id.encode()
        waiting: dict[TopicPartition, asyncio.Future[Result]] = {}
        try:
            while True:
                for tp in await self._places(topic, key):
                    if tp not in waiting:
                        # In one step: what the reader forgets or ends after this, it tells us.
                        waiting[tp] = self._reader(tp, since).expect(key)
                done, _ = await asyncio.wait(
                    waiting.values(), timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for ended in done:
                    return ended.result()
        finally:
            for future in waiting.values():
                future.cancel()

    async def close(self) -> None:
        """End all readers; whoever still waits is told so."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _places(self, topic: str, key: bytes) -> list[TopicPartition]:
        """Where this key is written: one partition, or more where the topic has grown meanwhile.

        The partitioner is that of every Kafka client, and of our producers.
        """
        async with self._counting:
            now = asyncio.get_running_loop().time()
            if now - self._counted.get(topic, -LOOK_SECONDS) >= LOOK_SECONDS:
                await self._count(topic)
                self._counted[topic] = now
        counts = [range(count) for count in self._counts[topic]]
        partitions = {DefaultPartitioner()(key, count, count) for count in counts}
        return [TopicPartition(topic, partition) for partition in partitions]

    async def _count(self, topic: str) -> None:
        try:
            found = await require(self._kafka, [topic])
        except KafkaUnreachable as error:
            if topic not in self._counts:
                raise
            log.warning("waits.not_counted", topic=topic, error=str(error))
            return  # what was counted before is good enough until the next look
        self._counts.setdefault(topic, {})[found[topic]] = None

    def _reader(self, tp: TopicPartition, since: int) -> "_Reader":
        """One that began early enough, or a new one, for all jobs of about this age."""
        if self._is_closed:
            raise KafkaUnreachable(CLOSED)
        readers = self._readers.setdefault(tp, [])
        for reader in readers:
            if reader.since <= max(0, since - SKEW_MS) and not reader.has_ended:
                return reader
        reader = _Reader(self._kafka, tp, beginning(since, int(time.time() * 1000)))
        readers.append(reader)
        task = asyncio.create_task(reader.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: readers.remove(reader))
        return reader


class _Reader:
    """Follows one partition from a point in time on; ``since`` is that time, in epoch ms."""

    def __init__(self, kafka: Kafka, tp: TopicPartition, since: int) -> None:
        self.since = since
        self.has_ended = False
        self._kafka = kafka
        self._tp = tp
        self._is_at_end = False
        self._latest: OrderedDict[bytes, Any] = OrderedDict()
        self._bytes = 0
        self._waiting: dict[bytes, list[asyncio.Future[Result]]] = {}
        self._idle_since = _now()

    def expect(self, key: bytes) -> "asyncio.Future[Result]":
        """Will be the latest result of this key; cancel it when nobody wants it any more.

        Until the end is reached as it was when reading began, a later run may still follow.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        future.add_done_callback(partial(self._let_go, key))
        if self._is_at_end:
            self._tell(key)
        return future

    def _let_go(self, key: bytes, future: "asyncio.Future[Result]") -> None:
        if not future.cancelled():
            future.exception()  # looked at: of several places only one may be
        self._waiting[key].remove(future)
        if not self._waiting[key]:
            del self._waiting[key]
        self._idle_since = _now()

    async def run(self) -> None:
        """Read until nobody has waited for a while."""
        why = CLOSED
        try:
            await self._follow()
        except KafkaError as error:
            why = f"the results cannot be read: {str(error) or type(error).__name__}"
        finally:
            self._fail(why)

    async def _follow(self) -> None:
        consumer = groupless_consumer(self._kafka, self._tp.topic)
        try:
            await consumer.start()
            consumer.unsubscribe()
            consumer.assign([self._tp])
            end = await self._sought(consumer)
            while self._is_wanted:
                if not self._is_at_end and await consumer.position(self._tp) >= end:
                    self._arrive()
                batches = await consumer.getmany(timeout_ms=POLL_MS)
                for record in batches.get(self._tp, ()):
                    self._take(record)
        finally:
            # In one step with the last look at who waits: nobody joins a reader that leaves.
            self.has_ended = True
            await consumer.stop()

    async def _sought(self, consumer: AIOKafkaConsumer) -> int:
        """Go to where the time begins; returns the end as it was before that was looked up."""
        end = (await consumer.end_offsets([self._tp]))[self._tp]
        if self.since:
            found = (await consumer.offsets_for_times({self._tp: self.since}))[self._tp]
            start = end if found is None else found.offset
        else:
            start = (await consumer.beginning_offsets([self._tp]))[self._tp]
        consumer.seek(self._tp, start)
        return int(end)

    @property
    def _is_wanted(self) -> bool:
        return bool(self._waiting) or _now() - self._idle_since < IDLE_SECONDS

    def _take(self, record: Any) -> None:
        if record.key is None or header(record.headers, STATUS) is None:
            return  # somebody else's, and no result
        self._remember(record.key, record)
        if self._is_at_end:
            self._tell(record.key)

    def _remember(self, key: bytes, record: Any) -> None:
        if (old := self._latest.pop(key, None)) is not None:
            self._bytes -= _size(old)
        self._latest[key] = record
        self._bytes += _size(record)
        while self._bytes > REMEMBERED_BYTES:
            oldest = next((each for each in self._latest if each not in self._waiting), key)
            if oldest == key:
                return
            gone = self._latest.pop(oldest)
            self._bytes -= _size(gone)
            self.since = max(self.since, gone.timestamp + 1)

    def _arrive(self) -> None:
        self._is_at_end = True
        for key in list(self._waiting):
            self._tell(key)

    def _tell(self, key: bytes) -> None:
        if key in self._waiting and (found := self._found(key)) is not None:
            for future in self._waiting[key]:
                if not future.done():
                    future.set_result(found)

    def _found(self, key: bytes) -> Result | None:
        record = self._latest.get(key)
        return None if record is None else result_of(record)

    def _fail(self, why: str) -> None:
        for future in [each for waiting in self._waiting.values() for each in waiting]:
            if not future.done():
                future.set_exception(KafkaUnreachable(why))


def beginning(since: int, now: int) -> int:
    """Where a new reader begins for a job that was accepted at ``since``; all in epoch ms.

    Up to twice as long ago, at a power of two, so that those who wait for many jobs, the oldest
    last, need a few readers and not one each.
    """
    if not since:
        return 0
    age = max(1, now - since + SKEW_MS)
    return max(0, min(since - SKEW_MS, now - (1 << (age - 1).bit_length())))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _size(record: Any) -> int:
    return len(record.value or b"") + RECORD_BYTES
