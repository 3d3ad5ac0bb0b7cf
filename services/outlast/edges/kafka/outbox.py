"""The way out: records to Kafka, acknowledged before anybody calls them written.

It never gives up and never raises for a stage to run again: a call that has ended is not called
again because a send was slow. While sends fail, :attr:`Outbox.is_blocked` holds the feeds back.
A send without an answer is unknown, not failed: only a refusal makes it be sent again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from time import monotonic
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from outlast.core.lifecycle import Outgoing
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Codec, Encoded
from outlast.edges.kafka import private
from outlast.edges.kafka.ack import followed
from outlast.edges.kafka.entrance import Entrance
from outlast.edges.kafka.written import Written
from outlast.edges.logs import Log
from outlast_schemas.job import Job

__all__ = ["Outbox"]

log = Log(__name__)

SLOW_SECONDS: Final = 5.0
"""A send that takes longer than this is an alarm, not an error: it may still be acknowledged."""
AGAIN_SECONDS: Final = 1.0
MOST_AGAIN_SECONDS: Final = 4.0
REBUILD_SECONDS: Final = 30.0
"""A producer that starts asks one broker after the other, eight seconds each: then it is said."""
REPEAT_SECONDS: Final = 10.0
"""The same refusal of a topic is said once in so many seconds, the alarm in six times that."""
APPEND_TIME: Final = 1
"""The type of a timestamp that the broker has set."""


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
        self.written = Written()
        self._build = build
        self._codec = codec
        self._clock = clock
        self._largest = largest
        self._too_large = too_large
        self._producer = build()
        self._entrance = Entrance()
        self._rebuilding: asyncio.Task[None] | None = None
        self._retiring: dict[asyncio.Task[None], AIOKafkaProducer] = {}
        self._refused = 0
        self._tickets = count()
        self._pending: OrderedDict[int, tuple[float, str]] = OrderedDict()
        self._left_behind: set[int] = set()
        self._next_look: asyncio.TimerHandle | None = None
        self._blocked_since: float | None = None
        self._alarmed_at = 0.0
        self._said: dict[tuple[str, str, str], tuple[float, int]] = {}

    @property
    def is_blocked(self) -> bool:
        """Whether a write was refused or is slow: nothing new shall be taken meanwhile."""
        return self._refused > 0 or self.oldest_seconds > SLOW_SECONDS

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest write has not been acknowledged."""
        return monotonic() - self._oldest()[0] if self._pending else 0.0

    def _oldest(self) -> tuple[float, str]:
        return next(iter(self._pending.values()))

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()

    async def stop(self) -> None:
        """Flush and disconnect, as far as that goes within five seconds."""
        if self._next_look is not None:
            self._next_look.cancel()
        if self._rebuilding is not None and not self._rebuilding.done():
            self._rebuilding.cancel()
            await asyncio.wait({self._rebuilding})
        self._retire(self._producer)
        await asyncio.wait(set(self._retiring), timeout=SLOW_SECONDS)
        stuck = dict(self._retiring)
        if stuck:
            log.error("outbox.not_flushed", producers=len(stuck), records=len(self._pending))
        for task in stuck:
            task.cancel()
        await asyncio.gather(*map(private.abandon, stuck.values()))

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all are acknowledged, one after the other in this order."""
        for record in records:
            encoded = self._codec.encode(record, self._clock.now())
            fits = self._fits(encoded)
            for each in (record,) if fits else self._too_large(record.job):
                await self.write(encoded if fits else self._codec.encode(each, self._clock.now()))
                self.written.add(each)

    def _fits(self, record: Encoded) -> bool:
        """As the client counts, and the broker: a batch of this one record, with its framing."""
        return private.batch_bytes(record.key, record.value, record.headers) <= self._largest

    async def write(self, record: Encoded) -> None:
        """Return when the record is acknowledged, however long that takes.

        Whoever is cancelled while waiting does not know whether it was written: it may be.
        """
        ticket = next(self._tickets)
        self._pending[ticket] = (monotonic(), record.topic)
        if self._next_look is None:
            self._next_look = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._look)
        try:
            if not await self._tried(ticket, record):
                await self._insisted(ticket, record)
        finally:
            if ticket not in self._left_behind:
                del self._pending[ticket]

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
        producer = self._producer
        try:
            ack = await self._entrance.enter(producer, record)
        except (KafkaError, TimeoutError) as error:
            # It never entered the producer: no sequence number is lost.
            self._say("outbox.not_taken", record.topic, error)
            if private.producer_stands_still(producer) is not None:
                await self._replaced(producer)
            return False
        try:
            meta = await self._answered(ticket, producer, record.topic, ack)
        except KafkaError as error:
            self._say("outbox.refused", record.topic, error)
            await self._replaced(producer)
            return False
        if meta.timestamp_type == APPEND_TIME:
            self._clock.learn(meta.timestamp)
        return True

    async def _answered(
        self, ticket: int, producer: AIOKafkaProducer, topic: str, ack: "asyncio.Future[Any]"
    ) -> Any:
        try:
            return await followed(ack)
        except asyncio.CancelledError:
            # Nobody waits any more, but it is on its way, and its refusal would break the rest.
            self._left_behind.add(ticket)
            ack.add_done_callback(partial(self._answered_late, ticket, producer, topic))
            raise

    def _answered_late(
        self, ticket: int, producer: AIOKafkaProducer, topic: str, ack: "asyncio.Future[Any]"
    ) -> None:
        self._left_behind.discard(ticket)
        del self._pending[ticket]
        error = None if ack.cancelled() else ack.exception()
        if error is not None:
            self._say("outbox.refused", topic, error)
            self._rebuild_soon(producer)

    async def _replaced(self, broken: AIOKafkaProducer) -> None:
        """After any refusal an idempotent producer answers OutOfOrderSequenceNumber for ever."""
        rebuilding = self._rebuild_soon(broken)
        if rebuilding is None:
            return
        self._refused += 1  # already now: whoever looks while it is rebuilt must take nothing new
        try:
            await asyncio.shield(rebuilding)
        finally:
            self._refused -= 1

    def _rebuild_soon(self, broken: AIOKafkaProducer) -> "asyncio.Task[None] | None":
        """In a task of its own: whoever was refused may be cancelled, a half-built one may not."""
        if self._producer is not broken:
            return None
        if self._rebuilding is None or self._rebuilding.done():
            self._rebuilding = asyncio.ensure_future(self._rebuild(broken))
        return self._rebuilding

    async def _rebuild(self, broken: AIOKafkaProducer) -> None:
        try:
            fresh = await self._started()
        except Exception as error:  # noqa: BLE001  # whatever it is, those who wait must try again
            log.error("outbox.not_rebuilt", error=type(error).__name__)
            return
        self._producer = fresh
        log.warning("outbox.rebuilt")
        self._retire(broken)

    async def _started(self) -> AIOKafkaProducer:
        """However long that takes: given up in the middle, a client leaves connections behind."""
        fresh = self._build()
        starting = asyncio.ensure_future(fresh.start())
        try:
            while not (await asyncio.wait({starting}, timeout=REBUILD_SECONDS))[0]:
                log.error("outbox.rebuilds_slowly")
                if private.producer_stands_still(fresh) is not None:
                    raise KafkaError("the new producer stands still")
            starting.result()
        except BaseException:
            starting.cancel()
            await asyncio.wait({starting})
            await fresh.stop()
            raise
        return fresh

    def _retire(self, producer: AIOKafkaProducer) -> None:
        """No time limit: what is still pending in it is unknown, not failed, and is waited for."""
        if private.producer_stands_still(producer) is not None:
            private.fail_pending(producer)
        task = asyncio.ensure_future(_closed(producer))
        self._retiring[task] = producer
        task.add_done_callback(self._retiring.pop)

    def _look(self) -> None:
        """The alarm: once when a write is slow, each minute while it is, and when all goes on."""
        self._next_look = None
        if self.is_blocked:
            self._alarm()
            for producer in (self._producer, *self._retiring.values()):
                private.fail_vanished(producer)
            for producer in self._retiring.values():
                if private.producer_stands_still(producer) is not None:
                    private.fail_pending(producer)
            if private.producer_stands_still(self._producer) is not None:
                self._rebuild_soon(self._producer)
        elif self._blocked_since is not None:
            log.warning(
                "outbox.goes_on", blocked_seconds=round(monotonic() - self._blocked_since, 1)
            )
            self._blocked_since = None
        if self._pending:
            left = AGAIN_SECONDS if self.is_blocked else SLOW_SECONDS - self.oldest_seconds
            self._next_look = asyncio.get_running_loop().call_later(max(left, 0.1), self._look)

    def _alarm(self) -> None:
        if self._blocked_since is not None and monotonic() - self._alarmed_at < 6 * REPEAT_SECONDS:
            return
        since, topic = self._oldest()
        self._blocked_since = self._blocked_since or since
        self._alarmed_at = monotonic()
        seconds = round(monotonic() - since, 1)
        log.error("outbox.slow", topic=topic, seconds=seconds, records=len(self._pending))

    def _say(self, event: str, topic: str, error: BaseException) -> None:
        which = (event, topic, type(error).__name__)
        since, more = self._said.get(which, (-REPEAT_SECONDS, 0))
        if monotonic() - since < REPEAT_SECONDS:
            self._said[which] = (since, more + 1)
            return
        self._said[which] = (monotonic(), 0)
        log.error(event, topic=topic, error=which[2], more_like_it=more)


async def _closed(producer: AIOKafkaProducer) -> None:
    try:
        await producer.stop()
    except (KafkaError, OSError) as error:
        log.warning("outbox.not_closed", error=type(error).__name__)
