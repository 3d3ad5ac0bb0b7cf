"""How far a partition is done, who works on the rest, and how a commit's metadata says both.

A commit holds an offset and up to 4,096 characters. The offset is the lowest that is not done; the
characters list the others that are not, who runs them, and how often that ended badly. Whoever
takes the partition next so knows what to run, what still runs elsewhere, and what to be wary of.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice, pairwise
from typing import Final

__all__ = ["IDLE", "MAX_METADATA", "Progress", "Start", "decode", "encode"]

MAX_METADATA: Final = 4096
"""UTF-16 units of metadata a broker accepts (``offset.metadata.max.bytes``)."""
_PREFIX: Final = "o2."
_MOST_UNCLEAN: Final = 7
_MANY_RUNS: Final = 64
_STATE_BITS: Final = 5
"""Two flags and three bits of a count; above them stands the number of the runner."""


@dataclass(frozen=True, slots=True)
class Start:
    """What is known of the work on one record that is not done.

    ``runner`` is the incarnation (one life of one process) that has it, or nobody. ``resting``: it
    waits there for its time, so that nobody works on it. ``unclean`` counts the starts whose
    process died; ``cut`` tells that a call of it was cut off. ``turn`` counts the assignments of
    the runner up to the start: it may give a record up, have it again and run it anew.
    """

    runner: str | None = None
    unclean: int = 0
    resting: bool = False
    cut: bool = False
    turn: int = 0


IDLE: Final = Start()


@dataclass(frozen=True, slots=True)
class Progress:
    """A partition's state as a commit holds it.

    Offsets below ``low`` are done; of those from ``low`` up to, not including, ``high`` exactly
    ``incomplete`` (ascending; the first is ``low``) are not. ``starts`` tells of each of these, or
    is empty when nothing is known of any; ``writer`` is the incarnation that owns the partition,
    nobody after a clean end. Two are equal when they tell the same offsets done.
    """

    low: int
    high: int
    incomplete: tuple[int, ...] = ()
    starts: tuple[Start, ...] = field(default=(), compare=False)
    writer: str | None = field(default=None, compare=False)

    def says_the_same(self, other: "Progress") -> bool:
        """Whether nothing at all differs."""
        mine = self.starts or (IDLE,) * len(self.incomplete)
        theirs = other.starts or (IDLE,) * len(other.incomplete)
        return self == other and mine == theirs and self.writer == other.writer


_Runner = tuple[str, int]
"""An incarnation, or nobody, and its turn."""


def encode(progress: Progress) -> str:
    """The commit metadata: empty when there is nothing to say beyond the offset."""
    if not progress.incomplete and progress.writer is None:
        return ""
    runs = [(start, len(list(same))) for start, same in groupby(progress.starts)]
    writer = (progress.writer or "", 0)
    runners = [writer, *dict.fromkeys((start.runner or "", start.turn) for start, _ in runs)]
    raw = bytearray(_varint(len(runners)))
    for runner, turn in runners:
        name = runner.encode()
        raw += _varint(len(name)) + name + _varint(turn)
    raw += _states(runs, runners)
    raw += _varint(progress.high - progress.low)
    raw += _deltas([after - before for before, after in pairwise(progress.incomplete)])
    return _PREFIX + base64.b64encode(raw).decode()


def decode(low: int, metadata: str | None) -> Progress:
    """Read a commit back. Raises ``ValueError`` when the metadata is not ours."""
    if not metadata:
        return Progress(low, low)
    if not metadata.startswith(_PREFIX):
        raise ValueError("commit metadata of an unknown form")
    try:
        raw = base64.b64decode(metadata[len(_PREFIX) :], validate=True)
        return _read(low, iter(raw))
    except (binascii.Error, StopIteration, IndexError, UnicodeDecodeError) as error:
        raise ValueError("commit metadata is damaged") from error


def _read(low: int, raw: Iterator[int]) -> Progress:
    # Not in comprehensions or generators: in those a StopIteration would change its meaning.
    runners: list[_Runner] = []
    for _ in range(_next_varint(raw)):
        length = _next_varint(raw)
        name = bytes(islice(raw, length))
        if len(name) < length:
            raise ValueError("commit metadata is damaged")
        runners.append((name.decode(), _next_varint(raw)))
    starts = _read_states(raw, runners)
    span = _next_varint(raw)
    deltas = list(_varints(raw))
    incomplete = [low] if span else []
    for delta in deltas:
        incomplete.append((incomplete or [low])[-1] + delta)
    wrong_count = bool(starts) and len(starts) != len(incomplete)
    if wrong_count or 0 in deltas or (incomplete and incomplete[-1] >= low + span):
        raise ValueError("commit metadata is damaged")
    return Progress(low, low + span, tuple(incomplete), tuple(starts), runners[0][0] or None)


def _states(runs: Sequence[tuple[Start, int]], runners: Sequence[_Runner]) -> bytes:
    """Of each offset its state: as runs of the same, or as a number for each, what is shorter.

    Runs are nearly always a few bytes, but where states alternate they outgrow the metadata.
    """
    in_runs = bytearray(_varint(len(runs)))
    for start, count in runs:
        in_runs += _varint(count) + _varint(_packed(start, runners))
    if len(runs) < _MANY_RUNS:
        return b"\0" + in_runs
    states = list(dict.fromkeys(start for start, _ in runs))
    width = (len(states) - 1).bit_length()
    numbers = [f"{states.index(start):0{width}b}" * count for start, count in runs]
    bits = "1" + "".join(numbers)  # the first keeps the zeros after it
    each = int(bits, 2).to_bytes((len(bits) + 7) // 8)
    numbered = bytearray(_varint(len(states)))
    for start in states:
        numbered += _varint(_packed(start, runners))
    numbered += _varint(len(each)) + each
    return min(b"\0" + in_runs, b"\1" + numbered, key=len)


def _read_states(raw: Iterator[int], runners: Sequence[_Runner]) -> list[Start]:
    found: list[Start] = []
    form = next(raw)
    if form > 1:
        raise ValueError("commit metadata is damaged")
    if form == 0:
        for _ in range(_next_varint(raw)):
            count, packed = _next_varint(raw), _next_varint(raw)
            if count > MAX_METADATA:
                raise ValueError("commit metadata is damaged")
            found += [_unpacked(packed, runners)] * count
        return found
    states: list[Start] = []
    for _ in range(_next_varint(raw)):
        states.append(_unpacked(_next_varint(raw), runners))
    width = (len(states) - 1).bit_length()
    bits = f"{int.from_bytes(bytes(islice(raw, _next_varint(raw)))):b}"[1:]
    if not width or len(bits) % width:
        raise ValueError("commit metadata is damaged")
    for at in range(0, len(bits), width):
        found.append(states[int(bits[at : at + width], 2)])
    return found


def _packed(start: Start, runners: Sequence[_Runner]) -> int:
    # Who stands first is the writer: the rest of the list tells all who run something, and nobody.
    number = runners.index((start.runner or "", start.turn), 1)
    unclean = min(start.unclean, _MOST_UNCLEAN)
    return number << _STATE_BITS | unclean << 2 | start.resting << 1 | start.cut


def _unpacked(packed: int, runners: Sequence[_Runner]) -> Start:
    runner, turn = runners[packed >> _STATE_BITS]
    return Start(
        runner=runner or None,
        turn=turn,
        unclean=packed >> 2 & _MOST_UNCLEAN,
        resting=bool(packed & 2),
        cut=bool(packed & 1),
    )


def _deltas(numbers: Sequence[int]) -> bytes:
    """As :func:`_varint` of each; nearly always each is one byte."""
    if max(numbers, default=0) < 0x80:
        return bytes(numbers)
    return b"".join(map(_varint, numbers))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _next_varint(raw: Iterator[int]) -> int:
    number = shift = 0
    while (byte := next(raw)) >= 0x80:
        number |= (byte & 0x7F) << shift
        shift += 7
    return number | byte << shift


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
