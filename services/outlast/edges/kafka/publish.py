"""Publishes single records and says plainly what became of each: acknowledged, refused, unknown."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, ProducerClosed

from outlast.core.errors import PublishRefused, PublishUnknown
from outlast.core.lifecycle import Outgoing
from outlast.edges.codec import Codec, Encoded
from outlast.edges.kafka.connection import producer, unreachable
from outlast.edges.settings import Kafka

__all__ = ["JobsPublisher", "Publisher", "Sending"]

PATIENCE_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Sending:
    """A record that the producer has taken and the broker has not acknowledged yet."""

    key: bytes
    what: str
    ack: "asyncio.Future[Any]"
    by: AIOKafkaProducer
    until: float

    @property
    def is_settled(self) -> bool:
        """Whether the broker has answered, or has had its time."""
        return self.ack.done() or self.seconds_left == 0.0

    @property
    def seconds_left(self) -> float:
        """How much longer an answer is waited for."""
        return max(0.0, self.until - asyncio.get_running_loop().time())


class Publisher:
    """One idempotent producer, replaced after a refusal: it would answer nothing else for ever."""

    def __init__(self, kafka: Kafka, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Prepare; it connects with the first record."""
        self._kafka = kafka
        self._patience = patience_seconds
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether it publishes nothing any more."""
        return self._is_closed

    async def publish(self, record: Encoded, what: str) -> Any:
        """Return aiokafka's ``RecordMetadata`` once all in-sync replicas have the record.

        Args:
            record: what to write.
            what: its name in errors, such as ``job 0198…``.

        Raises:
            PublishRefused: it was not accepted.
            PublishUnknown: no answer came in time, or the cluster was not there to give one; it may
                have been accepted or still be.
            KafkaUnreachable: no broker answers; nothing was sent.
        """
        return await self.outcome(await self.begin(record, what))

    async def begin(self, record: Encoded, what: str) -> Sending:
        """Hand the record to the producer; records of one partition keep the order of the calls.

        Waits while the producer is full, for as long as for an acknowledgement. Raises
        ``PublishRefused``, ``KafkaUnreachable``.
        """
        until = asyncio.get_running_loop().time() + self._patience
        while True:
            current = self._producer or await self._started()
            if current is None or self._is_closed:
                raise PublishRefused(f"{what}: not sent, because the client was closed")
            try:
                ack = await current.send(
                    record.topic, record.value, key=record.key, headers=record.headers
                )
            except KafkaError as error:
                # It never entered the producer: no sequence number is lost, nothing to replace.
                if not self._may_enter(current, error, until):
                    raise PublishRefused(_refusal(what, error)) from error
            else:
                return Sending(record.key, what, ack, current, until)

    def _may_enter(self, refused_by: AIOKafkaProducer, error: KafkaError, until: float) -> bool:
        """Whether to try again: it was full for one request's time, or replaced meanwhile."""
        match error:
            case KafkaTimeoutError():
                return asyncio.get_running_loop().time() < until
            case ProducerClosed():
                return self._producer is not refused_by
            case _:
                return False

    async def outcome(self, sending: Sending) -> Any:
        """What became of it, as :meth:`publish` says."""
        if not sending.ack.done():
            # Waited for and never cancelled: an idempotent producer never gives a record up.
            await asyncio.wait({sending.ack}, timeout=sending.seconds_left)
        if not sending.ack.done():
            sending.ack.add_done_callback(lambda ack: self._overdue(ack, sending.by))
            raise _unknown(sending, f"no acknowledgement within {self._patience:g} s")
        try:
            return sending.ack.result()
        except KafkaError as error:
            self._retire(sending.by)
            if error.retriable:
                # The client gave it up for its age; an earlier try of it may have arrived.
                raise _unknown(sending, type(error).__name__) from error
            raise PublishRefused(_refusal(sending.what, error)) from error

    async def close(self) -> None:
        """Flush and disconnect, as far as that goes within five seconds."""
        self._is_closed = True
        async with self._starting:
            leaving, self._producer = self._producer, None
        await _ended([*self._retiring, asyncio.create_task(_stopped(leaving))])

    async def _started(self) -> AIOKafkaProducer | None:
        """The producer; none when all was closed while others started it."""
        async with self._starting:
            if self._producer is None and not self._is_closed:
                self._producer = await _connected(self._kafka)
            return self._producer

    def _overdue(self, ack: "asyncio.Future[Any]", by: AIOKafkaProducer) -> None:
        """Its caller was told that it is unknown; only a broken producer still matters."""
        if not ack.cancelled() and ack.exception() is not None:
            self._retire(by)

    def _retire(self, broken: AIOKafkaProducer) -> None:
        if self._producer is broken:
            self._producer = None
            task = asyncio.ensure_future(_stopped(broken))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)


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


async def _connected(kafka: Kafka) -> AIOKafkaProducer:
    fresh = producer(kafka)
    try:
        await fresh.start()
    except KafkaError as error:
        await fresh.stop()
        raise await unreachable(kafka, error) from error
    except BaseException:
        await fresh.stop()
        raise
    return fresh


async def _stopped(leaving: AIOKafkaProducer | None) -> None:
    if leaving is not None:
        await leaving.stop()


def _unknown(sending: Sending, why: str) -> PublishUnknown:
    return PublishUnknown(
        f"{sending.what}: {why}; it may have been accepted. Publishing it again with the same id "
        "is safe",
        sending.key.decode(),
    )


def _refusal(what: str, error: KafkaError) -> str:
    return f"{what}: {str(error) or type(error).__name__}"


async def _ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait for them a while, then cancel what is left."""
    _, stuck = await asyncio.wait(list(tasks), timeout=STOP_SECONDS)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
