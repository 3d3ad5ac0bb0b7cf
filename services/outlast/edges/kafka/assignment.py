"""The partitions a feed owns: what is done in each, where to read on, when to let go.

Kafka's eager rebalance takes everything away and gives it back, about 30 ms later when nobody
waits. So on revoke: start nothing more, one commit, return. On assign: load what is committed,
merge it with what is known here, seek to the first offset that is neither done nor running, open.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from outlast.core.errors import TopicsError, WatchdogTripped
from outlast.core.watermark import Progress, Watermark, decode
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Record
from outlast.edges.kafka import private
from outlast.edges.kafka.commit import Committer
from outlast.edges.kafka.holes import Holes
from outlast.edges.logs import Log

__all__ = ["Assignment"]

log = Log(__name__)

REVOKE_SECONDS: Final = 1.0
LOAD_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 0.2
LOOK_BACK_MS: Final = 120_000
"""Who takes a partition anew re-reads so much of it, to know the copies of what was done."""


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One feed's partitions, through all rebalances."""

    def __init__(
        self,
        *,
        name: str,
        consumer: Callable[[], AIOKafkaConsumer],
        clock: BrokerClock,
        begin_at: str | None = None,
        look_back_ms: int = LOOK_BACK_MS,
    ) -> None:
        """Prepare for the first assignment.

        Args:
            name: of the stage, for the logs.
            consumer: gives the current consumer.
            clock: for the look-back and for back-offs that end when the process drains.
            begin_at: ``earliest`` or ``latest`` where nothing is committed; ``None`` refuses.
            look_back_ms: how much of a partition gained anew is read again.
        """
        self.name = name
        self.changed = asyncio.Event()
        self.epoch = 0
        self.fatal: BaseException | None = None
        self.closed_since: float | None = None
        self._consumer = consumer
        self._clock = clock
        self._begin_at = begin_at
        self._look_back_ms = look_back_ms
        self._marks: dict[TopicPartition, Watermark] = {}
        self._holes = Holes(name)
        self._open: tuple[TopicPartition, ...] = ()
        self._owned: frozenset[TopicPartition] = frozenset()
        self._watchers: list[Callable[[], None]] = []
        self.commits = Committer(self._marks)

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The consumer that is connected now."""
        return self._consumer()

    @property
    def owned(self) -> frozenset[TopicPartition]:
        """The partitions of the last assignment."""
        return self._owned

    @property
    def is_open(self) -> bool:
        """Whether records may be admitted at all."""
        return bool(self._open) and not self.commits.evicted and not self.commits.is_stale

    def open_partitions(self) -> Iterable[TopicPartition]:
        """Partitions that may admit more now: new records, or old ones that were not done."""
        if not self.is_open:
            return []
        return [tp for tp in self._open if self._marks[tp].has_waiting or not self.is_full(tp)]

    def may_admit(self, tp: TopicPartition, offset: int) -> bool:
        """Whether the partition's commit metadata has room for it."""
        return self._marks[tp].may_admit(offset)

    @property
    def any_full(self) -> bool:
        """Whether some partition's commit metadata has no room for one more."""
        return any(self.is_full(tp) for tp in self._open)

    def is_full(self, tp: TopicPartition) -> bool:
        """Whether the partition's commit metadata has no room for one more."""
        return self._marks[tp].is_full

    def is_done(self, tp: TopicPartition, offset: int) -> bool:
        """Whether nothing is left to do for it."""
        return self._marks[tp].is_done(offset)

    def admit(self, tp: TopicPartition, offset: int) -> bool:
        """Take it to run it; false when it runs already."""
        return self._marks[tp].admit(offset)

    def done(self, tp: TopicPartition, offset: int) -> None:
        """What follows from it is acknowledged."""
        if tp in self._marks:  # not when another owner has ended it too, and owns it again
            self._marks[tp].done(offset)
            self.commits.touched(tp)

    def release(self, tp: TopicPartition, offset: int) -> None:
        """It was given up unfinished."""
        self._marks[tp].release(offset)

    async def ends(self) -> Mapping[TopicPartition, int]:
        """Where each owned partition ends now; nothing when that cannot be told."""
        if not self._open:
            return {}
        try:
            found: Mapping[TopicPartition, int] = await self.consumer.end_offsets(list(self._open))
        except KafkaError as error:
            log.warning("feed.ends_unknown", feed=self.name, error=type(error).__name__)
            return {}
        return found

    def watch(self, opened: Callable[[], None]) -> None:
        """Call ``opened()`` after every assignment."""
        self._watchers.append(opened)

    async def changed_within(self, seconds: float) -> None:
        """Return when something changed, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        except TimeoutError:
            return

    async def sleep(self, seconds: float) -> None:
        """Back off. Raises ``Released`` when the process drains meanwhile."""
        await self._clock.wait_until(self._clock.now() + int(seconds * 1000))

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Start nothing more, commit once, return: the group stands while this runs."""
        self._open = ()
        self.epoch += 1
        self.closed_since = asyncio.get_running_loop().time()
        await self.commits.once(REVOKE_SECONDS)
        self.commits.closed()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Load, merge, seek, open. A failure is kept for the feed: aiokafka only logs it."""
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._take_patiently(frozenset(assigned))
        except TopicsError as error:
            self.fatal = error
        except TimeoutError:
            self.fatal = WatchdogTripped(
                f"{self.name}: committed offsets could not be loaded within {LOAD_SECONDS:.0f} s"
            )
        self.changed.set()

    async def _take_patiently(self, assigned: frozenset[TopicPartition]) -> None:
        while True:
            try:
                return await self._take(assigned)
            except KafkaError as error:
                log.warning("feed.load_failed", feed=self.name, error=type(error).__name__)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _take(self, assigned: frozenset[TopicPartition]) -> None:
        consumer = self.consumer
        loaded, begun = await self._loaded(consumer, assigned)
        back = await self._look_back(consumer, assigned - self._owned)
        # From here on without a pause: nothing may be read between merging and seeking.
        for tp, progress in loaded.items():
            self._merge(tp, progress)
            position = self._marks[tp].position
            begin = min(position, back.get(tp, position))
            self._holes.expect(tp, begin)
            consumer.seek(tp, begin)
        self._forget_lost(assigned)
        self.commits.opened(consumer, loaded)
        for tp in begun:
            # Where it began counts from now on, whatever a later start would choose.
            self.commits.touched(tp)
        self._owned = assigned
        self._open = tuple(sorted(assigned))
        for opened in self._watchers:
            opened()
        self.epoch += 1
        self.closed_since = None
        log.info("feed.assigned", feed=self.name, partitions=len(assigned))

    async def _loaded(
        self, consumer: AIOKafkaConsumer, assigned: frozenset[TopicPartition]
    ) -> tuple[dict[TopicPartition, Progress], frozenset[TopicPartition]]:
        """What is committed; and for which partitions nothing was, so that they begin here."""
        if not assigned:
            return {}, assigned
        found = await private.committed(consumer, assigned)
        missing = assigned - found.keys()
        progress = {tp: self._read(tp, *each) for tp, each in found.items()}
        if missing:
            progress |= await self._begin(consumer, missing)
        return progress, missing

    def _read(self, tp: TopicPartition, offset: int, metadata: str) -> Progress:
        try:
            return decode(offset, metadata)
        except ValueError as error:
            # Reading all again repeats work; believing what cannot be read would lose some.
            log.error("feed.metadata_unreadable", feed=self.name, error=str(error))
            return Progress(offset, offset)

    async def _begin(
        self, consumer: AIOKafkaConsumer, missing: frozenset[TopicPartition]
    ) -> dict[TopicPartition, Progress]:
        """Where to begin without a committed offset: only an empty partition is beyond doubt."""
        starts = await consumer.beginning_offsets(list(missing))
        ends = await consumer.end_offsets(list(missing))
        doubtful = [tp for tp in missing if starts[tp] != ends[tp]]
        if doubtful and self._begin_at is None:
            names = ", ".join(sorted({tp.topic for tp in doubtful}))
            raise TopicsError(
                f"the {self.name} stage has no committed offset in {names}, and there are records. "
                "Run `outlast topics apply` before the first jobs, or say where to begin: "
                "--from earliest (all of it again) or --from latest (skip what is there)."
            )
        offsets = ends if self._begin_at == "latest" else starts
        return {tp: Progress(offsets[tp], offsets[tp]) for tp in missing}

    async def _look_back(
        self, consumer: AIOKafkaConsumer, gained: frozenset[TopicPartition]
    ) -> dict[TopicPartition, int]:
        if not gained or not self._look_back_ms:
            return {}
        since = self._clock.now() - self._look_back_ms
        found = await consumer.offsets_for_times(dict.fromkeys(gained, since))
        return {tp: each.offset for tp, each in found.items() if each is not None}

    def _merge(self, tp: TopicPartition, progress: Progress) -> None:
        mark, floor = self._marks.get(tp), self.commits.floor(tp)
        if mark is not None and floor is not None and progress.low < floor:
            log.error("feed.offset_went_back", feed=self.name, topic=tp.topic, to=progress.low)
            mark = None
        if mark is None:
            self._marks[tp] = Watermark(progress)
        else:
            mark.merge(progress)

    def _forget_lost(self, assigned: frozenset[TopicPartition]) -> None:
        """Nothing runs here any more of what others own: what is committed will tell the rest."""
        for tp in [tp for tp, mark in self._marks.items() if not mark.running]:
            if tp not in assigned:
                del self._marks[tp]

    async def without_holes(
        self, tp: TopicPartition, records: Sequence[Record]
    ) -> Sequence[Record]:
        """The fetched records, or none when some before them have to be read first.

        Of a partition that is not open nothing is taken: opening it seeks.
        """
        if tp not in self._open:
            return ()
        checked, lost = await self._holes.checked(self.consumer, tp, records)
        if lost is not None:
            self._marks[tp].skip_below(lost)
            self.commits.touched(tp)
        return checked
