"""Per partition: which offsets are done, in whatever order, and what may be committed.

Rules. The committed offset is the lowest one that is not done. Its metadata lists the other
offsets that are not done, so that whoever reads on from there takes exactly those. Every change
is monotonic: an offset that is done never becomes undone, so it does not matter who owned the
partition meanwhile, and two states of knowledge are merged by taking what either knows done.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from outlast.core.progress import IDLE, Progress, Start, encode
from outlast.core.quarantine import POISON

__all__ = ["FULL", "End", "Watermark"]

FULL: Final = 3072
"""Admission in a partition stops at this encoded size."""
_NEXT: Final = 3
"""Characters that the next admission will most likely add: two bytes of delta in base64."""
_RUN: Final = 8
"""Characters that a change of one offset's state adds at most: it splits one run into three."""


class End(Enum):
    """How a record that was lent came back from who ran it."""

    DONE = auto()
    RELEASED = auto()
    CUT = auto()


class Watermark:
    """The tracker of one partition; ascending offsets are admitted and end in any order."""

    def __init__(self, progress: Progress, me: str = "") -> None:
        """Begin where a commit stands.

        Args:
            progress: as committed; what others run stays with them until :meth:`settle`.
            me: this process's incarnation, which is the runner of what is admitted here.
        """
        self._me = me
        self.begin_turn(0)
        self._high = progress.high
        # ascending, and O(1) to drop from the front
        self._open: OrderedDict[int, Start] = OrderedDict(self._theirs(progress))
        self._running = 0
        self._lent = sum(start.runner is not None for start in self._open.values())
        self._encoded = len(encode(progress))
        self._added = 0
        self.starts = 0
        """Counts the starts here, so that a commit can be known to name all up to one of them."""

    def begin_turn(self, turn: int) -> None:
        """What is admitted from now on belongs to this assignment of the process."""
        # One value for nearly all: what is the same object is also encoded as one run, fast.
        self._admitted = Start(runner=self._me, turn=turn)
        self._resting = replace(self._admitted, resting=True)

    @property
    def low(self) -> int:
        """The offset to commit: the lowest that is not done."""
        return next(iter(self._open), self._high)

    @property
    def high(self) -> int:
        """One above the highest offset ever admitted."""
        return self._high

    @property
    def running(self) -> int:
        """How many jobs run here."""
        return self._running

    @property
    def lent(self) -> int:
        """How many jobs others still run."""
        return self._lent

    @property
    def is_full(self) -> bool:
        """Whether one more admission might not fit the metadata any more.

        The size is estimated from above, and measured only when the estimate says full.
        """
        if self._encoded + self._added + _NEXT < FULL:
            return False
        if self._added:
            self.encoded(encode(self.progress()))
        return self._encoded + _NEXT >= FULL

    def may_admit(self, offset: int) -> bool:
        """Whether there is room for it; what the metadata lists already adds nothing to it."""
        return offset < self._high or not self.is_full

    @property
    def has_waiting(self) -> bool:
        """Whether offsets that are not done and that nobody runs are to be read again."""
        return len(self._open) > self._running + self._lent

    @property
    def position(self) -> int:
        """Where to read on: the lowest offset that is neither done nor run by anybody."""
        idle = (offset for offset, start in self._open.items() if start.runner is None)
        return next(idle, self._high)

    @property
    def lowest_lent(self) -> int:
        """The lowest offset that somebody else runs; else where nothing was admitted yet."""
        lent = (o for o, start in self._open.items() if start.runner not in (None, self._me))
        return next(lent, self._high)

    def is_done(self, offset: int) -> bool:
        """Whether nothing is left to do for the offset."""
        return offset < self._high and offset not in self._open

    def is_lent(self, offset: int) -> bool:
        """Whether somebody else runs it."""
        start = self._open.get(offset, IDLE)
        return start.runner is not None and start.runner != self._me

    def start(self, offset: int) -> Start:
        """What is known of the work on it."""
        return self._open.get(offset, IDLE)

    def admit(self, offset: int) -> bool:
        """Take the offset to run it; false when it is done, or somebody runs it.

        Offsets skipped on the way up count as complete: the caller has made sure that the
        broker has no records there.
        """
        if offset >= self._high:
            # Bytes of the delta and, once, of a longer span; a third more in base64.
            self._added += 3 + (offset - self._high).bit_length() // 2
            self._high = offset + 1
            self._open[offset] = self._admitted
        else:
            start = self._open.get(offset)
            if start is None or start.runner is not None:
                return False
            self._added += _RUN
            self._open[offset] = replace(
                start, runner=self._me, turn=self._admitted.turn, resting=False
            )
        self._running += 1
        self.starts += 1
        return True

    def rest(self, offset: int) -> None:
        """It waits here for its time: nobody works on it."""
        self._change(offset, resting=True)

    def work(self, offset: int) -> None:
        """Its time has come: that is a start."""
        self._change(offset, resting=False)
        self.starts += 1

    def _change(self, offset: int, *, resting: bool) -> None:
        start = self._open.get(offset)
        if start is None or start.runner != self._me:
            return
        plain = start is self._admitted or start is self._resting
        alike = self._resting if resting else self._admitted
        self._open[offset] = alike if plain else replace(start, resting=resting)
        self._added += _RUN

    def done(self, offset: int) -> None:
        """The job's next record is acknowledged. This order is the delivery guarantee."""
        start = self._open.pop(offset, None)
        if start is not None:
            self._count(start, -1)

    def release(self, offset: int, *, cut: bool = False) -> None:
        """The job was given up unfinished: it is as if it had never been admitted.

        ``cut`` remembers that a call may have been under way.
        """
        start = self._open.get(offset)
        if start is not None and start.runner == self._me:
            self._give_up(offset, start, cut=cut)

    def returned(self, offset: int, by: str, turn: int, end: End) -> bool:
        """Who ran it tells how it ended; false when it was not (or no more) lent to them."""
        start = self._open.get(offset)
        if by == self._me or start is None or (start.runner, start.turn) != (by, turn):
            return False
        if end is End.DONE:
            self.done(offset)
        else:
            self._give_up(offset, start, cut=end is End.CUT)
        return True

    def settle(self, is_live: Callable[[str], bool]) -> bool:
        """Take back what nobody runs any more; true when some process died over it.

        What rests moves with its partition, and what rested counts against nobody.
        """
        was_unclean = False
        for offset, start in self.foreign():
            dead = not is_live(start.runner or "")
            if dead or start.resting:
                self._give_up(offset, start, unclean=dead and not start.resting)
                was_unclean |= dead
        return was_unclean

    def call_in(self) -> int:
        """Take back all that is lent: who has it is alive and does not end; returns how many."""
        lent = self.foreign()
        for offset, start in lent:
            self._give_up(offset, start, unclean=start.unclean < POISON - 1)
        return len(lent)

    def foreign(self) -> list[tuple[int, Start]]:
        runners = (None, self._me)
        return [each for each in self._open.items() if each[1].runner not in runners]

    def _give_up(
        self, offset: int, start: Start, *, cut: bool = False, unclean: bool = False
    ) -> None:
        self._count(start, -1)
        self._open[offset] = Start(unclean=start.unclean + unclean, cut=start.cut or cut)
        self._added += _RUN

    def _count(self, start: Start, change: int) -> None:
        if start.runner == self._me:
            self._running += change
        elif start.runner is not None:
            self._lent += change

    def progress(self) -> Progress:
        """What to commit now."""
        starts = tuple(self._open.values())
        return Progress(self.low, self._high, tuple(self._open), starts, self._me or None)

    def encoded(self, metadata: str) -> None:
        """The size the last progress had; admissions from now on are added to it."""
        self._encoded = len(metadata)
        self._added = 0

    def merge(self, committed: Progress) -> None:
        """Take over what a commit knows: done is what is done here or there.

        What runs here stays here; of the rest the commit knows better who runs it.
        """
        known = dict(self._theirs(committed))
        merged: OrderedDict[int, Start] = OrderedDict()
        for offset, start in self._open.items():
            if offset >= committed.high or offset in known:
                merged[offset] = self._merged(start, known.get(offset, start))
        merged.update((o, start) for o, start in known.items() if o >= self._high)
        self._open = merged
        self._running = self._lent = 0
        for start in merged.values():
            self._count(start, 1)
        self._high = max(self._high, committed.high)
        self.encoded(encode(self.progress()))

    def _merged(self, ours: Start, theirs: Start) -> Start:
        """What runs here stays here; what only rests here is whose the commit says it is.

        That a call was cut is never forgotten, even where the commit could not say it any more.
        """
        elsewhere = theirs.runner not in (None, self._me)
        if ours.runner == self._me and not (ours.resting and elsewhere):
            return ours
        return replace(theirs, cut=True) if ours.cut and not theirs.cut else theirs

    def doubt(self, offset: int) -> None:
        """A call of it was cut here, and the commit does not know: nobody runs it now."""
        start = self._open.get(offset)
        if start is not None and start.runner is None:
            self._open[offset] = replace(start, cut=True)
            self._added += _RUN

    def _theirs(self, committed: Progress) -> "list[tuple[int, Start]]":
        """What a commit says of others: what it says of this process, this process knows better."""
        starts = committed.starts or (IDLE,) * len(committed.incomplete)
        return [
            (offset, _nobodys(start) if start.runner == self._me else start)
            for offset, start in zip(committed.incomplete, starts, strict=True)
        ]

    def skip_below(self, start: int) -> tuple[int, ...]:
        """Close what lies below the log's start and is gone; returns those offsets."""
        gone = tuple(offset for offset in self._open if offset < start)
        for offset in gone:
            self.done(offset)
        return gone


def _nobodys(start: Start) -> Start:
    return Start(unclean=start.unclean, cut=start.cut)
