"""The one commit function: all partitions in one request, never backwards, never as a stranger.

``consumer.commit()`` is never used: it repeats an old request under a new generation and rewinds
whoever owns the partition by then. Here each request is built anew, in the same event-loop step
that checks membership, assignment and the floor, and a failed one is forgotten.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from outlast.core.watermark import Progress, Watermark, encode
from outlast.edges.kafka import private
from outlast.edges.logs import Log

__all__ = ["Committer"]

log = Log(__name__)

TICK_SECONDS: Final = 0.05
STALE_SECONDS: Final = 5.0
EVICTED: Final = (
    CommitFailedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)


class Committer:
    """Commits what is done, at most 50 ms behind, with at most one request outstanding."""

    def __init__(self, marks: Mapping[TopicPartition, Watermark]) -> None:
        """Watch the trackers of a feed; only partitions opened by :meth:`opened` are committed."""
        self._marks = marks
        self._consumer: AIOKafkaConsumer | None = None
        self._ours: frozenset[TopicPartition] = frozenset()
        self._floor: dict[TopicPartition, int] = {}
        self._dirty: dict[TopicPartition, None] = {}
        self._request: asyncio.Task[None] | None = None
        self._behind_since: float | None = None
        self.evicted = False

    def touched(self, tp: TopicPartition) -> None:
        """Something was done in the partition; of others' partitions nothing is committed."""
        if tp not in self._ours:
            return
        self._dirty[tp] = None
        if self._behind_since is None:
            self._behind_since = _now()

    @property
    def behind_seconds(self) -> float:
        """For how long something done has not been acknowledged as committed."""
        return 0.0 if self._behind_since is None else _now() - self._behind_since

    @property
    def is_stale(self) -> bool:
        """Whether nothing new may start: a crash now would repeat too much."""
        return self.behind_seconds > STALE_SECONDS

    def floor(self, tp: TopicPartition) -> int | None:
        """The last offset acknowledged for the partition, as long as its tracker is kept."""
        return self._floor.get(tp)

    def opened(self, consumer: AIOKafkaConsumer, loaded: Mapping[TopicPartition, Progress]) -> None:
        """After an assignment: these partitions are ours, and this is what is committed."""
        self._consumer = consumer
        self._ours = frozenset(loaded)
        self._floor = {tp: low for tp, low in self._floor.items() if tp in self._marks}
        self._floor |= {tp: progress.low for tp, progress in loaded.items()}
        self.evicted = False
        self._dirty = {tp: None for tp in loaded if self._marks[tp].progress() != loaded[tp]}
        self._behind_since = _now() if self._dirty else None

    def closed(self) -> None:
        """No commit until the next assignment: it would wait behind our own JoinGroup."""
        self._consumer = None

    async def run(self) -> None:
        """Commit every 50 ms what has changed, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.begin()

    def begin(self) -> "asyncio.Task[None] | None":
        """Start a commit if something is dirty and none is outstanding; never cancel it."""
        if self._request is not None and not self._request.done():
            return self._request
        payload = self._payload()
        if not payload:
            return None
        assert self._consumer is not None
        for tp in payload:
            del self._dirty[tp]
        began = _now()
        self._request = asyncio.ensure_future(self._commit(self._consumer, payload, began))
        return self._request

    async def once(self, seconds: float) -> None:
        """What is outstanding, and one more, as far as that goes in time."""
        end = _now() + seconds
        for _ in range(2):
            outstanding = self._request is not None and not self._request.done()
            request = self.begin()
            if request is not None:
                await asyncio.wait({request}, timeout=max(0.0, end - _now()))
            if not outstanding:
                return

    async def flush(self, seconds: float) -> bool:
        """Commit until nothing is dirty; false when that did not work out in time."""
        end = _now() + seconds
        while self._consumer is not None and (left := end - _now()) > 0:
            request = self.begin()
            if request is None and not self._dirty:
                return True
            if request is not None:
                await asyncio.wait({request}, timeout=left)
            if self._dirty:
                await asyncio.sleep(min(left, TICK_SECONDS))
        return not self._dirty

    def _payload(self) -> dict[TopicPartition, tuple[int, str]]:
        """In one step with the send: membership, assignment, floor."""
        consumer = self._consumer
        if consumer is None or private.generation(consumer) < 0:
            return {}
        assigned = consumer.assignment()
        payload = {}
        for tp in self._dirty:
            mark = self._marks[tp]
            if tp in assigned and mark.low >= self._floor.get(tp, 0):
                progress = mark.progress()
                metadata = encode(progress)
                mark.encoded(metadata)
                payload[tp] = (progress.low, metadata)
        return payload

    async def _commit(
        self,
        consumer: AIOKafkaConsumer,
        payload: dict[TopicPartition, tuple[int, str]],
        began: float,
    ) -> None:
        committed = False
        try:
            await private.commit(consumer, payload)
            committed = True
        except EVICTED as error:
            log.warning("feed.evicted", error=type(error).__name__)
            self.evicted = True
            self.closed()
        except KafkaError as error:
            log.warning("feed.commit_failed", error=type(error).__name__)
        finally:
            if committed:
                self._succeeded(consumer, payload, began)
            else:
                self._failed(payload)

    def _failed(self, payload: Mapping[TopicPartition, object]) -> None:
        self._dirty.update(dict.fromkeys(payload))

    def _succeeded(
        self,
        consumer: AIOKafkaConsumer,
        payload: Mapping[TopicPartition, tuple[int, str]],
        began: float,
    ) -> None:
        self._behind_since = began if self._dirty else None
        if consumer is self._consumer:
            for tp, (offset, _) in payload.items():
                self._floor[tp] = max(offset, self._floor.get(tp, 0))


def _now() -> float:
    return asyncio.get_running_loop().time()
