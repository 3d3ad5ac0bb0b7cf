"""Offsets that are missing between two fetches: read again first, believed when missing again.

A hole is believed then: compaction, a transaction's marker, or records that retention deleted
unread, which is loss, and is counted by offset.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from outlast.edges.codec import Record
from outlast.edges.logs import Log

__all__ = ["Holes"]

log = Log(__name__)


class Holes:
    """Knows which offset each partition is expected to bring next."""

    def __init__(self, name: str) -> None:
        """``name`` is the feed's, for the logs."""
        self._name = name
        self.lost: Counter[str] = Counter()
        """By topic, how many records were deleted before anybody had read them."""
        self._expected: dict[TopicPartition, int] = {}
        self._sought: dict[TopicPartition, int] = {}

    def expect(self, tp: TopicPartition, offset: int) -> None:
        """The partition was sought to this offset."""
        self._expected[tp] = offset
        self._sought.pop(tp, None)

    def expected(self, tp: TopicPartition) -> int:
        """Which offset comes next."""
        return self._expected[tp]

    def began_anew(self, tp: TopicPartition, first: int) -> bool:
        """Whether what was fetched lies below what was asked for: no fetch of one log does that.

        The client was told that the offset is out of range, and began at the log's start.
        """
        return first < self._expected[tp]

    async def checked(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: Sequence[Record]
    ) -> tuple[Sequence[Record], int | None]:
        """The records, or none after seeking back; and below which offset unread ones were lost."""
        first, expected = records[0].offset, self._expected[tp]
        if first > expected and self._sought.get(tp) != expected:
            self._sought[tp] = expected
            consumer.seek(tp, expected)
            return (), None
        lost = None
        if first > expected:
            try:
                lost = await self._lost(consumer, tp, expected, first)
            except KafkaError as error:
                log.warning("feed.start_unknown", feed=self._name, error=type(error).__name__)
                if self._expected[tp] == expected and tp in consumer.assignment():
                    consumer.seek(tp, expected)  # a loss must not pass for want of an answer
                return (), None
        if self._expected[tp] != expected:
            return (), None  # sought anew meanwhile
        self._expected[tp] = records[-1].offset + 1
        return records, lost

    async def _lost(
        self, consumer: AIOKafkaConsumer, tp: TopicPartition, expected: int, first: int
    ) -> int | None:
        starts: Mapping[TopicPartition, int] = await consumer.beginning_offsets([tp])
        start = min(starts[tp], first)
        if start <= expected:
            return None
        self.lost[tp.topic] += start - expected
        log.error(
            "feed.records_lost",
            feed=self._name,
            topic=tp.topic,
            partition=tp.partition,
            first=expected,
            count=start - expected,
        )
        return start
