"""The tracker of a partition against plain sets: nothing lost, nothing run twice, no step back."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outlast.core.progress import MAX_METADATA, Progress, decode, encode
from outlast.core.watermark import FULL, Watermark


def a_watermark(*open_: int, high: int = 10) -> Watermark:
    """A tracker as a new owner begins it: these offsets are to do, the others below high done."""
    return Watermark(Progress(open_[0] if open_ else high, high, open_))


def running(*offsets: int) -> Watermark:
    """A tracker in which these offsets run, and all others up to the highest are done."""
    watermark = Watermark(Progress(0, 0))
    for offset in offsets:
        watermark.admit(offset)
    return watermark


def test_offsets_that_end_in_order_raise_the_low_one_by_one() -> None:
    watermark = running(0, 1, 2)
    lows = []
    for offset in (0, 1, 2):
        watermark.done(offset)
        lows.append(watermark.low)

    assert lows == [1, 2, 3]


def test_offsets_that_end_out_of_order_wait_for_the_lowest() -> None:
    watermark = running(0, 1, 2, 3)
    lows = []
    for offset in (2, 1, 3, 0):
        watermark.done(offset)
        lows.append(watermark.low)

    assert lows == [0, 0, 0, 4]


@pytest.mark.parametrize(
    ("open_", "offset", "taken"),
    [
        ((4, 7), 4, True),
        ((4, 7), 7, True),
        # done: below the low, or between two that are not
        ((4, 7), 3, False),
        ((4, 7), 5, False),
        ((4, 7), 10, True),
        # what is skipped on the way up is complete
        ((4, 7), 25, True),
    ],
)
def test_an_offset_is_taken_when_it_is_not_done(
    open_: tuple[int, ...], offset: int, taken: bool
) -> None:
    watermark = a_watermark(*open_)

    assert watermark.admit(offset) is taken
    assert watermark.running == taken


def test_an_offset_that_runs_is_not_taken_again() -> None:
    watermark = running(5)

    assert not watermark.admit(5)
    assert watermark.running == 1


def test_skipped_offsets_count_as_done() -> None:
    watermark = running(3, 9)
    watermark.done(3)

    assert watermark.progress() == Progress(9, 10, (9,))
    assert [watermark.is_done(offset) for offset in (0, 3, 8, 9, 10)] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_an_offset_given_up_is_as_if_it_had_never_been_taken() -> None:
    watermark = running(0, 1, 2)
    watermark.release(1)

    assert watermark.position == 1
    assert watermark.running == 2
    assert watermark.progress() == Progress(0, 3, (0, 1, 2))
    assert watermark.admit(1)


def test_ends_that_nobody_runs_change_nothing() -> None:
    watermark = running(0, 1)
    watermark.done(1)
    watermark.done(1)
    watermark.release(1)
    watermark.release(99)
    watermark.done(99)

    assert watermark.running == 1
    assert watermark.progress() == Progress(0, 2, (0,))


@pytest.mark.parametrize(
    ("watermark", "position"),
    [
        (running(), 0),
        (running(0, 1), 2),
        (a_watermark(4, 7), 4),
        (a_watermark(), 10),
    ],
)
def test_reading_goes_on_at_the_lowest_that_is_neither_done_nor_running(
    watermark: Watermark, position: int
) -> None:
    assert watermark.position == position


@pytest.mark.parametrize(
    ("mine", "committed", "expected"),
    [
        # they did what I had not begun
        (Progress(2, 6, (2, 4)), Progress(4, 6, (4, 5)), Progress(4, 6, (4,))),
        # I did what they have not seen done
        (Progress(5, 6, (5,)), Progress(2, 6, (2, 5)), Progress(5, 6, (5,))),
        # they went further
        (Progress(2, 6, (2, 4)), Progress(4, 9, (4, 7)), Progress(4, 9, (4, 7))),
        # they went further and did all of mine
        (Progress(2, 6, (2, 4)), Progress(9, 9), Progress(9, 9)),
        # I went further
        (Progress(2, 9, (2, 7)), Progress(2, 6, (2, 4)), Progress(2, 9, (2, 7))),
        # I did all, also what stands open there
        (Progress(6, 6), Progress(2, 6, (2, 4)), Progress(6, 6)),
        (Progress(0, 0), Progress(0, 0), Progress(0, 0)),
    ],
)
def test_merging_takes_as_done_what_either_knows_done(
    mine: Progress, committed: Progress, expected: Progress
) -> None:
    watermark = Watermark(mine)
    watermark.merge(committed)

    assert watermark.progress() == expected


def test_what_runs_here_goes_on_running_after_a_merge() -> None:
    watermark = running(0, 1, 2)
    watermark.merge(Progress(1, 4, (1, 3)))

    assert watermark.running == 1
    assert not watermark.admit(1)
    assert watermark.position == 3


def test_what_the_log_no_longer_holds_is_closed_and_named() -> None:
    watermark = a_watermark(2, 4, 7)
    watermark.admit(4)
    gone = watermark.skip_below(5)

    assert gone == (2, 4)
    assert watermark.progress() == Progress(7, 10, (7,))


def test_nothing_is_closed_when_the_log_still_holds_all() -> None:
    watermark = a_watermark(2, 4, 7)

    assert watermark.skip_below(2) == ()
    assert watermark.low == 2


progresses = st.builds(
    lambda low, deltas, more: Progress(
        low,
        low + sum(deltas) + more,
        tuple(low + sum(deltas[:n]) for n in range(len(deltas) + 1)),
    ),
    low=st.integers(0, 2**62),
    deltas=st.lists(st.one_of(st.integers(1, 300), st.integers(1, 2**40)), max_size=60),
    more=st.integers(1, 2**40),
)


@given(progresses)
@example(Progress(0, 1, (0,)))
@example(Progress(0, 128, (0, 127)))
@example(Progress(0, 129, (0, 128)))
@example(Progress(0, 16_385, (0, 16_384)))
def test_what_is_committed_is_read_back(progress: Progress) -> None:
    assert decode(progress.low, encode(progress)) == progress


@pytest.mark.parametrize("metadata", ["", None])
def test_no_metadata_means_that_all_below_the_offset_is_done(metadata: str | None) -> None:
    assert decode(7, metadata) == Progress(7, 7)
    assert encode(Progress(7, 7)) == ""


@pytest.mark.parametrize(
    "metadata",
    [
        "x",
        "o1",
        "o1.",
        "o2.AQ==",
        "o1.AQ",
        "o1.A===",
        "o1.!!!!",
        "o1.AQ==\n",
        "o1.é",
        # a number without an end
        "o1.gA==",
        # nothing is open, yet the list is there
        "o1.AA==",
        # an offset twice
        "o1.BQA=",
        # an offset at the high end, which is not below it
        "o1.AgI=",
    ],
)
def test_damaged_metadata_is_a_value_error(metadata: str) -> None:
    with pytest.raises(ValueError):
        decode(0, metadata)


@given(
    st.one_of(
        st.text(max_size=40),
        st.text(alphabet="ABCDwxyz0189+/=", max_size=40).map(lambda tail: f"o1.{tail}"),
        st.binary(max_size=30).map(lambda raw: f"o1.{raw.hex()}"),
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


@pytest.mark.parametrize("gap", [1, 127, 128, 16_383, 16_384, 2_097_152, 2**40])
def test_admission_stops_before_the_metadata_is_too_long(gap: int) -> None:
    watermark = Watermark(Progress(0, 0))
    admitted = 0
    while not watermark.is_full and admitted < 10_000:
        watermark.admit(admitted * gap)
        admitted += 1

    assert watermark.is_full
    assert len(encode(watermark.progress())) <= MAX_METADATA


@given(
    gaps=st.lists(st.sampled_from([1, 200, 20_000, 2**22, 2**50]), min_size=1, max_size=4),
    ends=st.sampled_from([[False], [False, False, True], [False, True], [True, True, False]]),
    every=st.sampled_from([1, 7, 400, 5_000]),
)
@settings(max_examples=60, deadline=None)
def test_admission_stops_in_time_whatever_ends_and_is_committed_meanwhile(
    gaps: list[int], ends: list[bool], every: int
) -> None:
    watermark = Watermark(Progress(0, 0))
    offset = 0
    for step in range(2_500):
        if watermark.is_full:
            break
        offset += gaps[step % len(gaps)]
        watermark.admit(offset)
        if ends[step % len(ends)]:
            watermark.done(offset)
        if step % every == 0:
            watermark.encoded(encode(watermark.progress()))

    assert len(encode(watermark.progress())) <= MAX_METADATA


def test_ordinary_jobs_fill_a_partition_only_at_about_two_thousand() -> None:
    watermark = Watermark(Progress(0, 0))
    while not watermark.is_full:
        watermark.admit(watermark.high)
        watermark.encoded(encode(watermark.progress()))

    assert 2_000 <= watermark.running <= 2_500


def test_a_full_partition_takes_jobs_again_once_a_shorter_commit_is_known() -> None:
    watermark = Watermark(Progress(0, 0))
    while not watermark.is_full:
        watermark.admit(watermark.high)
    for offset in range(watermark.high):
        watermark.done(offset)
    watermark.encoded(encode(watermark.progress()))

    assert not watermark.is_full


def test_a_partition_taken_over_full_stays_full() -> None:
    offsets = tuple(range(2_400))
    progress = Progress(0, 2_400, offsets)

    assert len(encode(progress)) >= FULL
    assert Watermark(progress).is_full


class Partition(RuleBasedStateMachine):
    """One partition, two processes that own it in turn, and what is true of its offsets.

    ``ended`` is the truth: jobs whose next record is acknowledged, and offsets without a record.
    What each process knows is modelled by two plain sets, ``finished`` and ``runs``.
    """

    def __init__(self) -> None:
        """Begin with an empty log and the first process as its owner."""
        super().__init__()
        self.ended: set[int] = set()
        self.log_end = 0
        self.commit = (0, "")
        self.owner = 0
        self.trackers = [Watermark(Progress(0, 0)) for _ in range(2)]
        self.finished: list[set[int]] = [set(), set()]
        self.runs: list[set[int]] = [set(), set()]

    @property
    def mine(self) -> Watermark:
        return self.trackers[self.owner]

    @rule(count=st.integers(1, 5), hole=st.integers(0, 300))
    def append(self, count: int, hole: int) -> None:
        """The log grows, now and then behind offsets that hold no record."""
        self.ended |= set(range(self.log_end, self.log_end + hole))
        self.log_end += hole + count

    def _next(self) -> int:
        """The next record the owner reads: holes are skipped, as the broker does."""
        offset = self.mine.position
        while offset < self.log_end and offset in self.ended and not self._known(offset):
            offset += 1
        return offset

    def _known(self, offset: int) -> bool:
        return offset < self.mine.high

    @precondition(lambda self: self.mine.position < self.log_end and not self.mine.is_full)
    @rule()
    def admit_the_next(self) -> None:
        offset = self._next()
        if offset >= self.log_end:
            return
        high = self.mine.high

        assert offset not in self.finished[self.owner] | self.runs[self.owner]
        assert self.mine.admit(offset)
        self.finished[self.owner] |= set(range(high, offset))
        self.runs[self.owner].add(offset)

    @precondition(lambda self: self.mine.high > 0)
    @rule(data=st.data())
    def admit_what_was_read_before(self, data: st.DataObject) -> None:
        """Only what is neither done nor running is taken: a seek back repeats nothing."""
        offset = data.draw(st.integers(0, self.mine.high - 1))
        expected = offset not in self.finished[self.owner] | self.runs[self.owner]

        assert self.mine.admit(offset) is expected
        self.runs[self.owner] |= {offset} if expected else set()

    @rule(process=st.integers(0, 1), data=st.data())
    def end(self, process: int, data: st.DataObject) -> None:
        """A job ends, be it where the partition still is or where it was."""
        if not self.runs[process]:
            return
        offset = data.draw(st.sampled_from(sorted(self.runs[process])))
        self.trackers[process].done(offset)
        self.ended.add(offset)
        self.runs[process].remove(offset)
        self.finished[process].add(offset)

    @rule(process=st.integers(0, 1), data=st.data())
    def give_up(self, process: int, data: st.DataObject) -> None:
        if not self.runs[process]:
            return
        offset = data.draw(st.sampled_from(sorted(self.runs[process])))
        self.trackers[process].release(offset)
        self.runs[process].remove(offset)

    @rule()
    def acknowledge_a_commit(self) -> None:
        progress = self.mine.progress()
        metadata = encode(progress)

        assert progress.low >= self.commit[0]
        assert len(metadata) <= MAX_METADATA
        assert decode(progress.low, metadata) == progress or not metadata
        self.commit = (progress.low, metadata)
        self.mine.encoded(metadata)

    @rule()
    def hand_over(self) -> None:
        """The other process gets the partition, and still knows what it knew."""
        self.owner = 1 - self.owner
        self._take_over(decode(*self.commit))

    @rule()
    def crash(self) -> None:
        """The owner dies; what it ran and had not committed is to do again."""
        committed = decode(*self.commit)
        self.trackers[self.owner] = Watermark(committed)
        self.runs[self.owner] = set()
        self.finished[self.owner] = set(range(committed.high)) - set(committed.incomplete)

    def _take_over(self, committed: Progress) -> None:
        self.mine.merge(committed)
        there = set(range(committed.high)) - set(committed.incomplete)
        self.finished[self.owner] |= there
        self.runs[self.owner] -= there

    @invariant()
    def nothing_is_lost(self) -> None:
        """Whatever a tracker or a commit counts as done has ended."""
        low, metadata = self.commit
        committed = decode(low, metadata)

        assert set(range(committed.high)) - set(committed.incomplete) <= self.ended
        for tracker in self.trackers:
            assert {n for n in range(tracker.high) if tracker.is_done(n)} <= self.ended

    @invariant()
    def trackers_agree_with_the_sets(self) -> None:
        for tracker, finished, runs in zip(self.trackers, self.finished, self.runs, strict=True):
            undone = set(range(tracker.high)) - finished

            assert tracker.running == len(runs)
            assert tracker.progress().incomplete == tuple(sorted(undone))
            assert tracker.low == min(undone, default=tracker.high)
            assert tracker.position == min(undone - runs, default=tracker.high)

    def teardown(self) -> None:
        """In the end everything that was appended is served, and the low stands at the end."""
        for offset in sorted(self.runs[self.owner]):
            self.mine.done(offset)
            self.ended.add(offset)
        while (offset := self._next()) < self.log_end:
            assert self.mine.admit(offset)
            self.mine.done(offset)
            self.ended.add(offset)

        assert self.ended == set(range(self.log_end))
        assert self.mine.low == self.mine.high == self.mine.position


Partition.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestPartition = Partition.TestCase
