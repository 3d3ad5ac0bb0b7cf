"""What every process knows of the fleet: the health topic, read without a group from its start."""

import asyncio
from collections.abc import Callable
from typing import Final

import orjson
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from outlast.core.choose import Fleet
from outlast.core.errors import WatchdogTripped
from outlast.core.policy import Target
from outlast.edges.kafka import private
from outlast_schemas.health import Health

__all__ = ["HealthTable"]

log = structlog.get_logger()

POLL_MS: Final = 500
AGAIN_SECONDS: Final = 1.0


class HealthTable:
    """The latest verdict on each provider."""

    def __init__(self, build: Callable[[], AIOKafkaConsumer]) -> None:
        """``build`` makes a groupless consumer of the health topic, not yet started."""
        self._build = build
        self._consumer: AIOKafkaConsumer | None = None
        self._health: dict[str, Health] = {}
        self._fleet = Fleet({})
        self._watchers: list[Callable[[Health | None, Health], None]] = []

    def fleet(self) -> Fleet:
        """What is known now: the same object until a verdict comes."""
        return self._fleet

    def sent(self, target: Target) -> None:
        """Nobody counts here what is sent."""

    def of(self, provider: str) -> Health | None:
        """The latest verdict on one provider."""
        return self._health.get(provider)

    def watch(self, watcher: Callable[[Health | None, Health], None]) -> None:
        """Call ``watcher(before, after)`` at every new verdict."""
        self._watchers.append(watcher)

    async def start(self) -> None:
        """Read to the end as of now; only then may anybody decide anything."""
        consumer = self._build()
        await consumer.start()
        self._consumer = consumer
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
            self._take(await consumer.getmany(timeout_ms=POLL_MS))

    async def run(self) -> None:
        """Read until cancelled. Raises ``WatchdogTripped`` when the client stands still."""
        assert self._consumer is not None
        while True:
            try:
                self._take(await self._consumer.getmany(timeout_ms=POLL_MS))
                if (dead := private.stands_still(self._consumer)) is not None:
                    raise WatchdogTripped(f"health: the Kafka client's {dead} task has ended")
            except KafkaError as error:
                log.warning("health.read_failed", error=type(error).__name__)
                await asyncio.sleep(AGAIN_SECONDS)

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await self._consumer.stop()

    def _take(self, fetched: dict[object, list[ConsumerRecord[bytes, bytes]]]) -> None:
        for records in fetched.values():
            for record in records:
                if record.value:
                    self._read(record.value)

    def _read(self, value: bytes) -> None:
        try:
            health = Health.from_json(orjson.loads(value))
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("health.unreadable", error=repr(error)[:200])
            return
        before = self._health.get(health.provider)
        if before is not None and health.epoch < before.epoch:
            return
        self._health[health.provider] = health
        self._fleet = Fleet(dict(self._health))
        for watcher in self._watchers:
            watcher(before, health)
