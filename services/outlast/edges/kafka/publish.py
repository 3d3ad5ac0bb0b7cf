"""Publishes single records and says plainly what became of each: acknowledged, refused, unknown."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from outlast.core.errors import PublishRefused, PublishUnknown
from outlast.core.lifecycle import Outgoing
from outlast.edges.codec import Codec, Encoded
from outlast.edges.kafka.connection import producer
from outlast.edges.settings import Kafka

__all__ = ["JobsPublisher", "Publisher"]

PATIENCE_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0


class Publisher:
    """One idempotent producer, replaced after a refusal: it would answer nothing else for ever."""

    def __init__(self, kafka: Kafka, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Prepare; it connects with the first record."""
        self._kafka = kafka
        self._patience = patience_seconds
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._overdue: set[asyncio.Task[Any]] = set()

    async def publish(self, record: Encoded, what: str) -> Any:
        """Return aiokafka's ``RecordMetadata`` once all in-sync replicas have the record.

        Args:
            record: what to write.
            what: its name in errors, such as ``job 0198…``.

        Raises:
            PublishRefused: it was not accepted.
            PublishUnknown: no answer came in time; it may have been accepted or still be.
        """
        sending = asyncio.create_task(self._sent(record))
        try:
            # An idempotent producer never gives a record up: cancelling would unsend nothing.
            return await asyncio.wait_for(asyncio.shield(sending), self._patience)
        except TimeoutError:
            self._overdue.add(sending)
            sending.add_done_callback(self._forget)
            raise PublishUnknown(
                f"{what}: no acknowledgement within {self._patience:g} s; it may have been "
                "accepted. Publishing it again with the same id is safe",
                (record.key or b"").decode(),
            ) from None
        except KafkaError as error:
            raise PublishRefused(f"{what}: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        """Flush and disconnect, as far as that goes within five seconds."""
        await _ended(self._overdue)
        await _ended([*self._retiring, asyncio.create_task(self._stopped(self._producer))])

    async def _sent(self, record: Encoded) -> Any:
        current = await self._started()
        ack: Awaitable[Any] = await current.send(
            record.topic, record.value, key=record.key, headers=record.headers
        )
        try:
            return await ack
        except KafkaTimeoutError:
            raise
        except KafkaError:
            self._retire(current)
            raise

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                fresh = producer(self._kafka)
                try:
                    await fresh.start()
                except BaseException:
                    await fresh.stop()
                    raise
                self._producer = fresh
            return self._producer

    def _retire(self, broken: AIOKafkaProducer) -> None:
        if self._producer is broken:
            self._producer = None
            task = asyncio.create_task(self._stopped(broken))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def _forget(self, sending: asyncio.Task[Any]) -> None:
        """Its caller was told that it is unknown; what comes of it now concerns nobody."""
        self._overdue.discard(sending)
        if not sending.cancelled():
            sending.exception()

    async def _stopped(self, leaving: AIOKafkaProducer | None) -> None:
        if leaving is not None:
            await leaving.stop()


class JobsPublisher:
    """The way out that replay needs: what it cannot write, it raises."""

    def __init__(self, publisher: Publisher, codec: Codec) -> None:
        """Write through ``publisher``, in the form of ``codec``."""
        self._publisher = publisher
        self._codec = codec

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all are acknowledged, in order; raises as :meth:`Publisher.publish`."""
        for record in records:
            encoded = self._codec.encode(record, now=0)
            await self._publisher.publish(encoded, f"job {record.job.id}")


async def _ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait for them a while, then cancel what is left."""
    waiting = list(tasks)
    if not waiting:
        return
    _, stuck = await asyncio.wait(waiting, timeout=STOP_SECONDS)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
