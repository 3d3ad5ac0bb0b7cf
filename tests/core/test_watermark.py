"""The tracker of a partition, and several owners of one: nothing lost, nothing run twice."""

from collections.abc import Callable
from typing import Final, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outlast.core.progress import IDLE, MAX_METADATA, Progress, Start, decode, encode
from outlast.core.quarantine import POISON
from outlast.core.watermark import FULL, End, Watermark
from outlast.edges.codec import Encoded
from outlast.edges.kafka.lending import Lending
from outlast.edges.kafka.lent import Lent
from outlast.edges.kafka.membership import Membership
from outlast.edges.kafka.records import NOBODY, Records


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


ME: Final = "host-1.0a0a0a0a"
THEM: Final = "host-2.0b0b0b0b"


def lent(*starts: Start, me: str = ME) -> Watermark:
    """A tracker as a new owner begins it, with an offset from 0 on for each of these starts."""
    return Watermark(Progress(0, len(starts), tuple(range(len(starts))), starts), me)


def test_what_others_run_is_neither_admitted_nor_read_again() -> None:
    watermark = lent(Start(THEM), IDLE, Start(THEM))
    admitted = [watermark.admit(offset) for offset in range(4)]

    assert admitted == [False, True, False, True]
    assert (watermark.running, watermark.lent) == (2, 2)
    assert (watermark.position, watermark.lowest_lent) == (4, 0)
    assert [watermark.is_lent(offset) for offset in range(4)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("end", "expected"),
    [(End.DONE, None), (End.RELEASED, IDLE), (End.CUT, Start(cut=True))],
)
def test_what_others_ran_comes_back_as_they_say(end: End, expected: Start | None) -> None:
    watermark = lent(Start(THEM))

    assert watermark.returned(0, THEM, 0, end)
    assert watermark.is_done(0) is (expected is None)
    assert watermark.start(0) == (expected or IDLE)
    assert (watermark.lent, watermark.has_waiting) == (0, expected is not None)


@pytest.mark.parametrize("by", [ME, "host-3.0c0c0c0c", ""])
def test_only_who_runs_it_can_say_how_it_ended(by: str) -> None:
    watermark = lent(Start(THEM))

    assert not watermark.returned(0, by, 0, End.DONE)
    assert not watermark.returned(7, THEM, 0, End.DONE)
    assert watermark.lent == 1


@pytest.mark.parametrize(
    ("start", "is_live", "left", "was_unclean"),
    [
        (Start(THEM), True, Start(THEM), False),
        (Start(THEM, cut=True), False, Start(unclean=1, cut=True), True),
        (Start(THEM, unclean=3), False, Start(unclean=4), True),
        # what rests moves with its partition, and its rest is not held against it
        (Start(THEM, resting=True, unclean=1), True, Start(unclean=1), False),
        (Start(THEM, resting=True), False, IDLE, True),
        (Start(unclean=2), False, Start(unclean=2), False),
    ],
)
def test_what_the_dead_had_and_what_rested_is_taken_back(
    start: Start, is_live: bool, left: Start, was_unclean: bool
) -> None:
    watermark = lent(start)

    assert watermark.settle(lambda runner: is_live and runner == THEM) is was_unclean
    assert watermark.start(0) == left


def test_what_a_process_had_before_the_commit_was_read_is_its_own_to_know() -> None:
    watermark = lent(Start(ME, unclean=1), Start(ME, resting=True))

    assert not watermark.settle(lambda _: False)
    assert [watermark.start(offset).runner for offset in (0, 1)] == [None, None]
    assert [watermark.start(offset).unclean for offset in (0, 1)] == [1, 0]
    assert watermark.lent == 0


def test_what_is_called_in_counts_as_unclean_but_never_as_poison() -> None:
    watermark = lent(*(Start(THEM, unclean=count) for count in range(POISON + 1)))

    assert watermark.call_in() == POISON + 1
    assert [watermark.start(offset).unclean for offset in range(POISON + 1)] == [1, 2, 3, 4, 4, 5]


def test_history_stays_with_a_record_through_starts_rests_and_releases() -> None:
    watermark = lent(Start(unclean=2, cut=True))
    watermark.admit(0)
    watermark.rest(0)
    resting = watermark.start(0)
    watermark.work(0)
    working = watermark.start(0)
    watermark.release(0)

    assert resting == Start(ME, unclean=2, resting=True, cut=True)
    assert working == Start(ME, unclean=2, cut=True)
    assert watermark.start(0) == Start(unclean=2, cut=True)


def test_a_release_after_a_cut_call_is_remembered() -> None:
    watermark = lent(IDLE)
    watermark.admit(0)
    watermark.release(0, cut=True)

    assert watermark.start(0) == Start(cut=True)


def test_neither_rest_nor_work_nor_release_touches_what_others_run() -> None:
    watermark = lent(Start(THEM), IDLE)
    for offset in (0, 1, 9):
        watermark.rest(offset)
        watermark.work(offset)
        watermark.release(offset, cut=True)

    assert watermark.progress().starts == (Start(THEM), IDLE)


def test_starts_are_counted_and_rests_are_none() -> None:
    watermark = running(0, 1)
    watermark.rest(0)
    before = watermark.starts
    watermark.work(0)

    assert (before, watermark.starts) == (2, 3)


def test_after_a_merge_the_commit_knows_better_who_runs_what_does_not_run_here() -> None:
    watermark = lent(Start(THEM), IDLE, IDLE, IDLE)
    watermark.admit(1)
    there = (IDLE, Start(THEM), Start(THEM, cut=True), Start(ME), Start(THEM))
    watermark.merge(Progress(0, 5, tuple(range(5)), there, THEM))

    assert watermark.progress().starts == (
        IDLE,
        Start(ME),
        Start(THEM, cut=True),
        IDLE,
        Start(THEM),
    )
    assert (watermark.running, watermark.lent) == (1, 2)


def test_a_cut_call_is_not_forgotten_in_a_merge_with_a_commit_that_could_not_say_it() -> None:
    watermark = lent(IDLE, IDLE, IDLE)
    for offset in range(3):
        watermark.admit(offset)
    for offset in (0, 1):
        watermark.release(offset, cut=True)
    watermark.merge(Progress(0, 3, (0, 1, 2), (Start(ME), Start(THEM), Start(ME)), ME))

    assert watermark.progress().starts == (Start(cut=True), Start(THEM, cut=True), Start(ME))


def test_what_only_rests_here_is_whose_the_commit_says_it_is() -> None:
    watermark = lent(IDLE, IDLE, IDLE)
    for offset in range(3):
        watermark.admit(offset)
    for offset in (0, 1):
        watermark.rest(offset)
    there = (Start(THEM), Start(ME, resting=True), Start(THEM))
    watermark.merge(Progress(0, 3, (0, 1, 2), there, THEM))

    assert [watermark.start(offset).runner for offset in range(3)] == [THEM, ME, ME]
    assert (watermark.running, watermark.lent) == (2, 1)


def test_what_is_heard_of_a_cut_call_later_is_kept_unless_somebody_runs_it() -> None:
    watermark = lent(IDLE, Start(THEM), Start(unclean=2))
    for offset in (0, 1, 2, 9):
        watermark.doubt(offset)

    assert watermark.progress().starts == (
        Start(cut=True),
        Start(THEM),
        Start(unclean=2, cut=True),
    )


TP: Final = TopicPartition("outlast.work.deepseek", 0)


class Member:
    """A process's claims in the group: only who lives is asked of it here."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.live: frozenset[str] = frozenset()

    def is_live(self, incarnation: str) -> bool:
        return incarnation in self.live


class Process:
    """One life of one process: its real records and lending, and what truly runs in it."""

    def __init__(self, incarnation: str) -> None:
        self.me = incarnation
        self.member = Member(incarnation)
        self.notes = Lending("outlast.lent", cast(Callable[[], AIOKafkaConsumer], None), _nowhere)
        self.lent = Lent(cast(Membership, self.member), self.notes)
        self.records = Records("work", incarnation, self.lent.tell)
        self.lent.begin(self.records, lambda _: None)
        self.works: set[int] = set()
        self.rests: set[int] = set()
        self.ended: set[int] = set()
        self.read = 0
        self.is_frozen = False

    @property
    def runs(self) -> set[int]:
        return self.works | self.rests

    @property
    def mark(self) -> Watermark | None:
        return self.records.marks.get(TP)

    @property
    def is_open(self) -> bool:
        return TP in self.records.owned and not self.records.is_between

    def release(self, offset: int, *, cut: bool = False) -> None:
        self.works.discard(offset)
        self.rests.discard(offset)
        self.records.release(TP, offset, 0, cut=cut)


async def _nowhere(note: Encoded) -> None:
    raise AssertionError(note)


class Pool(RuleBasedStateMachine):
    """Three processes between which one partition moves, while notes and assignments are late.

    ``ended`` is the truth: the jobs whose next record is acknowledged. ``excused`` are those that
    may be run once more: what was in flight in, or ended unseen by, a process that died or froze.
    """

    def __init__(self) -> None:
        """Begin with an empty log that nobody owns."""
        super().__init__()
        self.lives = 0
        self.pool = [self._born(slot) for slot in range(3)]
        self.log_end = 2
        self.ended: set[int] = set()
        self.excused: set[int] = set()
        self.commit = (0, "")
        self.topic: list[Encoded] = []
        self.next_owner: Process | None = None
        self.claimant: Process | None = None
        """Who owned it last and handed nothing over, while nobody has had it since."""
        self.to_assign: list[Process] = []

    def _born(self, slot: int) -> Process:
        self.lives += 1
        return Process(f"host-{slot}.{self.lives:08x}")

    def _awake(self) -> list[Process]:
        return [each for each in self.pool if not each.is_frozen]

    def _owner(self) -> Process | None:
        return next((each for each in self._awake() if each.is_open), None)

    def _done_there(self) -> set[int]:
        committed = decode(*self.commit)
        return set(range(committed.high)) - set(committed.incomplete)

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        self.log_end += count

    # --- the owner's feed ---

    def _startable(self, owner: Process) -> list[int]:
        assert owner.mark is not None
        idle = [o for o in range(self.log_end) if owner.mark.start(o).runner is None]
        return [o for o in idle if o <= owner.mark.high and not owner.mark.is_done(o)]

    def _start(self, owner: Process, offset: int) -> None:
        others = [each for each in self._awake() if each is not owner]

        assert owner.records.admit(TP, offset)
        assert offset not in self.ended or offset in self.excused, "run again"
        # Who only rests there, and has not learnt yet that it moved, may not go on before it has.
        assert offset in self.excused or not any(offset in each.works for each in others), "twice"
        owner.works.add(offset)

    @precondition(lambda self: self._owner() is not None)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        owner = self._owner()
        assert owner is not None
        if startable := self._startable(owner):
            self._start(owner, data.draw(st.sampled_from(startable)))

    @precondition(lambda self: self._owner() is not None)
    @rule()
    def acknowledge_a_commit(self) -> None:
        owner = self._owner()
        assert owner is not None
        self._commit(owner)

    def _commit(self, owner: Process) -> None:
        assert owner.mark is not None
        before = self._done_there()
        progress = owner.mark.progress()
        metadata = encode(progress)
        self.commit = (progress.low, metadata)

        assert decode(*self.commit).says_the_same(progress)
        assert before <= self._done_there()

    # --- what runs, wherever its partition is ---

    def _one(
        self, data: st.DataObject, kind: Callable[[Process], set[int]]
    ) -> tuple[Process, int] | None:
        found = [(each, offset) for each in self._awake() for offset in sorted(kind(each))]
        return data.draw(st.sampled_from(found)) if found else None

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if (found := self._one(data, lambda each: each.works)) is not None:
            process, offset = found
            process.works.remove(offset)
            process.ended.add(offset)
            self.ended.add(offset)
            process.records.done(TP, offset, 0)

    @rule(data=st.data(), cut=st.booleans())
    def give_up(self, data: st.DataObject, cut: bool) -> None:
        if (found := self._one(data, lambda each: each.works)) is not None:
            process, offset = found
            process.release(offset, cut=cut)

    @rule(data=st.data())
    def rest(self, data: st.DataObject) -> None:
        if (found := self._one(data, lambda each: each.works)) is not None:
            process, offset = found
            process.works.remove(offset)
            process.rests.add(offset)
            process.records.rest(TP, offset)

    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """As who rests does it: once it is agreed who owns what, and only where it is owned."""
        if (found := self._one(data, lambda each: each.rests)) is None:
            return
        process, offset = found
        if process.is_open:
            process.rests.remove(offset)
            process.works.add(offset)
            process.records.work(TP, offset)
        elif not process.records.is_between:
            process.release(offset)

    # --- notes ---

    @rule(slot=st.integers(0, 2))
    def write_notes(self, slot: int) -> None:
        process = self.pool[slot]
        if process.is_frozen:
            return
        untold, process.notes._untold = process.notes._untold, {}
        self.topic += [process.notes._encoded(*where, ends) for where, ends in untold.items()]

    @rule(slot=st.integers(0, 2), count=st.integers(1, 3))
    def read_notes(self, slot: int, count: int) -> None:
        if not self.pool[slot].is_frozen:
            self._read(self.pool[slot], count)

    def _read(self, process: Process, count: int) -> None:
        for note in self.topic[process.read : process.read + count]:
            process.read += 1
            process.notes._heed(note.key, note.value)

    # --- the group ---

    @precondition(lambda self: not self.to_assign)
    @rule(slot=st.none() | st.integers(0, 2), is_acknowledged=st.booleans())
    def revoke(self, slot: int | None, is_acknowledged: bool) -> None:
        """All is taken away; what is not handed over stays where it is."""
        owner = self._owner()
        for process in self._awake():
            process.records.is_between = True
        chosen = None if slot is None else self.pool[slot]
        if owner is not None and is_acknowledged:
            self._commit(owner)
        self.next_owner = owner if owner is not None and not is_acknowledged else chosen
        if self.claimant is not None and not self.claimant.is_frozen:
            self.next_owner = self.claimant  # the assignor leaves it where it was
        self.to_assign = self._awake()

    @precondition(lambda self: self.to_assign)
    @rule(data=st.data())
    def assign(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.to_assign))
        self._assign(process)

    def _assign(self, process: Process) -> None:
        self.to_assign.remove(process)
        process.member.live = frozenset(each.me for each in self._awake())
        records = process.records
        owns = process is self.next_owner
        if owns:
            self.claimant = None
            progress = decode(*self.commit)
            self._read(process, len(self.topic))
            records.merge(TP, progress)
            process.lent.settle(TP, progress)
        records.own(frozenset({TP}) if owns else NOBODY)
        records.is_between = False
        if not owns:
            for offset in sorted(process.rests):
                process.release(offset)

    @precondition(lambda self: not self.to_assign)
    @rule(slot=st.integers(0, 2), is_told=st.booleans())
    def move(self, slot: int, is_told: bool = False) -> None:
        """The whole of a rebalance at once, as most are; all notes may be written after it."""
        self.revoke(slot, is_acknowledged=True)
        while self.to_assign:
            self._assign(self.to_assign[0])
        for writer in range(3 if is_told else 0):
            self.write_notes(writer)

    # --- what is always true ---

    @invariant()
    def what_counts_as_done_has_ended(self) -> None:
        assert self._done_there() <= self.ended
        for process in self.pool:
            if process.mark is not None:
                done = {o for o in range(process.mark.high) if process.mark.is_done(o)}
                assert done <= self.ended

    @invariant()
    def one_owner_at_most_is_open(self) -> None:
        assert sum(process.is_open for process in self._awake()) <= 1

    @invariant()
    def counters_agree_with_a_count(self) -> None:
        for process in self.pool:
            mark = process.mark
            if mark is None:
                continue
            starts = dict(zip(mark.progress().incomplete, mark.progress().starts, strict=True))
            mine = {o for o, start in starts.items() if start.runner == process.me}
            theirs = {o for o, start in starts.items() if start.runner not in (None, process.me)}
            idle = starts.keys() - mine - theirs

            assert (mark.running, mark.lent) == (len(mine), len(theirs))
            assert mark.has_waiting is bool(idle)
            assert mark.position == min(idle, default=mark.high)
            assert mark.lowest_lent == min(theirs, default=mark.high)
            assert mine <= process.runs

    def teardown(self) -> None:
        """In the end all is told, one process owns the partition, and serves what is left."""
        for slot in range(3):
            self.pool[slot].is_frozen = False
        while self.to_assign:
            self._assign(self.to_assign[0])
        for process in self.pool:
            for offset in sorted(process.runs):
                process.release(offset)
        for slot in range(3):
            self.write_notes(slot)
        for slot in (1, 0):  # who slept claims what it had, and hands it over only then
            self.revoke(slot, is_acknowledged=True)
            while self.to_assign:
                self._assign(self.to_assign[0])
        for offset in self._startable(self.pool[0]):
            self._start(self.pool[0], offset)
        mark = self.pool[0].mark
        assert mark is not None
        while mark.high < self.log_end:
            self._start(self.pool[0], mark.high)
        for offset in sorted(self.pool[0].works):
            self.ended.add(offset)
            self.pool[0].records.done(TP, offset, 0)

        assert self.ended == set(range(self.log_end))
        assert mark.low == mark.high == mark.position == self.log_end


class MortalPool(Pool):
    """As above, and processes die, freeze, and are not waited for any longer."""

    @precondition(lambda self: self._owner() is not None)
    @rule()
    def call_in(self) -> None:
        """Who has it is alive and does not end: from then on it may be run twice."""
        owner = self._owner()
        assert owner is not None and owner.mark is not None
        self.excused |= {offset for offset, _ in owner.mark.foreign()}
        owner.lent._call_in_all(TP)

    @rule(slot=st.integers(0, 2))
    def die(self, slot: int) -> None:
        """And come back at once, as another incarnation."""
        self._excuse(self.pool[slot])
        self._leave_the_group(self.pool[slot])
        if self.claimant is self.pool[slot]:
            self.claimant = None
        self.pool[slot] = self._born(slot)
        if self.to_assign:
            self.to_assign.append(self.pool[slot])

    @rule(slot=st.integers(0, 2))
    def freeze(self, slot: int) -> None:
        """Stand still for longer than a session: the group goes on without it."""
        process = self.pool[slot]
        if len(self._awake()) > 1 and not process.is_frozen:
            self._excuse(process)
            if process.is_open or (self.to_assign and process is self.next_owner):
                self.claimant = process if TP in process.records.owned else None
            self._leave_the_group(process)
            process.is_frozen = True
            process.records.is_between = True

    @precondition(lambda self: not self.to_assign)
    @rule(slot=st.integers(0, 2))
    def thaw(self, slot: int) -> None:
        """It finds that it was put out, and joins again; what it ran, it runs on."""
        self.pool[slot].is_frozen = False

    def _excuse(self, process: Process) -> None:
        self.excused |= process.works | process.rests | (process.ended - self._done_there())

    def _leave_the_group(self, process: Process) -> None:
        if process in self.to_assign:
            self.to_assign.remove(process)
        if process is self.next_owner:
            self.next_owner = None


Pool.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
MortalPool.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestPool = Pool.TestCase
TestMortalPool = MortalPool.TestCase


def _pool_of_one_job() -> Pool:
    """The first process owns the partition and runs its only job."""
    pool = Pool()
    pool.log_end = 1
    Pool.move(pool, 0)
    pool._start(pool.pool[0], 0)
    return pool


@pytest.mark.parametrize("third", [1, 2])
def test_a_note_of_an_earlier_turn_does_not_give_away_what_runs_again(third: int) -> None:
    pool = _pool_of_one_job()
    lender = pool.pool[0]
    lender.works.remove(0)
    lender.rests.add(0)
    lender.records.rest(TP, 0)
    Pool.move(pool, 1)  # what rests is let go of, and a note says so
    Pool.write_notes(pool, 0)
    Pool.move(pool, 0)
    pool._start(lender, 0)
    Pool.move(pool, third)
    mark = pool.pool[third].mark

    assert mark is not None
    assert mark.is_lent(0)


def test_what_ended_here_is_not_run_again_though_nobody_has_read_of_it() -> None:
    pool = _pool_of_one_job()
    lender = pool.pool[0]
    Pool.move(pool, 1)
    lender.works.remove(0)
    pool.ended.add(0)
    lender.records.done(TP, 0, 0)  # its note is not written yet
    Pool.move(pool, 1)
    Pool.move(pool, 0)

    assert lender.mark is not None
    assert lender.mark.is_done(0)
