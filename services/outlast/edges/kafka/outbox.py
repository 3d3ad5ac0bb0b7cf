"""The way out: records to Kafka, acknowledged before anybody calls them written.

It never gives up and never raises for a stage to run again: a call that has ended is not called
again because a send was slow. While sends fail, :attr:`Outbox.is_blocked` holds the feeds back.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from outlast.core.lifecycle import Outgoing
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Codec, Encoded
from outlast_schemas.job import Job

__all__ = ["Outbox"]

log = structlog.get_logger()

SLOW_SECONDS: Final = 5.0
"""A send that takes longer than this is an alarm, not an error: it may still be acknowledged."""
AGAIN_SECONDS: Final = 1.0


class Outbox:
    """One idempotent producer for the process, rebuilt when a refusal has broken it."""

    def __init__(
        self,
        build: Callable[[], AIOKafkaProducer],
        codec: Codec,
        clock: BrokerClock,
        *,
        largest: int,
        too_large: Callable[[Job], Sequence[Outgoing]],
    ) -> None:
        """Prepare; nothing connects yet.

        Args:
            build: makes a producer that is not yet started.
            codec: writes the records.
            clock: learns broker time from the acks.
            largest: bytes a record may have in any topic.
            too_large: what is written instead of a record above ``largest``.
        """
        self._build = build
        self._codec = codec
        self._clock = clock
        self._largest = largest
        self._too_large = too_large
        self._producer = build()
        self._rebuilding = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._refused = 0
        self._tickets = count()
        self._pending: OrderedDict[int, float] = OrderedDict()

    @property
    def is_blocked(self) -> bool:
        """Whether a write was refused or is slow: nothing new shall be taken meanwhile."""
        return self._refused > 0 or self.oldest_seconds > SLOW_SECONDS

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest send has been waiting for its ack."""
        if not self._pending:
            return 0.0
        return asyncio.get_running_loop().time() - next(iter(self._pending.values()))

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()

    async def stop(self) -> None:
        """Flush and disconnect, as far as that goes within five seconds."""
        leaving = [asyncio.ensure_future(self._producer.stop()), *self._retiring]
        _, stuck = await asyncio.wait(leaving, timeout=SLOW_SECONDS)
        for task in stuck:
            task.cancel()

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all are acknowledged, one after the other in this order."""
        for record in records:
            encoded = self._codec.encode(record, self._clock.now())
            if encoded.size <= self._largest:
                await self.write(encoded)
                continue
            for instead in self._too_large(record.job):
                await self.write(self._codec.encode(instead, self._clock.now()))

    async def write(self, record: Encoded) -> None:
        """Return when the record is acknowledged, however long that takes."""
        if await self._sent(record):
            return
        self._refused += 1
        try:
            while not await self._sent_after(AGAIN_SECONDS, record):
                continue
        finally:
            self._refused -= 1

    async def _sent_after(self, seconds: float, record: Encoded) -> bool:
        await asyncio.sleep(seconds)
        return await self._sent(record)

    async def _sent(self, record: Encoded) -> bool:
        ticket = next(self._tickets)
        self._pending[ticket] = asyncio.get_running_loop().time()
        try:
            return await self._tried(record)
        finally:
            del self._pending[ticket]

    async def _tried(self, record: Encoded) -> bool:
        producer = self._producer
        try:
            ack = await producer.send(
                record.topic, record.value, key=record.key, headers=record.headers
            )
        except KafkaError as error:
            # It never entered the producer: no sequence number is lost, nothing to rebuild.
            log.error("outbox.not_taken", topic=record.topic, error=type(error).__name__)
            return False
        try:
            meta = await ack
        except KafkaError as error:
            log.error("outbox.refused", topic=record.topic, error=type(error).__name__)
            await self._rebuild(producer)
            return False
        self._clock.learn(meta.timestamp)
        return True

    async def _rebuild(self, broken: AIOKafkaProducer) -> None:
        """After any refusal an idempotent producer answers OutOfOrderSequenceNumber for ever."""
        async with self._rebuilding:
            if self._producer is not broken:
                return
            fresh = self._build()
            try:
                await fresh.start()
            except KafkaError as error:
                log.error("outbox.unreachable", error=type(error).__name__)
                await fresh.stop()
                return
            self._producer = fresh
        log.warning("outbox.rebuilt")
        # No time limit: what is still pending in it is unknown, not failed, and is waited for.
        task = asyncio.ensure_future(broken.stop())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
