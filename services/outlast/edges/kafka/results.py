"""Reads a topic of results as a member of a group: each result once, as far as one can remember."""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from outlast.core.errors import KafkaUnreachable
from outlast.edges.answers import Result, result_of
from outlast.edges.kafka import private
from outlast.edges.kafka.connection import addresses, fetch_bytes
from outlast.edges.kafka.topics import require
from outlast.edges.settings import Kafka

__all__ = ["ResultStream"]

log = structlog.get_logger()

REMEMBERED: Final = 100_000
"""Runs remembered, to drop repeats that a crash on the other side wrote."""
COMMIT_SECONDS: Final = 1.0
AT_ONCE: Final = 500


class ResultStream(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """An async iterator of results; asking for the next one acknowledges the one before.

    What was acknowledged is committed every second and at the end; what was not comes again.
    """

    def __init__(self, kafka: Kafka, topic: str, group: str) -> None:
        """Prepare; it joins the group with the first result that is asked for."""
        self._kafka = kafka
        self._topic = topic
        self._consumer = AIOKafkaConsumer(
            **addresses(kafka),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=fetch_bytes(kafka),
            max_poll_interval_ms=86_400_000,
        )
        self._buffer: deque[Any] = deque()
        self._given: tuple[TopicPartition, int] | None = None
        self._acknowledged: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._ticking: asyncio.Task[None] | None = None
        self._is_closed = False

    def __aiter__(self) -> "ResultStream":
        """Itself."""
        return self

    async def __anext__(self) -> Result:
        """Acknowledge the last result and return the next one, whenever it comes."""
        self._acknowledge_given()
        await self._join()
        while not self._is_closed:
            while self._buffer:
                record = self._buffer.popleft()
                self._given = (TopicPartition(record.topic, record.partition), record.offset)
                if (result := self._new(record)) is not None:
                    return result
                self._acknowledge_given()
            await self._fetch()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Commit what was acknowledged and leave the group."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
            await self._commit()
        await self._consumer.stop()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Commit, and forget what was fetched: whoever owns the partitions next reads it."""
        await self._commit()
        self._buffer.clear()
        self._given = None
        self._acknowledged.clear()
        self._committed.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing to do: aiokafka reads on from what is committed."""

    async def _join(self) -> None:
        if self._ticking is not None or self._is_closed:
            return
        await require(self._kafka, [self._topic])
        self._consumer.subscribe([self._topic], listener=self)
        try:
            await self._consumer.start()
        except KafkaError as error:
            raise KafkaUnreachable(f"the results cannot be read: {error}") from error
        self._ticking = asyncio.create_task(self._tick())

    async def _fetch(self) -> None:
        try:
            batches = await self._consumer.getmany(timeout_ms=500, max_records=AT_ONCE)
        except ConsumerStoppedError:
            return  # closed while somebody waited for the next result
        for records in batches.values():
            self._buffer.extend(records)

    def _new(self, record: Any) -> Result | None:
        result = result_of(record)
        if result is None:
            log.warning("results.foreign_record", partition=record.partition, offset=record.offset)
            return None
        run = (result.job_id, result.replays)
        if run in self._seen:
            return None
        self._seen[run] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return result

    def _acknowledge_given(self) -> None:
        if self._given is not None:
            tp, offset = self._given
            self._acknowledged[tp] = offset + 1
            self._given = None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self._commit()

    async def _commit(self) -> None:
        """One request, and never as an outsider: that could rewind the group's next member."""
        assigned = self._consumer.assignment()
        news = {
            tp: offset
            for tp, offset in self._acknowledged.items()
            if tp in assigned and self._committed.get(tp) != offset
        }
        if not news or private.generation(self._consumer) < 0:
            return
        try:
            await private.commit(self._consumer, {tp: (o, "") for tp, o in news.items()})
        except KafkaError as error:
            log.warning("results.commit_failed", error=type(error).__name__)
        else:
            self._committed.update(news)
