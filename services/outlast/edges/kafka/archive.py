"""All topics as an operator's tool reads them: without a group, from the first record on."""

from collections.abc import AsyncGenerator, Iterable

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from outlast.core.progress import Progress, decode
from outlast.edges.answers import Result, header, reason_of, result_of
from outlast.edges.codec import Codec, Record
from outlast.edges.kafka.beginnings import committed
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.scan import FIRST, from_the_first, scan
from outlast.edges.kafka.topics import partitions
from outlast.edges.settings import Kafka
from outlast.ports import EndedRun, Open
from outlast_schemas import headers as h
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.job import Job
from outlast_schemas.topics import Topics

__all__ = ["Archive"]

log = structlog.get_logger()


class Archive:
    """Fulfils :class:`outlast.ports.Archive`.

    Pools and result topics are found in Kafka, so that those which left the configuration are
    still read.
    """

    def __init__(self, kafka: Kafka, codec: Codec, admin: AIOKafkaAdminClient) -> None:
        """``admin`` is started, and stays the caller's."""
        self._kafka = kafka
        self._codec = codec
        self._admin = admin
        self._topics = Topics(kafka.prefix)
        self._groups = Groups(kafka.prefix)

    async def accepted(self) -> AsyncGenerator[Job, None]:
        """Every record of the jobs topic, decoded."""
        async for record in self._all([self._topics.jobs]):
            yield self._codec.decode(record).job

    async def ended(self) -> AsyncGenerator[EndedRun, None]:
        """Every record of all result topics; foreign ones are passed over."""
        async for result in self.results():
            yield EndedRun(
                job_id=result.job_id,
                replays=result.replays,
                status=result.status,
                reason=reason_of(result),
            )

    async def results(self, name: str | None = None) -> AsyncGenerator[Result, None]:
        """The results themselves: of one result topic, or of all."""
        names = [self._topics.results(name)] if name is not None else await self._result_topics()
        async for record in self._all(names):
            result = result_of(record)
            if result is None:
                log.warning(
                    "archive.foreign_record",
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                )
            else:
                yield result

    async def dead_letters(self) -> AsyncGenerator[DeadLetter, None]:
        """Every dead letter, oldest first in each partition; the job's origin is the letter's."""
        async for record in self._all([self._topics.dead_letters]):
            yield _letter(record, self._codec.decode(record).job)

    async def open(self) -> AsyncGenerator[Open, None]:
        """Every record that no stage has done yet, in any topic a stage reads.

        All commits are read before any end: a job that moves meanwhile is then found where it
        was or where it went, never nowhere.
        """
        progress = await self._progress()
        starts = {tp: each.low if each else FIRST for tp, each in progress.items()}
        async for record in scan(self._kafka, starts):
            known = progress[TopicPartition(record.topic, record.partition)]
            if known is None or _is_open(record.offset, known):
                job = self._codec.decode(record).job
                yield Open(job_id=job.id, replays=job.state.replays, topic=record.topic)

    async def _progress(self) -> dict[TopicPartition, Progress | None]:
        """What each stage's group has committed; ``None`` where it has not yet."""
        there = await partitions(None, self._admin)
        prefix = self._topics.work("")
        providers = [name.removeprefix(prefix) for name in there if name.startswith(prefix)]
        progress: dict[TopicPartition, Progress | None] = {}
        for group, topics in self._groups.moving(self._topics, providers).items():
            wanted = list(_partitions_of(topics, there))
            commits = await committed(group, wanted, self._admin)
            progress.update({tp: _decoded(tp, commits.get(tp)) for tp in wanted})
        return progress

    async def _result_topics(self) -> list[str]:
        first, more = self._topics.results(), self._topics.results("")
        there = await partitions(None, self._admin)
        return [name for name in there if name == first or name.startswith(more)]

    async def _all(self, topics: Iterable[str]) -> AsyncGenerator[Record, None]:
        names = list(topics)
        there = await partitions(names, self._admin)
        async for record in scan(self._kafka, from_the_first(_partitions_of(names, there))):
            yield record


def _partitions_of(topics: Iterable[str], there: dict[str, int]) -> Iterable[TopicPartition]:
    return (TopicPartition(name, each) for name in topics for each in range(there.get(name, 0)))


def _decoded(tp: TopicPartition, commit: OffsetAndMetadata | None) -> Progress | None:
    if commit is None:
        return None
    try:
        return decode(commit.offset, commit.metadata)
    except ValueError:
        # Not ours: what may be done beyond the offset then counts as open, which is the safe side.
        log.warning("archive.foreign_commit", topic=tp.topic, partition=tp.partition)
        return Progress(commit.offset, commit.offset)


def _is_open(offset: int, progress: Progress) -> bool:
    return offset >= progress.high or offset in progress.incomplete


def _letter(record: Record, job: Job) -> DeadLetter:
    headers = list(record.headers)
    word = header(headers, h.REASON)
    try:
        reason = Reason(word or "")
    except ValueError:
        detail = f"{h.REASON} is {word!r}, which is no reason of ours"
        return DeadLetter(job=job, reason=Reason.INTERNAL_ERROR, detail=detail)
    return DeadLetter(job=job, reason=reason, detail=header(headers, h.DETAIL) or "")
