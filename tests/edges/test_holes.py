"""Offsets that are missing: read again, asked about, not passed over for want of an answer."""

from types import SimpleNamespace
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from structlog.testing import capture_logs

from outlast.edges.codec import Record
from outlast.edges.kafka.holes import Holes

TP = TopicPartition("outlast.jobs", 0)


class Log:
    """A consumer of one partition whose broker says where the log starts, or nothing."""

    def __init__(self, start: int | None) -> None:
        self.start = start
        self.sought: list[int] = []

    def assignment(self) -> set[TopicPartition]:
        return {TP}

    def seek(self, _: TopicPartition, offset: int) -> None:
        self.sought.append(offset)

    async def beginning_offsets(self, _: Any) -> dict[TopicPartition, int]:
        if self.start is None:
            raise KafkaError("nobody answers")
        return {TP: self.start}


async def fetched(holes: Holes, log: Log, *offsets: int) -> tuple[list[int], int | None]:
    records = [cast(Record, SimpleNamespace(offset=offset)) for offset in offsets]
    taken, lost = await holes.checked(cast(AIOKafkaConsumer, log), TP, records)
    return [record.offset for record in taken], lost


async def test_a_loss_is_not_passed_over_while_nobody_says_where_the_log_starts() -> None:
    holes, log = Holes("test"), Log(start=None)
    holes.expect(TP, 3)
    with capture_logs() as logs:
        unanswered = [await fetched(holes, log, 7, 8) for _ in range(3)]
        log.start = 7
        answered = await fetched(holes, log, 7, 8)

    assert unanswered == [([], None)] * 3
    assert log.sought == [3, 3, 3]
    assert answered == ([7, 8], 7)
    assert [each["event"] for each in logs] == [*["feed.start_unknown"] * 2, "feed.records_lost"]
    assert (logs[-1]["first"], logs[-1]["count"]) == (3, 4)


async def test_a_hole_within_the_log_is_believed_when_it_is_there_again() -> None:
    holes, log = Holes("test"), Log(start=0)
    holes.expect(TP, 3)

    assert await fetched(holes, log, 7, 8) == ([], None)
    assert await fetched(holes, log, 7, 8) == ([7, 8], None)
    assert await fetched(holes, log, 9) == ([9], None)
    assert log.sought == [3]
