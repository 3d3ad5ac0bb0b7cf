"""What the topics and the providers hold at the end of a drill, as the account needs it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from outlast.core.progress import Progress, decode
from outlast.drill.conservation import Calls, Dump, End, Letter, Open, Run
from outlast.drill.simulator import content_key
from outlast.edges.answers import header, result_of
from outlast.edges.codec import Codec, Record
from outlast.edges.kafka.beginnings import committed
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.scan import FIRST, from_the_first, scan
from outlast.edges.kafka.topics import partitions
from outlast.edges.settings import Kafka
from outlast_schemas import headers as h
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Origin
from outlast_schemas.state import State
from outlast_schemas.topics import Topics

__all__ = ["calls_of", "dump"]


def calls_of(counted: Mapping[str, Mapping[str, int]], contents: Mapping[str, str]) -> Calls:
    """Who called for which job.

    Calls that are for none of the jobs, such as probes, are left out.

    Args:
        counted: provider → the ``calls_by_content`` of its counters.
        contents: job id → the text of its last message, by which providers tell jobs apart.

    Raises:
        ValueError: when two jobs have the same text.
    """
    ids = {content_key(content): job_id for job_id, content in contents.items()}
    if len(ids) < len(contents):
        raise ValueError("some jobs have the same last message: their calls look the same")
    return {
        provider: {ids[key]: count for key, count in calls.items() if key in ids}
        for provider, calls in counted.items()
    }


async def dump(kafka: Kafka, codec: Codec, admin: AIOKafkaAdminClient) -> Dump:
    """Read all topics that hold jobs or ends, each to where it ended at the start.

    Pools and result topics are found in Kafka. All commits are read before any end, so that a
    job that moves meanwhile is found where it was or where it went, never nowhere. ``admin`` is
    started, and stays the caller's.

    Raises:
        KafkaUnreachable: when there is no progress for a minute.
        TopicsError: when the commits cannot be read.
    """
    there = await partitions(None, admin)
    progress = await _progress(kafka.prefix, there, admin)
    found = _Found(Topics(kafka.prefix), codec, progress)
    starts = {tp: each.low for tp, each in progress.items()}
    starts |= from_the_first(_partitions_of(filter(found.is_wanted_whole, there), there))
    async for record in scan(kafka, starts):
        found.take(record)
    return found.dump()


async def _progress(
    prefix: str, there: Mapping[str, int], admin: AIOKafkaAdminClient
) -> dict[TopicPartition, Progress]:
    """How far each stage is; without a commit nothing is done."""
    topics = Topics(prefix)
    pools = topics.work("")
    providers = [name.removeprefix(pools) for name in there if name.startswith(pools)]
    progress: dict[TopicPartition, Progress] = {}
    for group, names in Groups(prefix).moving(topics, providers).items():
        wanted = _partitions_of(names, there)
        commits = await committed(group, wanted, admin)
        progress.update({tp: _decoded(commits.get(tp)) for tp in wanted})
    return progress


def _partitions_of(names: Iterable[str], there: Mapping[str, int]) -> list[TopicPartition]:
    return [TopicPartition(name, each) for name in names for each in range(there.get(name, 0))]


def _decoded(commit: OffsetAndMetadata | None) -> Progress:
    """What cannot be read counts as open from the offset on: a job too many, never one too few."""
    if commit is None:
        return Progress(FIRST, FIRST)
    try:
        return decode(commit.offset, commit.metadata)
    except ValueError:
        return Progress(commit.offset, commit.offset)


@dataclass(slots=True)
class _Found:
    """The dump as it grows, record by record."""

    topics: Topics
    codec: Codec
    progress: Mapping[TopicPartition, Progress]
    accepted: Counter[Run] = field(default_factory=Counter)
    ends: list[End] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    open: list[Open] = field(default_factory=list)
    foreign: list[Origin] = field(default_factory=list)

    def is_wanted_whole(self, topic: str) -> bool:
        return self._is_results(topic) or topic in (self.topics.jobs, self.topics.dead_letters)

    def _is_results(self, topic: str) -> bool:
        return topic == self.topics.results() or topic.startswith(self.topics.results(""))

    def take(self, record: Record) -> None:
        if self._is_results(record.topic):
            self._take_end(record)
        elif record.topic == self.topics.dead_letters:
            self._take_letter(record)
        else:
            self._take_job(record)

    def _take_end(self, record: Record) -> None:
        result, place = result_of(record), _place(record)
        if result is None:
            self.foreign.append(place)
            return
        self.ends.append(
            End(
                job_id=result.job_id,
                replays=result.replays,
                status=result.status,
                calls=result.attempts,
                charged=_charged(record),
                provider=result.provider,
                place=place,
            )
        )

    def _take_letter(self, record: Record) -> None:
        job = self.codec.decode(record).job
        try:
            reason = Reason(header(list(record.headers), h.REASON) or "")
        except ValueError:
            self.foreign.append(job.origin)
            return
        self.letters.append(
            Letter(
                job_id=job.id,
                replays=job.state.replays,
                reason=reason,
                calls=job.state.calls,
                place=job.origin,
            )
        )

    def _take_job(self, record: Record) -> None:
        job = self.codec.decode(record).job
        if record.topic == self.topics.jobs:
            self.accepted[job.id, job.state.replays] += 1
        progress = self.progress[TopicPartition(record.topic, record.partition)]
        if record.offset >= progress.high or record.offset in progress.incomplete:
            self.open.append(
                Open(
                    job_id=job.id,
                    replays=job.state.replays,
                    hop=job.state.hop,
                    calls=job.state.calls,
                    place=job.origin,
                )
            )

    def dump(self) -> Dump:
        return Dump(
            accepted={job_id: count for (job_id, run), count in self.accepted.items() if not run},
            replayed={run: count for run, count in self.accepted.items() if run[1]},
            ends=tuple(self.ends),
            letters=tuple(self.letters),
            open=tuple(self.open),
            foreign=tuple(self.foreign),
        )


def _place(record: Record) -> Origin:
    return Origin(record.topic, record.partition, record.offset, record.timestamp)


def _charged(record: Record) -> int | None:
    raw = header(list(record.headers), h.STATE)
    try:
        return State.from_json(orjson.loads(raw or "")).charged
    except (KeyError, TypeError, ValueError):
        return None
