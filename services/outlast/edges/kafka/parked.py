"""For whom the parked jobs wait, told from their headers; what was read is not read again."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import orjson
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from outlast.core.admission import Fault, terms
from outlast.core.choose import eligible
from outlast.core.overview import Parked
from outlast.core.policy import Catalogue
from outlast.core.progress import Progress, decode
from outlast.edges.kafka.beginnings import committed
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.scan import scan
from outlast.edges.kafka.topics import partitions
from outlast.edges.settings import Kafka
from outlast_schemas import headers as h
from outlast_schemas.fields import text
from outlast_schemas.topics import Topics

__all__ = ["MOST_HELD", "ParkedJobs"]

MOST_HELD: Final = 100_000
"""So many jobs are remembered; what is parked beyond them is not counted by provider."""
MOST_SECONDS: Final = 3.0
"""So long one look reads; the next goes on from there."""
KINDS: Final = 1_024
"""Of so many different wishes (route, operation, scope) the first provider is remembered."""
MISFITS: Final = (orjson.JSONDecodeError, KeyError, TypeError)
NOTHING_DONE: Final = Progress(0, 0)


@dataclass(slots=True)
class _Partition:
    """What was read of one: ``read`` is the next offset, ``firsts`` whose job waits where."""

    progress: Progress = NOTHING_DONE
    incomplete: frozenset[int] = frozenset()
    read: int = 0
    firsts: dict[int, str] = field(default_factory=dict)

    def settle(self, progress: Progress) -> None:
        """Its group is so far now: forget what is done."""
        if progress.low < self.progress.low:  # a log that began anew, or a group set back
            self.firsts, self.read = {}, 0
        self.progress, self.incomplete = progress, frozenset(progress.incomplete)
        self.read = max(self.read, progress.low)
        self.firsts = {at: first for at, first in self.firsts.items() if self._is_open(at)}

    def take(self, offset: int, first: str | None) -> None:
        """The record there was read."""
        self.read = offset + 1
        if first is not None and self._is_open(offset):
            self.firsts[offset] = first

    def _is_open(self, offset: int) -> bool:
        return offset >= self.progress.high or offset in self.incomplete


class ParkedJobs:
    """Reads ``outlast.parked`` without a group, each time from where it had come to."""

    def __init__(
        self,
        kafka: Kafka,
        admin: AIOKafkaAdminClient,
        catalogue: Catalogue,
        most: int = MOST_HELD,
    ) -> None:
        """``admin`` is started, and stays the caller's; at most so many jobs are remembered."""
        self._kafka = kafka
        self._admin = admin
        self._catalogue = catalogue
        self._most = most
        self._partitions: dict[int, _Partition] = {}
        self._first = lru_cache(KINDS)(self._looked_up)

    async def look(self) -> Parked:
        """For whom jobs wait now, by the provider each would go to first.

        The commits are read before the records: a job that is parked anew meanwhile counts where
        it was or where it went, never nowhere. Raises ``KafkaUnreachable`` or ``TopicsError``.
        """
        await self._settle()
        is_all = await self._read_on()
        jobs = Counter[str]()
        for each in self._partitions.values():
            jobs.update(each.firsts.values())
        return Parked(jobs, is_all)

    async def _settle(self) -> None:
        topic = Topics(self._kafka.prefix).parked
        there = await partitions([topic], self._admin)
        wanted = [TopicPartition(topic, each) for each in range(there.get(topic, 0))]
        commits = await committed(Groups(self._kafka.prefix).park, wanted, self._admin)
        known = self._partitions
        self._partitions = {
            each.partition: known.get(each.partition, _Partition()) for each in wanted
        }
        for tp in wanted:
            self._partitions[tp.partition].settle(_decoded(commits.get(tp)))

    async def _read_on(self) -> bool:
        """Read what has come since, and say whether that was all."""
        topic = Topics(self._kafka.prefix).parked
        starts = {TopicPartition(topic, n): each.read for n, each in self._partitions.items()}
        room = self._most - sum(len(each.firsts) for each in self._partitions.values())
        loop = asyncio.get_running_loop()
        end = loop.time() + MOST_SECONDS
        async with aclosing(scan(self._kafka, starts)) as records:
            async for record in records:
                if room <= 0 or loop.time() > end:
                    return False
                self._partitions[record.partition].take(record.offset, self._of(record.headers))
                room -= 1
        return True

    def _of(self, headers: Iterable[tuple[str, bytes | None]]) -> str | None:
        """The provider that a job with these headers would go to first, if there is one."""
        found = {name: value for name, value in headers if value is not None}
        try:
            route = text(orjson.loads(found[h.STATE])["route"])
        except MISFITS:
            return None
        return self._first(route, found.get(h.OPERATION), found.get(h.SCOPE))

    def _looked_up(self, route: str, operation: bytes | None, scope: bytes | None) -> str | None:
        known = self._catalogue.route(route)
        asked = terms(((h.OPERATION, operation), (h.SCOPE, scope)), self._catalogue)
        if known is None or isinstance(asked, Fault):
            return None
        targets = eligible(known, asked.operation, asked.scope, self._catalogue)
        return targets[0].provider if targets else None


def _decoded(commit: OffsetAndMetadata | None) -> Progress:
    if commit is None:
        return NOTHING_DONE
    try:
        return decode(commit.offset, commit.metadata)
    except ValueError:  # not ours: what may be done beyond the offset counts as parked
        return Progress(commit.offset, commit.offset)
