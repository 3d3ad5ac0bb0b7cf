"""Per partition: which offsets are done, in whatever order, and what may be committed.

Rules. The committed offset is the lowest one that is not done. Its metadata lists the other
offsets that are not done, so that whoever reads on from there takes exactly those. Every change
is monotonic: an offset that is done never becomes undone, so it does not matter who owned the
partition meanwhile, and two states of knowledge are merged by taking what either knows done.
"""

import base64
import binascii
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["FULL", "MAX_METADATA", "Progress", "Watermark", "decode", "encode"]

MAX_METADATA: Final = 4096
"""UTF-16 units of metadata a broker accepts (``offset.metadata.max.bytes``)."""
FULL: Final = 3072
"""Admission in a partition stops at this encoded size."""
_PREFIX: Final = "o1."
_NEXT: Final = 3
"""Characters that the next admission will most likely add: two bytes of delta in base64."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A partition's state as a commit holds it.

    Offsets below ``low`` are done; of those from ``low`` up to, not including, ``high`` exactly
    ``incomplete`` (ascending; the first is ``low``) are not.
    """

    low: int
    high: int
    incomplete: tuple[int, ...] = ()


def encode(progress: Progress) -> str:
    """The commit metadata: empty when nothing beyond the offset is known."""
    if not progress.incomplete:
        return ""
    raw = bytearray(_varint(progress.high - progress.low))
    last = progress.low
    for offset in progress.incomplete[1:]:
        raw += _varint(offset - last)
        last = offset
    return _PREFIX + base64.b64encode(raw).decode()


def decode(low: int, metadata: str | None) -> Progress:
    """Read a commit back. Raises ``ValueError`` when the metadata is not ours."""
    if not metadata:
        return Progress(low, low)
    if not metadata.startswith(_PREFIX):
        raise ValueError("commit metadata of an unknown form")
    try:
        numbers = list(_varints(base64.b64decode(metadata[len(_PREFIX) :], validate=True)))
    except binascii.Error as error:
        raise ValueError("commit metadata is damaged") from error
    if not numbers:
        raise ValueError("commit metadata is damaged")
    incomplete = [low]
    for delta in numbers[1:]:
        incomplete.append(incomplete[-1] + delta)
    if incomplete[-1] >= low + numbers[0] or 0 in numbers:
        raise ValueError("commit metadata is damaged")
    return Progress(low, low + numbers[0], tuple(incomplete))


class Watermark:
    """The tracker of one partition; ascending offsets are admitted and end in any order."""

    def __init__(self, progress: Progress) -> None:
        """Begin where a commit stands."""
        self._high = progress.high
        # offset → whether its job is running here; ascending, and O(1) to drop from the front
        self._open: OrderedDict[int, bool] = OrderedDict.fromkeys(progress.incomplete, False)
        self._running = 0
        self._encoded = len(encode(progress))
        self._added = 0

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
        """Whether offsets that are not done and do not run here are to be read again."""
        return len(self._open) > self._running

    @property
    def position(self) -> int:
        """Where to read on: the lowest offset that is neither done nor running here."""
        return next((offset for offset, running in self._open.items() if not running), self._high)

    def is_done(self, offset: int) -> bool:
        """Whether nothing is left to do for the offset."""
        return offset < self._high and offset not in self._open

    def admit(self, offset: int) -> bool:
        """Take the offset to run it; false when it is done or runs already.

        Offsets skipped on the way up count as complete: the caller has made sure that the
        broker has no records there.
        """
        if offset >= self._high:
            # Bytes of the delta and, once, of a longer span; a third more in base64.
            self._added += 3 + (offset - self._high).bit_length() // 2
            self._high = offset + 1
        elif self._open.get(offset) is not False:
            return False
        self._open[offset] = True
        self._running += 1
        return True

    def done(self, offset: int) -> None:
        """The job's next record is acknowledged. This order is the delivery guarantee."""
        if self._open.pop(offset, False):
            self._running -= 1

    def release(self, offset: int) -> None:
        """The job was given up unfinished: it is as if it had never been admitted."""
        if self._open.get(offset):
            self._open[offset] = False
            self._running -= 1

    def progress(self) -> Progress:
        """What to commit now."""
        return Progress(self.low, self._high, tuple(self._open))

    def encoded(self, metadata: str) -> None:
        """The size the last progress had; admissions from now on are added to it."""
        self._encoded = len(metadata)
        self._added = 0

    def merge(self, committed: Progress) -> None:
        """Take over what a commit knows: done is what is done here or there."""
        known = set(committed.incomplete)
        kept = {
            offset: running
            for offset, running in self._open.items()
            if offset >= committed.high or offset in known
        }
        gained = (offset for offset in committed.incomplete if offset >= self._high)
        lost = sum(running for offset, running in self._open.items() if offset not in kept)
        self._open = OrderedDict([*kept.items(), *((offset, False) for offset in gained)])
        self._running -= lost
        self._high = max(self._high, committed.high)
        self.encoded(encode(self.progress()))

    def skip_below(self, start: int) -> tuple[int, ...]:
        """Close what lies below the log's start and is gone; returns those offsets."""
        gone = tuple(offset for offset in self._open if offset < start)
        for offset in gone:
            self.done(offset)
        return gone


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varints(raw: Iterable[int]) -> Iterator[int]:
    number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("commit metadata is damaged")
