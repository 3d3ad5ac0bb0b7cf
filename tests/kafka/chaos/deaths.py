"""What a process that died may have repeated: what its group had not committed by then.

That is exactly the calls that were in flight, and those that ended since the last acknowledged
commit, as the design bounds them; of a stage that calls nobody, the moves.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from outlast.core.progress import Progress, decode
from outlast.edges.codec import Record
from outlast.edges.kafka.beginnings import committed
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.scan import from_the_first, scan
from outlast.edges.kafka.topics import partitions
from outlast.edges.settings import Kafka
from outlast_schemas.headers import STATE
from outlast_schemas.topics import Topics
from tests.kafka.chaos.witness import Call

__all__ = ["Death", "Places", "allowed", "places", "progress"]

ID: Final = "ce_id"
Places = Mapping[str, list[tuple[TopicPartition, int, int]]]
"""Job → its records in the topics that stages read: partition, offset, hop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A process was killed, or stood still for longer than its session.

    Attributes:
        key: its own, by which its calls are known.
        at: by the event loop's clock.
        progress: what its groups had committed.
    """

    key: str
    at: float
    progress: Mapping[TopicPartition, Progress]

    def left_open(self, tp: TopicPartition, offset: int) -> bool:
        """Whether the record was read by that process's group, and not committed as done."""
        done = self.progress.get(tp)
        return done is not None and (offset >= done.high or offset in done.incomplete)


async def progress(
    kafka: Kafka, providers: Iterable[str], stage: str, admin: AIOKafkaAdminClient
) -> dict[TopicPartition, Progress]:
    """What the groups of a stage have committed now."""
    moving = Groups(kafka.prefix).moving(Topics(kafka.prefix), providers)
    wanted = {g: t for g, t in moving.items() if g.startswith(f"{kafka.prefix}.{stage}")}
    counts = await partitions([name for names in wanted.values() for name in names], admin)
    found: dict[TopicPartition, Progress] = {}
    for group, names in wanted.items():
        tps = [TopicPartition(name, number) for name in names for number in range(counts[name])]
        commits = await committed(group, tps, admin)
        found |= {tp: decode(each.offset, each.metadata) for tp, each in commits.items()}
    return found


async def places(kafka: Kafka, providers: Iterable[str], admin: AIOKafkaAdminClient) -> Places:
    """Where every job has been."""
    moving = Groups(kafka.prefix).moving(Topics(kafka.prefix), providers)
    counts = await partitions([name for names in moving.values() for name in names], admin)
    tps = [
        TopicPartition(name, number) for name, count in counts.items() for number in range(count)
    ]
    found: defaultdict[str, list[tuple[TopicPartition, int, int]]] = defaultdict(list)
    async for record in scan(kafka, from_the_first(tps)):
        tp = TopicPartition(record.topic, record.partition)
        found[_job(record)].append((tp, record.offset, _hop(record)))
    return found


def allowed(deaths: Iterable[Death], calls: Iterable[Call], where: Places) -> Counter[str]:
    """Job → how many calls more than one it may have had."""
    mine: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        mine[call.caller].append(call)
    count: Counter[str] = Counter()
    for death in deaths:
        count.update(call.job for call in mine[death.key] if _is_open(death, where[call.job]))
        if not mine[death.key]:
            count.update(job for job, each in where.items() if _was_moved_again(death, each))
    return count


def _is_open(death: Death, records: Iterable[tuple[TopicPartition, int, int]]) -> bool:
    return any(death.left_open(tp, offset) for tp, offset, _ in records)


def _was_moved_again(death: Death, records: Iterable[tuple[TopicPartition, int, int]]) -> bool:
    hops = Counter(hop for _, _, hop in records)
    left = (hop for tp, offset, hop in records if death.left_open(tp, offset))
    return any(hops[hop + 1] > 1 for hop in left)


def _job(record: Record) -> str:
    return (dict(record.headers).get(ID) or b"").decode()


def _hop(record: Record) -> int:
    state = dict(record.headers).get(STATE)
    return int(orjson.loads(state)["hop"]) if state else 0
