"""The partitions a feed owns: what is done in each, where to read on, when to let go.

Kafka's eager rebalance takes everything away and gives it back, about 30 ms later when nobody
waits. So on revoke: start nothing more, one commit, return. On assign: load what is committed,
merge it with what is known here, seek to the first offset that is neither done nor running, open.
What runs here of a partition that another owns by then is lent to this process.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from outlast.core.errors import TopicsError, WatchdogTripped
from outlast.core.progress import Progress
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Record
from outlast.edges.kafka import loading, private
from outlast.edges.kafka.holes import Holes
from outlast.edges.kafka.lent import Lent
from outlast.edges.kafka.loading import LOOK_BACK_MS, BeginAt
from outlast.edges.kafka.records import Records
from outlast.edges.logs import Log

__all__ = ["Assignment"]

log = Log(__name__)

REVOKE_SECONDS: Final = 1.0
LOAD_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 0.2
SETTLING_SECONDS: Final = 5.0
"""After an unclean end each record starts only once a commit says so, for this long."""


class Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One feed's partitions, through all rebalances."""

    def __init__(
        self,
        *,
        name: str,
        consumer: Callable[[], AIOKafkaConsumer],
        clock: BrokerClock,
        begin_at: BeginAt | None = None,
        look_back_ms: int = LOOK_BACK_MS,
        lent: Lent | None = None,
    ) -> None:
        """Prepare for the first assignment.

        Args:
            name: of the stage, for the logs.
            consumer: gives the current consumer.
            clock: for the look-back and for back-offs that end when the process drains.
            begin_at: ``earliest`` or ``latest`` where nothing is committed; ``None`` refuses.
            look_back_ms: how much of a partition gained anew is read again.
            lent: what others run of it; without, nobody is known to run anything.
        """
        self.name = name
        self.changed = asyncio.Event()
        self.epoch = 0
        self.assigned = 0
        """How often the group has given partitions, or none, since the process began."""
        self.fatal: BaseException | None = None
        self.closed_since: float | None = None
        self.generations: deque[tuple[float, int]] = deque(maxlen=8)
        self._consumer = consumer
        self._clock = clock
        self._begin_at = begin_at
        self._look_back_ms = look_back_ms
        self.holes = Holes(name)
        self._open: tuple[TopicPartition, ...] = ()
        self._settling_until = 0.0
        self._watchers: list[Callable[[], None]] = []
        self._steady = asyncio.Event()
        self._returned: set[TopicPartition] = set()
        self._committed: frozenset[TopicPartition] = frozenset()
        self.lent = lent or Lent.none()
        self.records = Records(name, self.lent.me, self.lent.tell, self.changed.set)
        self.commits = self.records.commits
        self.lent.begin(self.records, self.read_again)

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The consumer that is connected now."""
        return self._consumer()

    @property
    def owned(self) -> frozenset[TopicPartition]:
        """The partitions of the last assignment."""
        return self.records.owned

    @property
    def is_open(self) -> bool:
        """Whether records may be admitted at all."""
        return bool(self._open) and self.commits.is_current

    @property
    def is_settling(self) -> bool:
        """Whether some process died over what is owned here now, a moment ago."""
        return self._settling_until > 0 and _now() < self._settling_until

    def open_partitions(self) -> Iterable[TopicPartition]:
        """Partitions that may admit more now: new records, or old ones that were not done."""
        if not self.is_open:
            return []
        unsigned = self.commits.unsigned
        return [tp for tp in self._open if tp not in unsigned and self.records.may_take(tp)]

    @property
    def any_full(self) -> bool:
        """Whether some partition's commit metadata has no room for one more."""
        return self.records.any_full(self._open)

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

    async def steady(self) -> None:
        """Return as soon as it is agreed who owns what."""
        await self._steady.wait()

    def watch(self, opened: Callable[[], None]) -> None:
        """Call ``opened()`` after every assignment, and when a partition's log began anew."""
        self._watchers.append(opened)

    def _tell_watchers(self) -> None:
        for opened in self._watchers:
            opened()

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
        self.closed_since = _now()
        self.records.is_between = True
        self._steady.clear()
        self.lent.revoked(self.owned)  # until the commit says better, whatever raises before
        await self.commits.once(REVOKE_SECONDS)
        self.lent.revoked(self.commits.not_handed_over())
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
        loaded = await loading.committed(consumer, assigned, self.name)
        absent = assigned - loaded.keys()
        # Where a commit was seen before, it has gone with its topic: this is another log.
        anew = await loading.begun(consumer, absent & self._committed, "earliest", self.name)
        begun = await loading.begun(consumer, absent - self._committed, self._begin_at, self.name)
        self._committed |= loaded.keys()
        begun |= anew
        loaded |= begun
        gained = assigned - self.owned if self._look_back_ms else frozenset[TopicPartition]()
        back = await loading.look_back(consumer, gained, self._clock.now() - self._look_back_ms)
        await self.lent.caught_up(loaded.values())
        # From here on without a pause: nothing may be read between merging and seeking.
        for tp, progress in loaded.items():
            if tp in anew:
                self._begin_anew(tp, progress.low)
            else:
                self._merge(tp, progress)
            self._seek(tp, back.get(tp))
        self.records.own(assigned)
        self.commits.opened(consumer, loaded)
        for tp in begun:
            # Where it began counts from now on, whatever a later start would choose.
            self.commits.touched(tp)
        self._opened(assigned)
        self.commits.begin()

    def _opened(self, assigned: frozenset[TopicPartition]) -> None:
        generation = private.generation(self.consumer)
        self._open = tuple(sorted(assigned - self.lent.opened(generation, assigned)))
        self.epoch += 1
        self.assigned += 1
        self.closed_since = None
        self.records.is_between = False
        self._steady.set()
        self.generations.append((_now(), generation))
        self._tell_watchers()
        log.info(
            "feed.assigned", feed=self.name, partitions=len(assigned), lent=self.records.borrowed
        )

    def _merge(self, tp: TopicPartition, progress: Progress) -> None:
        self.records.merge(tp, progress)
        if self.lent.settle(tp, progress):
            self._settling_until = _now() + SETTLING_SECONDS
            log.warning("feed.unclean_end", feed=self.name, topic=tp.topic, partition=tp.partition)

    def _seek(self, tp: TopicPartition, back: int | None = None) -> None:
        """Read from the first record that may have to be run, or whose copies must be known."""
        mark = self.records.marks[tp]
        begin = min(mark.position, mark.lowest_lent)
        begin = begin if back is None else min(begin, back)
        self.holes.expect(tp, begin)
        self.consumer.seek(tp, begin)

    def read_again(self, tp: TopicPartition) -> None:
        """Some record was taken back from who ran it; with it there may come many."""
        self._returned.add(tp)
        self.changed.set()

    def sought_back(self) -> Collection[TopicPartition]:
        """Seek to the records that were taken back; in which partitions, as what was read is void.

        Takes effect once: for the feed, between two fetches.
        """
        returned, self._returned = self._returned & set(self._open), set()
        for tp in returned:
            self._seek(tp)
        return returned

    async def without_holes(
        self, tp: TopicPartition, records: Sequence[Record]
    ) -> Sequence[Record]:
        """The fetched records, or none when some before them have to be read first.

        Of a partition that is not open nothing is taken: opening it seeks.
        """
        if tp not in self._open:
            return ()
        if self.holes.began_anew(tp, records[0].offset):
            self._begin_anew(tp, records[0].offset)
            self._tell_watchers()
        checked, lost = await self.holes.checked(self.consumer, tp, records)
        if lost is not None and tp in self._open:
            self.records.skip_below(tp, lost)
        return checked

    def _begin_anew(self, tp: TopicPartition, start: int) -> None:
        """The log ends below what was read of it: the topic was made anew, or lost its end.

        Its offsets mean other records now, so that nothing of what was done is done.
        """
        log.error(
            "feed.log_began_anew",
            feed=self.name,
            topic=tp.topic,
            partition=tp.partition,
            expected=self.holes.expected(tp),
            begins=start,
        )
        self.records.begin_anew(tp, start)
        self.lent.forget(tp)
        self.holes.expect(tp, start)


def _now() -> float:
    return asyncio.get_running_loop().time()
