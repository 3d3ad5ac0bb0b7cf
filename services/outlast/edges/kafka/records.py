"""The records of a feed's partitions: which are done, which run here, which run elsewhere."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from aiokafka import TopicPartition

from outlast.core.progress import IDLE, Progress, Start
from outlast.core.watermark import End, Watermark
from outlast.edges.kafka.commit import Committer
from outlast.edges.logs import Log

__all__ = ["NOBODY", "Records"]

log = Log(__name__)

Tell = Callable[[TopicPartition, int, int, End], None]
NOBODY: Final[frozenset[TopicPartition]] = frozenset()


class Records:
    """A tracker for each partition, and what follows from every change in one of them."""

    def __init__(
        self, name: str, me: str, tell: Tell, signed: Callable[[], None] = lambda: None
    ) -> None:
        """Begin without partitions.

        Args:
            name: of the stage, for the logs.
            me: this process's incarnation.
            tell: is told what ended here, and in which turn it began, of a partition that is not,
                or may not be, ours.
            signed: is called when more may start.
        """
        self.me = me
        self.marks: dict[TopicPartition, Watermark] = {}
        self.owned: frozenset[TopicPartition] = NOBODY
        self.is_between = True
        """All was taken away, or nothing given yet: who owns what is being agreed upon."""
        self.commits = Committer(self.marks, signed)
        self.version = 0
        """Counts what changes who runs what for whom."""
        self._name = name
        self._tell = tell
        self._turn = 0
        self._lives: Counter[TopicPartition] = Counter()

    @property
    def borrowed(self) -> int:
        """How many records of partitions owned here run elsewhere."""
        return sum(self.marks[tp].lent for tp in self.owned)

    @property
    def away(self) -> int:
        """How many records run here of partitions that others own."""
        return sum(mark.running for tp, mark in self.marks.items() if tp not in self.owned)

    def may_admit(self, tp: TopicPartition, offset: int) -> bool:
        """Whether the partition's commit metadata has room for it."""
        return self.marks[tp].may_admit(offset)

    def may_take(self, tp: TopicPartition) -> bool:
        """Whether more may be read: new records, or old ones that nobody runs."""
        mark = self.marks[tp]
        return mark.has_waiting or not mark.is_full

    def is_done(self, tp: TopicPartition, offset: int) -> bool:
        """Whether nothing is left to do for it."""
        return self.marks[tp].is_done(offset)

    def start(self, tp: TopicPartition, offset: int) -> Start:
        """What is known of the work on it."""
        mark = self.marks.get(tp)
        return IDLE if mark is None else mark.start(offset)

    def is_here(self, tp: TopicPartition, offset: int) -> bool:
        """Whether this process has it: not when the partition was another's in between."""
        return self.start(tp, offset).runner == self.me

    def life(self, tp: TopicPartition) -> int:
        """How often the partition's log began anew: what was admitted before ends for nobody."""
        return self._lives[tp]

    def admit(self, tp: TopicPartition, offset: int) -> bool:
        """Take it to run it; false when it is done, or runs already."""
        self.commits.touched(tp)
        return self.marks[tp].admit(offset)

    def rest(self, tp: TopicPartition, offset: int) -> None:
        """It waits here for its time; with its partition it moves."""
        if tp in self.marks:
            self.marks[tp].rest(offset)
            if not self.is_between:  # else its partition would look as if it were not handed over
                self.commits.touched(tp)

    def work(self, tp: TopicPartition, offset: int) -> None:
        """Its time has come."""
        self.marks[tp].work(offset)
        self.commits.touched(tp)

    def done(self, tp: TopicPartition, offset: int, life: int) -> None:
        """What follows from it is acknowledged; ``life`` is of its admission."""
        if life != self._lives[tp]:
            return
        turn = self.start(tp, offset).turn
        if tp in self.marks:  # not when another owner has ended it too, and owns it again
            self.marks[tp].done(offset)
        self._ended(tp, offset, turn, End.DONE)

    def release(self, tp: TopicPartition, offset: int, life: int, *, cut: bool = False) -> bool:
        """It was given up unfinished; true when it is for this process to read it again.

        ``cut`` tells that a call of it may have been under way.
        """
        mark = self.marks.get(tp)
        if life != self._lives[tp] or mark is None:
            return False
        turn = mark.start(offset).turn
        mark.release(offset, cut=cut)
        # Told even of what rests, and so is not lent: the last commit may not have said yet that
        # it does.
        self._ended(tp, offset, turn, End.CUT if cut else End.RELEASED)
        return tp in self.owned

    def _ended(self, tp: TopicPartition, offset: int, turn: int, end: End) -> None:
        if tp in self.owned and not self.is_between:
            self.commits.touched(tp)
        else:
            # Whose it is, or will be, holds it as lent: also when that turns out to be us.
            self._tell(tp, offset, turn, end)
            self.version += 1

    def returned(self, tp: TopicPartition, offset: int, by: str, turn: int, end: End) -> bool:
        """Who ran it says how it ended; false when that concerns nothing here."""
        if tp not in self.owned or not self.marks[tp].returned(offset, by, turn, end):
            return False
        self.commits.touched(tp)
        self.version += 1
        return True

    def merge(self, tp: TopicPartition, committed: Progress) -> None:
        """Take over what is committed, except what went back: then it is believed instead."""
        mark, floor = self.marks.get(tp), self.commits.floor(tp)
        if mark is not None and floor is not None and committed.low < floor:
            log.error("feed.offset_went_back", feed=self._name, topic=tp.topic, to=committed.low)
            self._lives[tp] += 1
            self.commits.restarted(tp)
            mark = None
        if mark is None:
            self.marks[tp] = Watermark(committed, self.me)
        else:
            mark.merge(committed)

    def own(self, assigned: frozenset[TopicPartition]) -> None:
        """These are ours now; of what others own nothing is kept but what runs here."""
        for tp in [tp for tp, mark in self.marks.items() if not mark.running]:
            if tp not in assigned:
                del self.marks[tp]
        self.owned = assigned
        self.version += 1
        self._turn += 1
        for tp in assigned:
            self.marks[tp].begin_turn(self._turn)

    def begin_anew(self, tp: TopicPartition, start: int) -> None:
        """The partition's log is another: its offsets mean other records, none of them done."""
        self.marks[tp] = Watermark(Progress(start, start), self.me)
        self.marks[tp].begin_turn(self._turn)
        self._lives[tp] += 1
        self.version += 1
        self.commits.restarted(tp)

    def skip_below(self, tp: TopicPartition, start: int) -> None:
        """What lies below the log's start is gone."""
        self.marks[tp].skip_below(start)
        self.version += 1
        self.commits.touched(tp)

    def any_full(self, partitions: Iterable[TopicPartition]) -> bool:
        """Whether one of them has no room for one more in its commit metadata."""
        return any(self.marks[tp].is_full for tp in partitions)
