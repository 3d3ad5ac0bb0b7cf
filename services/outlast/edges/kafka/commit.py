"""The one commit function: all partitions in one request, never backwards, never as a stranger.

``consumer.commit()`` is never used: it repeats an old request under a new generation and rewinds
whoever owns the partition by then. Here each request is built anew, in the same event-loop step
that checks membership, assignment and the floor, and a failed one is forgotten.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from outlast.core.errors import Released
from outlast.core.progress import MAX_METADATA, Progress, encode
from outlast.core.watermark import Watermark
from outlast.edges.kafka import private
from outlast.edges.kafka.recording import Recording
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


@dataclass(frozen=True, slots=True)
class _Said:
    """What one request says of a partition, and of how many starts it knows."""

    offset: int
    metadata: str
    starts: int
    mark: Watermark


class Committer:
    """Commits what is done, at most 50 ms behind, with at most one request outstanding."""

    def __init__(
        self, marks: Mapping[TopicPartition, Watermark], signed: Callable[[], None]
    ) -> None:
        """Watch the trackers of a feed; only partitions opened by :meth:`opened` are committed.

        ``signed()`` is called when a commit has said of some partitions that they are ours.
        """
        self._signed = signed
        self._marks = marks
        self._consumer: AIOKafkaConsumer | None = None
        self._ours: frozenset[TopicPartition] = frozenset()
        self._floor: dict[TopicPartition, int] = {}
        self._dirty: dict[TopicPartition, float] = {}
        """Since when something is done or started there that no commit says."""
        self._request: asyncio.Task[None] | None = None
        self._asked: dict[TopicPartition, float] = {}
        self._asked_since = 0.0
        self._named: dict[TopicPartition, int] = {}
        self._recording = Recording()
        self._ticked: float | None = None
        self._is_final = False
        self.evicted = False
        self.unsigned: frozenset[TopicPartition] = frozenset()
        """Of which partitions no commit says yet that they are ours: nothing may start there.

        A record that kills its process at once would else leave no trace of having done so.
        """

    def touched(self, tp: TopicPartition) -> None:
        """Something was done in the partition; of others' partitions nothing is committed."""
        if tp in self._ours and tp not in self._dirty:
            self._dirty[tp] = _now()

    @property
    def behind_seconds(self) -> float:
        """For how long something done or started has not been acknowledged as committed."""
        oldest = min(self._dirty.values(), default=None)
        if self._is_asking:
            oldest = min(oldest or self._asked_since, self._asked_since)
        return 0.0 if oldest is None else _now() - oldest

    @property
    def _is_asking(self) -> bool:
        return self._request is not None and not self._request.done()

    @property
    def is_stale(self) -> bool:
        """Whether nothing new may start: a crash now would repeat too much.

        Also when the tick has stood for so long: the process was stopped, or its loop was stuck,
        and whether it still is a member nobody can tell before a commit is acknowledged.
        """
        return self.behind_seconds > STALE_SECONDS or self._stood_seconds() > STALE_SECONDS

    @property
    def is_current(self) -> bool:
        """Whether the group is known to count on this member, and knows enough of its work."""
        return not self.evicted and not self.is_stale

    def _stood_seconds(self) -> float:
        return 0.0 if self._ticked is None else _now() - self._ticked

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
        self._named = {}
        ours = {tp: self._marks[tp].progress() for tp in loaded}
        now = _now()
        self._dirty = {tp: now for tp in loaded if not ours[tp].says_the_same(loaded[tp])}
        self.unsigned = frozenset(tp for tp in loaded if ours[tp].writer != loaded[tp].writer)
        self._recording.lose(self._ours)
        self._touch(self._recording.partitions, now)

    def restarted(self, tp: TopicPartition) -> None:
        """The partition's log began anew: what was committed of the old one binds nobody."""
        self._floor.pop(tp, None)
        self._named.pop(tp, None)
        self._recording.lose(self._ours - {tp})
        self.touched(tp)

    def _touch(self, partitions: Iterable[TopicPartition], since: float) -> None:
        """Something is not committed there since then, or longer."""
        for tp in partitions:
            self._dirty[tp] = min(since, self._dirty.get(tp, since))

    def closed(self) -> None:
        """No commit until the next assignment: it would wait behind our own JoinGroup."""
        self._consumer = None

    def not_handed_over(self) -> frozenset[TopicPartition]:
        """Of which partitions the last commit is not acknowledged: their next owner must wait."""
        asked = self._asked if self._is_asking else ()
        return frozenset((*self._dirty, *asked))

    async def recorded(self, tp: TopicPartition) -> None:
        """Return when a commit is acknowledged that names all that was started there so far.

        Raises ``Released`` when the partition is lost before.
        """
        if tp not in self._ours:
            raise Released
        self.touched(tp)
        await self._recording.named(tp, self._marks[tp].starts)

    async def run(self) -> None:
        """Commit every 50 ms what has changed, until cancelled."""
        self._ticked = _now()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self._stood_seconds() > STALE_SECONDS:
                self._doubt()
            self._ticked = _now()
            self.begin()

    def _doubt(self) -> None:
        """Time has passed unnoticed: nothing starts before one commit shows that we are still in.

        The tick itself was the gate until now; from here on the commit is.
        """
        log.warning("feed.stood", seconds=round(self._stood_seconds(), 1))
        if not self._ours:
            return
        self._touch(self._ours, self._ticked or _now())

    def begin(self) -> "asyncio.Task[None] | None":
        """Start a commit if something is dirty and none is outstanding; never cancel it."""
        if self._is_asking:
            return self._request
        payload = self._payload()
        if not payload:
            return None
        assert self._consumer is not None
        self._asked = {tp: self._dirty.pop(tp) for tp in payload}
        self._asked_since = min(self._asked.values())
        self._request = asyncio.ensure_future(self._commit(self._consumer, payload))
        return self._request

    async def once(self, seconds: float) -> None:
        """What is outstanding, and one more, as far as that goes in time."""
        end = _now() + seconds
        for _ in range(2):
            outstanding = self._is_asking
            request = self.begin()
            if request is not None:
                await asyncio.wait({request}, timeout=max(0.0, end - _now()))
            if not outstanding:
                return

    async def finish(self, seconds: float) -> bool:
        """As :meth:`flush`; it is the last word, and no incarnation owns the partitions after."""
        if self._consumer is not None:
            self._is_final = True
            self._touch(self._ours, _now())
        return await self.flush(seconds)

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

    def _payload(self) -> dict[TopicPartition, _Said]:
        """In one step with the send: membership, assignment, floor."""
        consumer = self._consumer
        if consumer is None or private.generation(consumer) < 0:
            return {}
        assigned = consumer.assignment()
        payload = {}
        for tp in self._dirty:
            mark = self._marks[tp]
            if tp in assigned and mark.low >= self._floor.get(tp, 0):
                said = self._said(mark)
                if len(said.metadata) <= MAX_METADATA:
                    payload[tp] = said
        return payload

    def _said(self, mark: Watermark) -> _Said:
        progress = mark.progress()
        if self._is_final:
            progress = replace(progress, writer=None)
        metadata = encode(progress)
        mark.encoded(metadata)
        return _Said(progress.low, metadata, mark.starts, mark)

    async def _commit(
        self, consumer: AIOKafkaConsumer, payload: dict[TopicPartition, _Said]
    ) -> None:
        committed = False
        try:
            await private.commit(
                consumer, {tp: (said.offset, said.metadata) for tp, said in payload.items()}
            )
            committed = True
        except EVICTED as error:
            log.warning("feed.evicted", error=type(error).__name__)
            self.evicted = True
            self.closed()
        except KafkaError as error:
            log.warning("feed.commit_failed", error=type(error).__name__)
        finally:
            if committed:
                self._succeeded(consumer, payload)
            else:
                self._failed()

    def _failed(self) -> None:
        for tp, since in self._asked.items():
            if tp in self._ours:
                self._touch((tp,), since)

    def _succeeded(
        self, consumer: AIOKafkaConsumer, payload: Mapping[TopicPartition, _Said]
    ) -> None:
        if consumer is not self._consumer:
            return
        for tp, said in payload.items():
            if self._marks.get(tp) is not said.mark:
                continue  # of a log, or a tracker, that was given up meanwhile
            self._floor[tp] = max(said.offset, self._floor.get(tp, 0))
            self._named[tp] = said.starts
        if self.unsigned:
            self.unsigned -= payload.keys()
            self._signed()
        self._recording.tell(self._named)


def _now() -> float:
    return asyncio.get_running_loop().time()
