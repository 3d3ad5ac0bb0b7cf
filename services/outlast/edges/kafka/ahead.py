"""Looks ahead of what is in hand, without a group: looking writes nothing, unlike passing over."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from outlast.core.census import Census
from outlast.core.errors import KafkaUnreachable
from outlast.core.policy import Catalogue
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Codec

__all__ = ["Ahead"]

log = structlog.get_logger()

AT_A_TIME: Final = 100
"""So many records are looked at before others have their turn."""

Scan = Callable[[Mapping[TopicPartition, int]], AsyncGenerator[Any, None]]


class Ahead:
    """Of each partition, what lies behind that which is in hand; each record is read once."""

    def __init__(
        self,
        *,
        scan: Scan,
        is_done: Callable[[TopicPartition, int], bool],
        codec: Codec,
        catalogue: Catalogue,
        clock: BrokerClock,
    ) -> None:
        """Prepare.

        Args:
            scan: reads partitions from these offsets to their ends.
            is_done: whether nothing is left to do for a record.
            codec: reads the records.
            catalogue: what the jobs' headers refer to.
            clock: broker time.
        """
        self._scan = scan
        self._is_done = is_done
        self._codec = codec
        self._catalogue = catalogue
        self._clock = clock
        self._partitions: dict[TopicPartition, Census] = {}

    def of(self, tp: TopicPartition) -> Census:
        """What is known of a partition."""
        return self._partitions[tp]

    def came_to(self, windows: Mapping[TopicPartition, int]) -> None:
        """Of each owned partition, the first offset that is not in hand; of others all is void."""
        known, self._partitions = self._partitions, {}
        for tp, offset in windows.items():
            each = known.get(tp) or Census(offset)
            each.came_to(offset)
            self._partitions[tp] = each

    async def read(self, ends: Mapping[TopicPartition, int]) -> None:
        """Look at what came since, in partitions that end there; raises nothing."""
        starts = {
            tp: each.read for tp, each in self._partitions.items() if each.read < ends.get(tp, 0)
        }
        try:
            async with aclosing(self._scan(starts)) as records:
                await self._count(records)
            for tp in starts:
                if (each := self._partitions.get(tp)) is not None:
                    each.read = max(each.read, ends[tp])
        except (KafkaError, KafkaUnreachable, OSError) as error:
            log.warning("park.look_failed", error=type(error).__name__)

    async def _count(self, records: AsyncGenerator[Any, None]) -> None:
        count = 0
        async for record in records:
            count += 1
            if count % AT_A_TIME == 0:
                await asyncio.sleep(0)
            # Its partition may be another's by now.
            tp = TopicPartition(record.topic, record.partition)
            each = self._partitions.get(tp)
            if each is not None and not self._is_done(tp, record.offset):
                decoded = self._codec.decode(record)
                if decoded.fault is None:
                    each.saw(decoded.job, self._catalogue, self._clock.now())
