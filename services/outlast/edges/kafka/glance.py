"""When single records were appended, read without a group: for those who only want to know that."""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from outlast.edges.kafka.connection import groupless_consumer
from outlast.edges.logs import Log
from outlast.edges.settings import Kafka

__all__ = ["Glance"]

log = Log(__name__)

PATIENCE_SECONDS: Final = 10.0
POLL_MS: Final = 500


class Glance:
    """Looks up append times, each time with a connection of its own: it is seldom asked."""

    def __init__(self, kafka: Kafka, seconds: float = PATIENCE_SECONDS) -> None:
        """Prepare; nothing connects yet. A look takes at most so many seconds."""
        self._kafka = kafka
        self._seconds = seconds

    async def __call__(self, places: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The append time (epoch ms) of the first record from each offset on, where it comes soon.

        Raises nothing: what cannot be read is absent.
        """
        found: dict[TopicPartition, int] = {}
        try:
            async with asyncio.timeout(self._seconds):
                await self._read(places, found)
        except (KafkaError, OSError, TimeoutError) as error:
            log.debug("glance.failed", error=type(error).__name__)
        return found

    async def _read(
        self, places: Mapping[TopicPartition, int], found: dict[TopicPartition, int]
    ) -> None:
        consumer = groupless_consumer(self._kafka)
        try:
            await consumer.start()
            consumer.assign(list(places))
            for tp, offset in places.items():
                consumer.seek(tp, offset)
            while left := places.keys() - found.keys():
                for tp, records in (await consumer.getmany(*left, timeout_ms=POLL_MS)).items():
                    if records:
                        found[tp] = records[0].timestamp
        finally:
            await consumer.stop()
