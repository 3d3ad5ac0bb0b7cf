"""The commit's metadata: whatever is written is read back, and nothing else passes for it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outlast.core.progress import IDLE, MAX_METADATA, Progress, Start, decode, encode
from outlast.core.watermark import FULL, Watermark

ME: Final = "outlast-worker-7f9c5d6b8-x2x4q-12.0123abcd"
"""An incarnation with a long slot name, as a pod has it."""

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
runners = st.lists(names, min_size=1, max_size=12, unique=True).flatmap(
    lambda some: st.none() | st.sampled_from(some)
)
starts = st.builds(
    lambda runner, turn, **more: Start(runner=runner, turn=turn if runner else 0, **more),
    runner=runners,
    turn=st.integers(0, 300),
    unclean=st.integers(0, 7),
    resting=st.booleans(),
    cut=st.booleans(),
)
placed = st.builds(
    lambda low, deltas, more: Progress(
        low,
        low + sum(deltas) + more,
        tuple(low + sum(deltas[:n]) for n in range(len(deltas) + 1)),
    ),
    low=st.integers(0, 2**62),
    deltas=st.lists(st.one_of(st.integers(1, 300), st.integers(1, 2**40)), max_size=24),
    more=st.integers(1, 2**40),
)


def started(progress: Progress, kinds: list[Start], writer: str | None) -> Progress:
    """The same offsets, with these starts in turn."""
    each = tuple(kinds[n % len(kinds)] for n in range(len(progress.incomplete)))
    return replace(progress, starts=each, writer=writer)


progresses = st.builds(
    started, placed, st.lists(starts, min_size=1, max_size=12), st.none() | names
)


@dataclass(frozen=True)
class Mixed:
    """Offsets one after the other; ``runs`` tells of which kind each is, and some after it."""

    kinds: list[Start]
    runs: Sequence[int]
    in_a_row: int
    writer: str | None = None

    @property
    def progress(self) -> Progress:
        each = [
            self.kinds[run % len(self.kinds)] for run in self.runs for _ in range(self.in_a_row)
        ]
        return Progress(7, 7 + len(each), tuple(range(7, 7 + len(each))), tuple(each), self.writer)


in_both_forms = st.builds(
    Mixed,
    kinds=st.lists(starts, min_size=1, max_size=6),
    runs=st.binary(min_size=60, max_size=140),
    in_a_row=st.sampled_from([1, 2, 3, 20]),
    writer=st.none() | names,
)
"""So many runs that a number for each offset may be shorter: it is where the runs are short."""


@given(st.one_of(placed, progresses))
@example(Progress(0, 1, (0,)))
@example(Progress(0, 128, (0, 127)))
@example(Progress(0, 129, (0, 128)))
@example(Progress(0, 16_385, (0, 16_384)))
@example(Progress(7, 7, writer="a"))
@example(Progress(0, 2, (0, 1), (Start(runner="a"), Start(runner="b")), "a"))
@example(Progress(0, 2, (0, 1), (Start(runner="a", turn=1), Start(runner="a", turn=2)), "a"))
@example(Progress(0, 2, (0, 1), (Start(), Start(runner="a", resting=True)), "a"))
@example(Progress(0, 2, (0, 1), (Start(unclean=7, cut=True), IDLE)))
def test_what_is_committed_is_read_back(progress: Progress) -> None:
    assert decode(progress.low, encode(progress)).says_the_same(progress)


@given(in_both_forms)
def test_what_is_committed_is_read_back_however_the_states_are_mixed(mixed: Mixed) -> None:
    progress = mixed.progress

    assert decode(progress.low, encode(progress)).says_the_same(progress)


@given(progresses | in_both_forms, st.data())
def test_no_part_of_what_was_committed_passes_for_the_whole(
    committed: Progress | Mixed, data: st.DataObject
) -> None:
    progress = committed.progress if isinstance(committed, Mixed) else committed
    metadata = encode(progress)
    length = data.draw(st.integers(1, len(metadata) - 1))

    with pytest.raises(ValueError):
        decode(progress.low, metadata[:length])


@pytest.mark.parametrize("in_a_row", [1, 10])
def test_a_commit_cut_anywhere_is_refused(in_a_row: int) -> None:
    kinds = [Start("host-1.0123abcd"), Start("host-2.4567cdef", resting=True), Start(unclean=2)]
    metadata = encode(Mixed(kinds, range(100), in_a_row, "host-1.0123abcd").progress)

    for length in range(1, len(metadata)):
        with pytest.raises(ValueError):
            decode(7, metadata[:length])


def test_more_unclean_starts_than_can_be_told_are_the_most_that_can() -> None:
    read = decode(0, encode(Progress(0, 1, (0,), (Start(unclean=40, cut=True),))))

    assert read.starts == (Start(unclean=7, cut=True),)


@pytest.mark.parametrize("metadata", ["", None])
def test_no_metadata_means_that_all_below_the_offset_is_done(metadata: str | None) -> None:
    assert decode(7, metadata).says_the_same(Progress(7, 7))
    assert encode(Progress(7, 7)) == ""


@pytest.mark.parametrize(
    ("one", "other", "is_the_same"),
    [
        (Progress(0, 1, (0,)), Progress(0, 1, (0,), (IDLE,)), True),
        (Progress(0, 1, (0,)), Progress(0, 1, (0,), (Start(cut=True),)), False),
        (Progress(0, 1, (0,)), Progress(0, 1, (0,), writer="a"), False),
        (Progress(0, 1, (0,)), Progress(0, 2, (0,)), False),
    ],
)
def test_two_say_the_same_when_they_tell_the_same_offsets_starts_and_writer(
    one: Progress, other: Progress, is_the_same: bool
) -> None:
    assert one.says_the_same(other) is other.says_the_same(one) is is_the_same


def of(*raw: int) -> str:
    """Metadata of our form, with whatever bytes."""
    return "o2." + base64.b64encode(bytes(raw)).decode()


NAMES: Final = (1, 1, ord("a"), 0)
"""Only the writer: ``a``, of turn 0."""
NOBODY: Final = (1, 0, 0)
"""No writer, and nobody who runs anything."""
RUNS, NUMBERS = 0, 1
WHOLE: Final = (*NAMES, RUNS, 1, 2, 0, 5, 1)
"""One run of two that the writer has; up to 5; the second is one after the first."""
NUMBERED: Final = (*NAMES, NUMBERS, 2, 0, 1, 1, 0b1_01, 5, 1)
"""The first has the first of the two states, the other, whose call was cut, the second."""


def test_the_form_is_the_one_that_the_damages_below_start_from() -> None:
    read = decode(0, of(*WHOLE[:7], 0b1111, *WHOLE[8:]))

    start = Start("a", unclean=3, resting=True, cut=True)
    assert read.says_the_same(Progress(0, 5, (0, 1), (start, start), "a"))
    assert decode(0, of(*WHOLE)).starts == (Start("a"), Start("a"))
    numbered = Progress(0, 5, (0, 1), (Start("a"), Start("a", cut=True)), "a")
    assert decode(0, of(*NUMBERED)).says_the_same(numbered)


@pytest.mark.parametrize(
    "metadata",
    [
        "x",
        "o2",
        "o2.",
        "o2.AQ",
        "o2.A===",
        "o2.!!!!",
        of(*WHOLE) + "\n",
        "o2.é",
        # the form before it told who runs what
        "o1.AgE=",
        of(0, RUNS, 0, 0),  # no writer, not even nobody
        of(1, 2, ord("a")),  # a name shorter than it says
        of(1, 2, 0xFF, 0xFE, 0, RUNS, 0, 0),  # a name that is no text
        of(*[0xFF] * 20, 1),  # more names than there can be
        of(1, *[0xFF] * 20, 1),  # a name longer than anything
        of(*NOBODY, RUNS, 1, 1),  # a run of no state
        of(*NOBODY, RUNS, 1, 1, 1 << 5, 1),  # run by one who is not in the list
        of(*NOBODY, RUNS, 1, 1, *[0xFF] * 20, 1, 1),  # by one who can be in no list
        of(*NOBODY, RUNS, 1, 2, 0, 1),  # more starts than offsets
        of(*NOBODY, RUNS, 1, 1, 0, 5, 1),  # fewer
        of(*NOBODY, RUNS, 1, *[0xFF] * 20, 1, 0, 1),  # more than fit into the metadata
        of(*WHOLE[:-1], 0x81),  # a number without an end
        of(*NOBODY, RUNS, 0, 0x80),
        of(*NOBODY, RUNS, 0, 5, 0),  # an offset twice
        of(*NOBODY, RUNS, 0, 2, 2),  # an offset at the high end, which is not below it
        of(*NOBODY, RUNS, 0, 0, 1),  # nothing is open, yet the list is there
        of(*NOBODY, NUMBERS, 1, 0, 1, 0b1_00, 5, 1),  # of one state no numbers are written
        of(*NOBODY, NUMBERS, 0, 1, 0b1_00, 5, 1),  # nor of none
        of(*NOBODY, NUMBERS, 2, 0, 1, 1, 0b1_0, 5, 1),  # fewer numbers than offsets
        of(*NOBODY, NUMBERS, 2, 0, 1, 1, 0b1_000, 5, 1),  # more
        of(*NOBODY, NUMBERS, 3, 0, 1, 2, 1, 0b1_000, 5, 1),  # half a number
        of(*NOBODY, NUMBERS, 3, 0, 1, 2, 1, 0b1_0011, 5, 1),  # a number of no state
        of(*NOBODY, NUMBERS, 2, 0, 1, 9, 0b1_01, 5, 1),  # fewer bytes of them than it says
        of(*NOBODY, NUMBERS, 2, 0, 1 << 5, 1, 0b1_01, 5, 1),  # run by one who is not in the list
        of(*NOBODY, NUMBERS, *[0xFF] * 20, 1, 0),  # more states than there can be
    ],
)
def test_damaged_metadata_is_a_value_error(metadata: str) -> None:
    with pytest.raises(ValueError):
        decode(0, metadata)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """What was committed, with some bytes changed, put in or taken out."""
    committed = draw(progresses | in_both_forms)
    progress = committed.progress if isinstance(committed, Mixed) else committed
    raw = bytearray(base64.b64decode(encode(progress)[3:]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return of(*raw)


@given(
    st.one_of(
        damaged(),
        st.binary(max_size=60).map(lambda raw: of(*raw)),
        st.text(max_size=40),
        st.text(alphabet="ABCDwxyz0189+/=", max_size=40).map(lambda tail: f"o2.{tail}"),
    )
)
def test_damaged_metadata_never_raises_anything_else(metadata: str) -> None:
    try:
        progress = decode(100, metadata)
    except ValueError:
        return

    assert list(progress.incomplete) == sorted(set(progress.incomplete))
    assert all(progress.low <= offset < progress.high for offset in progress.incomplete)
    assert progress.incomplete[:1] in ((), (100,))
    assert len(progress.starts) in (0, len(progress.incomplete))


def test_two_thousand_in_flight_of_one_process_fit_before_a_partition_is_full() -> None:
    watermark = Watermark(Progress(10**12, 10**12), ME)
    for offset in range(10**12, 10**12 + 2_000):
        watermark.admit(offset)

    assert len(encode(watermark.progress())) < FULL
    assert not watermark.is_full


def test_a_partition_with_twenty_lenders_has_room_for_more() -> None:
    """Twenty lives of processes with forty calls each, in the order they were begun."""
    lent = tuple(Start(runner=f"{ME}{n:02}") for n in range(20) for _ in range(40))
    watermark = Watermark(Progress(0, 800, tuple(range(800)), lent), ME)
    while not watermark.is_full:
        watermark.admit(watermark.high)

    assert watermark.running >= 400
    assert len(encode(watermark.progress())) <= MAX_METADATA


STATES: Final = (
    Start(ME),
    Start(ME, resting=True),
    Start(f"{ME}9", unclean=2),
    Start(ME, turn=300, cut=True),
)


@pytest.mark.parametrize("kinds", [1, 2, 3, 4])
def test_whatever_becomes_of_what_was_admitted_fits_the_metadata(kinds: int) -> None:
    """A partition takes what fits while all is alike; then each may have another state."""
    watermark = Watermark(Progress(10**12, 10**12), ME)
    while not watermark.is_full:
        watermark.admit(watermark.high)
    progress = started(watermark.progress(), list(STATES[:kinds]), ME)

    assert watermark.running > 2_200
    assert len(encode(progress)) <= MAX_METADATA
    assert decode(progress.low, encode(progress)).says_the_same(progress)
