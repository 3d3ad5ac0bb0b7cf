"""A process's share of a pool's permits: by the partitions it owns, counted at each rebalance."""

from dataclasses import dataclass, field
from typing import cast

import pytest
from aiokafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.limits import share as share_of
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.pool import Share


@dataclass
class Mark:
    """Of one partition: how many calls others still make of it, and how many are made here."""

    lent: int = 0
    running: int = 0


@dataclass
class Records:
    """The partitions that are owned here, or of which something still runs here."""

    marks: dict[TopicPartition, Mark] = field(default_factory=dict)
    version: int = 0


@dataclass
class Owned:
    """What a feed knows of its partitions."""

    owned: frozenset[TopicPartition]
    partitions: int = 4
    epoch: int = 0
    records: Records = field(default_factory=Records)

    @property
    def consumer(self) -> "Owned":
        return self

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """As a client does: of a topic that is gone it knows nothing."""
        return set(range(self.partitions)) or None

    def own(self, *numbers: int, topic: str = "work") -> None:
        self.owned = frozenset(TopicPartition(topic, number) for number in numbers)
        self.records = Records({tp: Mark() for tp in self.owned}, self.records.version + 1)
        self.epoch += 1

    def counts(self, marks: dict[int, Mark]) -> None:
        """Something was lent, or has come back."""
        more = {TopicPartition("work", number): mark for number, mark in marks.items()}
        self.records = Records({**self.records.marks, **more}, self.records.version + 1)


def test_the_share_follows_the_partitions_after_each_rebalance() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=10, most=1_000)
    shares = [share()]
    for numbers in ((0, 1, 2, 3), (0, 2), (1, 3), (3,), ()):
        owned.own(*numbers)
        shares.append(share())

    # 10 over 4 partitions: 3, 3, 2, 2
    assert shares == [0, 10, 5, 5, 2, 0]


def test_a_process_may_bound_its_share_and_counts_only_its_topic() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=1_000, most=100)
    owned.own(0, 1, 2, 3)
    bounded = share()
    owned.own(0, 1, 2, 3, topic="other")

    assert (bounded, share()) == (100, 0)


def test_the_share_is_counted_anew_only_when_something_moved_or_the_topic_has_grown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owned, counted = Owned(frozenset()), list[int]()
    share = Share(cast(Assignment, owned), "work", limit=10, most=1_000)
    count = share._counted

    def spied(partitions: int) -> int:
        counted.append(partitions)
        return count(partitions)

    monkeypatch.setattr(share, "_counted", spied)
    owned.own(0)
    before = {share() for _ in range(100)}
    owned.partitions = 5
    after = {share() for _ in range(100)}

    assert (before, after) == ({3}, {2})
    assert counted == [4, 5]


def test_a_lent_call_counts_where_its_partition_is_and_not_where_it_is_made() -> None:
    lender, borrower = Owned(frozenset()), Owned(frozenset())
    shares = [
        Share(cast(Assignment, owned), "work", limit=10, most=1_000) for owned in (lender, borrower)
    ]
    lender.own(0, 2)
    borrower.own(1, 3)
    before = [share() for share in shares]
    lender.counts({1: Mark(running=1), 3: Mark(running=1)})
    borrower.counts({1: Mark(lent=1), 3: Mark(lent=1)})
    meanwhile = [share() for share in shares]
    lender.counts({1: Mark(), 3: Mark()})
    borrower.counts({1: Mark(), 3: Mark()})

    # 2 calls run at the lender whose partitions are the borrower's: 10 in all, all the time
    assert (before, meanwhile, [share() for share in shares]) == ([5, 5], [7, 3], [5, 5])


def test_who_has_no_partition_left_keeps_permits_for_the_calls_it_still_makes() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=10, most=1_000)
    owned.counts({0: Mark(running=3), 2: Mark(running=1)})

    assert share() == 4


def test_more_borrowed_than_there_are_permits_is_no_permit_at_all() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=10, most=1_000)
    owned.own(3)
    owned.counts({3: Mark(lent=7)})

    assert share() == 0


def test_what_one_partition_has_lent_beyond_its_permits_takes_none_of_another() -> None:
    """The limit holds with them: who makes those calls keeps no more permits than they had."""
    lender, borrower = Owned(frozenset()), Owned(frozenset())
    shares = [
        Share(cast(Assignment, owned), "work", limit=10, most=1_000) for owned in (lender, borrower)
    ]
    lender.counts({3: Mark(running=7)})
    borrower.own(0, 1, 2, 3)
    borrower.counts({3: Mark(lent=7)})

    # 3, 3, 2 and none of the 2 of partition 3: those the lender has
    assert [share() for share in shares] == [2, 8]


def test_what_runs_here_of_partitions_that_are_owned_here_counts_no_second_time() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=10, most=1_000)
    owned.own(0, 1)
    owned.counts({0: Mark(running=3), 1: Mark(running=1)})

    assert share() == 6


def test_of_a_topic_that_is_gone_there_are_no_permits() -> None:
    owned = Owned(frozenset(), partitions=0)
    share = Share(cast(Assignment, owned), "work", limit=10, most=1_000)
    owned.own(0)

    assert share() == 0


def test_the_process_s_own_bound_holds_with_calls_that_are_lent_too() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=10, most=6)
    owned.own(0, 1)
    owned.counts({2: Mark(running=2), 3: Mark(running=2)})

    assert share() == 6


@pytest.mark.parametrize("permits", range(10))
@pytest.mark.parametrize("turn", range(9))
def test_the_parts_of_a_ramp_add_up_to_its_permits_whoever_owns_what(
    permits: int, turn: int
) -> None:
    workers = []
    for numbers in ((0, 3), (1,), (2,)):
        owned = Owned(frozenset())
        owned.own(*numbers)
        workers.append(Share(cast(Assignment, owned), "work", limit=100, most=1_000))

    assert sum(each.of_ramp(permits, turn) for each in workers) == permits


def test_a_single_permit_of_a_ramp_comes_to_each_partition_in_turn() -> None:
    owned = Owned(frozenset())
    owned.own(1, 2)
    share = Share(cast(Assignment, owned), "work", limit=100, most=1_000)

    assert [share.of_ramp(1, turn) for turn in range(8)] == [0, 1, 1, 0] * 2


def test_without_a_partition_there_is_no_part_of_a_ramp_and_of_a_topic_that_is_gone_neither() -> (
    None
):
    owned, gone = Owned(frozenset()), Owned(frozenset(), partitions=0)
    gone.own(0)
    shares = [Share(cast(Assignment, each), "work", limit=9, most=9) for each in (owned, gone)]

    assert [share.of_ramp(8, 3) for share in shares] == [0, 0]
    assert [share.partitions for share in shares] == [0, 0]


def test_what_is_split_is_counted_anew_when_partitions_move_or_the_topic_grows() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=10, most=1_000)
    owned.own(0, 2)
    seen = [(share.epoch, sorted(share.owned), share.partitions)]
    owned.own(3, topic="other")
    seen.append((share.epoch, sorted(share.owned), share.partitions))
    owned.partitions = 6
    seen.append((share.epoch, sorted(share.owned), share.partitions))

    assert [each[1:] for each in seen] == [([0, 2], 4), ([], 4), ([], 6)]
    assert len({each[0] for each in seen}) == 3


# --- calls that go on while partitions move -----------------------------------------------------

PARTITIONS, WORKERS = 4, 3
OWNERS = st.lists(st.integers(0, WORKERS - 1), min_size=PARTITIONS, max_size=PARTITIONS)
PLACES = st.lists(st.integers(0, PARTITIONS - 1), max_size=40)


class Fleet:
    """Three workers, and by worker and partition the calls that they make."""

    def __init__(self, limit: int, owners: list[int]) -> None:
        self.limit = limit
        self.owned = [Owned(frozenset()) for _ in range(WORKERS)]
        self.shares = [
            Share(cast(Assignment, each), "work", limit=limit, most=1_000) for each in self.owned
        ]
        self.calls = [[0] * PARTITIONS for _ in range(WORKERS)]
        self.move(owners)

    @property
    def total(self) -> int:
        return sum(map(sum, self.calls))

    @property
    def overlap(self) -> int:
        """By how much calls that go on exceed what their workers may still make."""
        shares = [share() for share in self.shares]
        return sum(max(0, sum(calls) - had) for calls, had in zip(self.calls, shares, strict=True))

    def move(self, owners: list[int]) -> None:
        """A rebalance."""
        self.owners = owners
        for worker, owned in enumerate(self.owned):
            owned.own(*(each for each, owner in enumerate(owners) if owner == worker))
        self.tell()

    def tell(self) -> None:
        """All know who still makes which calls."""
        for worker, owned in enumerate(self.owned):
            marks = {}
            for number in range(PARTITIONS):
                running = self.calls[worker][number]
                lent = sum(calls[number] for calls in self.calls) - running
                if self.owners[number] == worker or running:
                    marks[number] = Mark(lent=lent, running=running)
            owned.records = Records(owned.records.marks, owned.records.version)
            owned.counts(marks)

    def begin(self, number: int, *, evenly: bool) -> None:
        """A call of a record of this partition, if its owner may make one."""
        worker = self.owners[number]
        of_all = sum(calls[number] for calls in self.calls)
        has_room = not evenly or of_all < share_of(self.limit, PARTITIONS, [number])
        if has_room and sum(self.calls[worker]) < self.shares[worker]():
            self.calls[worker][number] += 1
            self.tell()

    def end(self, worker: int, number: int) -> None:
        self.calls[worker][number] = max(0, self.calls[worker][number] - 1)
        self.tell()


@settings(deadline=None)
@given(limit=st.integers(1, 13), first=OWNERS, steps=st.lists(st.tuples(PLACES, OWNERS, PLACES)))
def test_with_jobs_spread_evenly_the_limit_holds_however_partitions_move(
    limit: int, first: list[int], steps: list[tuple[list[int], list[int], list[int]]]
) -> None:
    fleet = Fleet(limit, first)
    for begins, owners, ends in steps:
        for number in begins:
            fleet.begin(number, evenly=True)
        assert fleet.total <= limit
        fleet.move(owners)
        for number in ends:
            fleet.end(number % WORKERS, number)


@settings(deadline=None)
@given(limit=st.integers(1, 13), first=OWNERS, then=OWNERS, begins=PLACES, more=PLACES)
def test_a_rebalance_overlaps_by_no_more_than_what_its_losers_still_do(
    limit: int, first: list[int], then: list[int], begins: list[int], more: list[int]
) -> None:
    """However unevenly the calls are spread over the partitions."""
    fleet = Fleet(limit, first)
    for number in begins:
        fleet.begin(number, evenly=False)
    before = fleet.total
    fleet.move(then)
    overlap = fleet.overlap
    for number in more:
        fleet.begin(number, evenly=False)

    assert before <= limit
    assert fleet.total <= limit + overlap
    assert overlap <= before
