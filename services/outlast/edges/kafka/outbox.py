"""The way out: records to Kafka, acknowledged before anybody calls them written.

It never gives up and never raises for a stage to run again: a call that has ended is not called
again because a send was slow. While sends fail, :attr:`Outbox.is_blocked` holds the feeds back.
A send without an answer is unknown, not failed: only a refusal makes it be sent again.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from outlast.core.lifecycle import Hop, Outgoing
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Codec, Encoded
from outlast.edges.kafka import private
from outlast.edges.kafka.acks import Acks, followed
from outlast.edges.kafka.entrance import Entrance
from outlast.edges.kafka.pending import Pending
from outlast.edges.kafka.producers import Producers
from outlast.edges.kafka.said import REPEAT_SECONDS, Said
from outlast.edges.kafka.written import Written
from outlast.edges.logs import Log
from outlast_schemas.job import Job

__all__ = ["Outbox"]

log = Log(__name__)

SLOW_SECONDS: Final = 5.0
"""A send that takes longer than this is an alarm, not an error: it may still be acknowledged."""
AGAIN_SECONDS: Final = 1.0
MOST_AGAIN_SECONDS: Final = 4.0
ALARM_SECONDS: Final = 6 * REPEAT_SECONDS
APPEND_TIME: Final = 1
"""The type of a timestamp that the broker has set."""

Ack = asyncio.Future[Any]


class Outbox:
    """All that this process writes, and what is not yet acknowledged of it."""

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
        self.written = Written()
        self._codec = codec
        self._clock = clock
        self._largest = largest
        self._too_large = too_large
        self._pending = Pending()
        self._producers = Producers(build, lambda: len(self._pending))
        self._entrance = Entrance()
        self._refused = 0
        self._said = Said(log)
        self._next_look: asyncio.TimerHandle | None = None
        self._blocked_since: float | None = None
        self._alarmed_at = 0.0

    @property
    def is_blocked(self) -> bool:
        """Whether a write was refused or is slow: nothing new shall be taken meanwhile."""
        return self._refused > 0 or self.oldest_seconds > SLOW_SECONDS

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest write has not been acknowledged."""
        return self._pending.oldest_seconds

    async def start(self) -> None:
        """Connect."""
        await self._producers.start()

    async def stop(self) -> None:
        """Flush and disconnect, as far as that goes within five seconds."""
        if self._next_look is not None:
            self._next_look.cancel()
        await self._producers.stop()

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all are acknowledged, one after the other in this order."""
        for record in records:
            encoded = self._codec.encode(record, self._clock.now())
            fits = self._fits(encoded)
            for each in (record,) if fits else self._too_large(record.job):
                await self.write(encoded if fits else self._codec.encode(each, self._clock.now()))
                self.written.add(each)

    async def send_all(self, hops: Sequence[Hop], acked: Callable[[int], None]) -> None:
        """Return when all are acknowledged, in whatever order: each is of another job.

        ``acked(n)`` is called when the nth is. Together they cost half of what they cost alone.
        """
        alone = await self._sent_together(hops, acked)
        await asyncio.gather(*(self._sent_alone(n, hops[n], acked) for n in alone))

    async def _sent_alone(self, n: int, hop: Hop, acked: Callable[[int], None]) -> None:
        await self.send((hop,))
        acked(n)

    async def _sent_together(
        self, hops: Sequence[Hop], acked: Callable[[int], None]
    ) -> Sequence[int]:
        """Which of them were not taken or were refused: each of those has to go by itself."""
        producer, alone = self._producers.current, list[int]()

        def told(n: int, ack: Ack) -> None:
            if self._is_good(hops[n].topic, ack):
                self.written.add(hops[n])
                acked(n)
            else:
                alone.append(n)

        acks = Acks(told)
        ticket = self._opened(hops[0].topic, len(hops))
        try:
            taken = await self._taken(producer, hops, acks)
            await acks.all()
        except asyncio.CancelledError:
            for _ in acks.open:
                self._pending.left_behind(ticket)
            acks.told = lambda n, ack: self._answered_late(ticket, producer, hops[n].topic, ack)
            raise
        finally:
            self._pending.closed(ticket)
        if alone:
            await self._replaced(producer)
        return (*alone, *range(taken, len(hops)))

    def _is_good(self, topic: str, ack: Ack) -> bool:
        error = KafkaError("cancelled") if ack.cancelled() else ack.exception()
        if error is not None:
            self._said.error("outbox.refused", topic, error)
            return False
        self._learn(ack.result())
        return True

    async def _taken(self, producer: AIOKafkaProducer, hops: Sequence[Hop], acks: Acks) -> int:
        """How many the producer takes as some of many: all up to the first that it does not."""
        for n, hop in enumerate(hops):
            encoded = self._codec.encode(hop, self._clock.now())
            try:
                fits = self._fits(encoded)
                ack = await self._entrance.enter_among(producer, encoded) if fits else None
            except (KafkaError, TimeoutError) as error:
                self._said.error("outbox.not_taken", hop.topic, error)
                ack = None
            if ack is None:
                return n
            acks.expect(n, ack)
        return len(hops)

    def _fits(self, record: Encoded) -> bool:
        """As the client counts, and the broker: a batch of this one record, with its framing."""
        return private.batch_bytes(record.key, record.value, record.headers) <= self._largest

    async def write(self, record: Encoded) -> None:
        """Return when the record is acknowledged, however long that takes.

        Whoever is cancelled while waiting does not know whether it was written: it may be.
        """
        ticket = self._opened(record.topic)
        try:
            if not await self._tried(ticket, record):
                await self._insisted(ticket, record)
        finally:
            self._pending.closed(ticket)

    def _opened(self, topic: str, records: int = 1) -> int:
        if self._next_look is None:
            self._next_look = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._look)
        return self._pending.opened(topic, records)

    async def _insisted(self, ticket: int, record: Encoded) -> None:
        self._refused += 1
        seconds = AGAIN_SECONDS
        try:
            while True:
                await asyncio.sleep(seconds)
                if await self._tried(ticket, record):
                    return
                seconds = min(2 * seconds, MOST_AGAIN_SECONDS)
        finally:
            self._refused -= 1

    async def _tried(self, ticket: int, record: Encoded) -> bool:
        producer = self._producers.current
        try:
            ack = await self._entrance.enter(producer, record)
        except (KafkaError, TimeoutError) as error:
            # It never entered the producer: no sequence number is lost.
            self._said.error("outbox.not_taken", record.topic, error)
            if private.producer_stands_still(producer) is not None:
                await self._replaced(producer)
            return False
        return await self._is_acknowledged(ticket, producer, record.topic, ack)

    async def _is_acknowledged(
        self, ticket: int, producer: AIOKafkaProducer, topic: str, ack: Ack
    ) -> bool:
        try:
            self._learn(await self._answered(ticket, producer, topic, ack))
        except KafkaError as error:
            self._said.error("outbox.refused", topic, error)
            await self._replaced(producer)
            return False
        return True

    def _learn(self, meta: Any) -> None:
        if meta.timestamp_type == APPEND_TIME:
            self._clock.learn(meta.timestamp)

    async def _answered(self, ticket: int, producer: AIOKafkaProducer, topic: str, ack: Ack) -> Any:
        try:
            return await followed(ack)
        except asyncio.CancelledError:
            self._leave_behind(ticket, producer, topic, ack)
            raise

    def _leave_behind(self, ticket: int, producer: AIOKafkaProducer, topic: str, ack: Ack) -> None:
        """Nobody waits any more, but it is on its way, and its refusal would break the rest."""
        self._pending.left_behind(ticket)
        ack.add_done_callback(partial(self._answered_late, ticket, producer, topic))

    def _answered_late(self, ticket: int, producer: AIOKafkaProducer, topic: str, ack: Ack) -> None:
        self._pending.answered_late(ticket)
        error = None if ack.cancelled() else ack.exception()
        if error is not None:
            self._said.error("outbox.refused", topic, error)
            self._producers.rebuild_soon(producer)

    async def _replaced(self, broken: AIOKafkaProducer) -> None:
        """Return when there is another producer than this one, or none could be built."""
        rebuilding = self._producers.rebuild_soon(broken)
        if rebuilding is None:
            return
        self._refused += 1  # already now: whoever looks while it is rebuilt must take nothing new
        try:
            await asyncio.shield(rebuilding)
        finally:
            self._refused -= 1

    def _look(self) -> None:
        """The alarm: once when a write is slow, each minute while it is, and when all goes on."""
        self._next_look = None
        if self.is_blocked:
            self._alarm()
            self._producers.tend()
        elif self._blocked_since is not None:
            seconds = round(monotonic() - self._blocked_since, 1)
            log.warning("outbox.goes_on", blocked_seconds=seconds)
            self._blocked_since = None
        if self._pending:
            left = AGAIN_SECONDS if self.is_blocked else SLOW_SECONDS - self.oldest_seconds
            self._next_look = asyncio.get_running_loop().call_later(max(left, 0.1), self._look)

    def _alarm(self) -> None:
        if self._blocked_since is not None and monotonic() - self._alarmed_at < ALARM_SECONDS:
            return
        since, topic = self._pending.oldest()
        self._blocked_since = self._blocked_since or since
        self._alarmed_at = monotonic()
        seconds = round(monotonic() - since, 1)
        log.error("outbox.slow", topic=topic, seconds=seconds, records=len(self._pending))
