"""How busy the fleet's workers are: the vitals topic, read without a group from its end."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import orjson
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from outlast.core.choose import Fleet
from outlast.core.errors import WatchdogTripped
from outlast.core.pace import Pace
from outlast.core.policy import Target
from outlast.edges.clock import BrokerClock
from outlast.edges.kafka import private
from outlast_schemas.health import BreakerWord
from outlast_schemas.vitals import Vitals

__all__ = ["PaceTable", "Ramped"]

log = structlog.get_logger()

POLL_MS: Final = 500
AGAIN_SECONDS: Final = 1.0


class PaceTable:
    """The latest vitals of all workers; who waits for room is told of each."""

    def __init__(
        self,
        build: Callable[[], AIOKafkaConsumer],
        clock: BrokerClock,
        fleet: Callable[[], Fleet],
    ) -> None:
        """``build`` makes a groupless consumer of the vitals topic, not yet started."""
        self._build = build
        self._clock = clock
        self._fleet = fleet
        self._pace = Pace()
        self._watchers: list[Callable[[str], None]] = []

    def room(self, target: Target) -> int:
        """How many more jobs may go there now."""
        return self._pace.room(target, self._fleet(), self._clock.now())

    def sent(self, target: Target) -> None:
        """One more goes there."""
        self._pace.sent(target.provider, self._clock.now())

    def ramped(self) -> "Ramped":
        """The fleet as those see it who send at once or not at all."""
        return Ramped(self, self._fleet)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call ``watcher(provider)`` at all vitals."""
        self._watchers.append(watcher)

    async def run(self) -> None:
        """Read until cancelled. Raises ``WatchdogTripped`` when the client stands still."""
        consumer = self._build()
        try:
            await consumer.start()
            await consumer.seek_to_end()
            while True:
                await self._read(consumer)
        finally:
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        try:
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
        except KafkaError as error:
            log.warning("pace.read_failed", error=type(error).__name__)
            await asyncio.sleep(AGAIN_SECONDS)
            return
        for records in fetched.values():
            for record in records:
                self.take(record.value)
        if (dead := private.stands_still(consumer)) is not None:
            raise WatchdogTripped(f"pace: the Kafka client's {dead} task has ended")

    def take(self, value: bytes | None) -> None:
        """One record of the topic."""
        try:
            vitals = Vitals.from_json(orjson.loads(value or b"{}"))
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("pace.unreadable", error=repr(error)[:200])
            return
        self._pace.saw(vitals)
        for watcher in self._watchers:
            watcher(vitals.provider)


class Ramped:
    """The verdicts, with the ramping providers to which no more may be sent just now."""

    def __init__(self, pace: PaceTable, fleet: Callable[[], Fleet]) -> None:
        """``fleet`` gives the verdicts."""
        self._pace = pace
        self._fleet = fleet
        self._seen = Fleet({})
        self._ramping: tuple[Target, ...] = ()

    def fleet(self) -> Fleet:
        """What is known now."""
        fleet = self._look()
        full = {each.provider for each in self._ramping if self._pace.room(each) <= 0}
        return replace(fleet, full=full) if full else fleet

    def sent(self, target: Target) -> None:
        """One more goes there; what does not ramp is not counted."""
        self._look()
        if any(each.provider == target.provider for each in self._ramping):
            self._pace.sent(target)

    def _look(self) -> Fleet:
        """The verdicts; who ramps is looked up when they have changed, and not for each job."""
        fleet = self._fleet()
        if fleet is not self._seen:
            self._seen, self._ramping = fleet, tuple(_who_ramps(fleet))
        return fleet


def _who_ramps(fleet: Fleet) -> Iterator[Target]:
    for provider, health in fleet.health.items():
        for model, each in health.models.items():
            if each.state is BreakerWord.RAMP:
                yield Target(provider, model)
