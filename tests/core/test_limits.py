"""The shares of a pool's workers add up to its limit, and no minute has more than that."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.limits import Bucket, Rate, rotated_share, share
from tests.core.given import NOW

MINUTE: Final = 60_000


@pytest.mark.parametrize(
    ("limit", "partitions", "owned", "expected"),
    [
        (12, 12, range(12), 12),
        (12, 12, [], 0),
        (500, 12, range(12), 500),
        # 500 = 12 * 41 + 8: the first eight partitions carry one more
        (500, 12, [0], 42),
        (500, 12, [7], 42),
        (500, 12, [8], 41),
        (500, 12, [11], 41),
        (500, 12, [0, 8, 11], 124),
        # fewer permits than partitions: the last ones carry none
        (2, 3, [0], 1),
        (2, 3, [2], 0),
        (0, 12, range(12), 0),
        # before the topic is known nobody may call
        (10, 0, [], 0),
        (10, 0, [0], 0),
    ],
)
def test_a_partition_carries_an_even_share_and_the_first_ones_the_rest(
    limit: int, partitions: int, owned: list[int], expected: int
) -> None:
    assert share(limit, partitions, owned) == expected


@given(
    limit=st.integers(0, 5_000),
    owners=st.lists(st.integers(0, 5), min_size=1, max_size=60),
)
def test_the_shares_of_any_split_add_up_to_exactly_the_limit(limit: int, owners: list[int]) -> None:
    shares = [share(limit, len(owners), owned) for owned in split(owners)]

    assert sum(shares) == limit


def split(owners: Sequence[int]) -> list[list[int]]:
    """The partitions of each of six workers."""
    return [[each for each, owner in enumerate(owners) if owner == worker] for worker in range(6)]


@given(limit=st.integers(0, 5_000), partitions=st.integers(1, 60))
def test_no_two_partitions_differ_by_more_than_one_permit(limit: int, partitions: int) -> None:
    shares = [share(limit, partitions, [partition]) for partition in range(partitions)]

    assert max(shares) - min(shares) <= 1


# --- permits that go round ----------------------------------------------------------------------


@given(
    limit=st.integers(0, 100),
    owners=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    turn=st.integers(-1_000, 1_000_000),
)
def test_permits_that_go_round_add_up_to_the_limit_in_each_turn(
    limit: int, owners: list[int], turn: int
) -> None:
    shares = [rotated_share(limit, len(owners), owned, turn) for owned in split(owners)]

    assert sum(shares) == limit


@given(partitions=st.integers(2, 24), data=st.data())
def test_each_partition_has_its_turns_and_one_permit_moves_at_a_time(
    partitions: int, data: st.DataObject
) -> None:
    limit = data.draw(st.integers(1, partitions - 1))
    turns = [
        [rotated_share(limit, partitions, [each], turn) for each in range(partitions)]
        for turn in range(partitions + 1)
    ]
    had = [sum(column) for column in zip(*turns[:partitions], strict=True)]
    moved = [
        sum(before > after for before, after in zip(one, next_one, strict=True))
        for one, next_one in pairwise(turns)
    ]

    assert had == [limit] * partitions
    assert moved == [1] * partitions


def test_nothing_moves_where_each_partition_has_a_permit() -> None:
    turns = {rotated_share(13, 12, [0, 5, 11], turn) for turn in range(24)}

    assert turns == {share(13, 12, [0, 5, 11])} == {4}


def test_before_the_topic_is_known_no_permit_goes_round() -> None:
    assert rotated_share(10, 0, [0], 3) == 0


# --- rates --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("per_minute", "partitions", "owned", "expected"),
    [
        (60, 12, range(12), 60.0),
        (60, 12, [3], 5.0),
        (60, 12, [], 0.0),
        (60, 0, [], 0.0),
        # 30 = 12 * 2 + 6: two or three, never two and a half
        (30, 12, [0], 3.0),
        (30, 12, [11], 2.0),
        # not one a minute for each: a part of one
        (3, 12, [0], 0.25),
        (3, 12, [11], 0.25),
        (3, 12, range(12), 3.0),
    ],
)
def test_a_rate_is_split_into_whole_numbers_where_that_is_possible(
    per_minute: int, partitions: int, owned: list[int], expected: float
) -> None:
    assert Rate(per_minute).share(partitions, owned) == expected


@given(per_minute=st.integers(0, 5_000), owners=st.lists(st.integers(0, 5), min_size=1))
def test_the_shares_of_a_rate_add_up_to_it(per_minute: int, owners: list[int]) -> None:
    shares = [Rate(per_minute).share(len(owners), owned) for owned in split(owners)]

    assert sum(shares) == pytest.approx(per_minute)


# --- one bucket ---------------------------------------------------------------------------------


def a_full(per_minute: float) -> Bucket:
    """A bucket that has long been left alone."""
    return Bucket(at=NOW, per_minute=per_minute).refilled(NOW + 10 * MINUTE)


LONG_AFTER: Final = NOW + 10 * MINUTE


def test_a_bucket_begins_empty_and_waits_for_its_first_request() -> None:
    bucket = Bucket(at=NOW).resized(60, NOW)
    wait = bucket.wait_ms(1, NOW)

    assert not bucket.may_take(1, NOW)
    # a little more than the second that 60 a minute would take: the pace is below the limit
    assert wait is not None and 1_000 < wait < 1_050
    assert not bucket.may_take(1, NOW + wait - 2)
    assert bucket.may_take(1, NOW + wait)


@pytest.mark.parametrize(
    ("per_minute", "capacity"), [(20, 1.0), (120, 1.0), (1_200, 10.0), (60_000, 500.0)]
)
def test_a_full_bucket_holds_half_a_second_and_one_request_at_least(
    per_minute: float, capacity: float
) -> None:
    assert Bucket(at=NOW, per_minute=per_minute).capacity == capacity


def test_a_full_bucket_lets_one_larger_job_through_and_works_off_the_debt() -> None:
    bucket = a_full(60_000)
    owing = bucket.taken(10_000, LONG_AFTER)
    wait = owing.wait_ms(1, LONG_AFTER)

    assert owing.level < -9_000
    assert wait is not None and 9_000 < wait < 10_000
    assert not owing.may_take(10_000, LONG_AFTER + wait)
    assert owing.may_take(10_000, LONG_AFTER + 11_000)


def test_a_bucket_that_is_not_full_lets_no_larger_job_through() -> None:
    bucket = a_full(60_000).taken(500, LONG_AFTER)

    assert not bucket.may_take(501, LONG_AFTER)
    assert bucket.may_take(100, LONG_AFTER)


def test_who_wakes_up_late_has_lost_nothing() -> None:
    """A quarter of a second late each time, and still at the pace."""
    bucket, now, times = a_full(20), LONG_AFTER, []
    for _ in range(40):
        now += (bucket.wait_ms(1, now) or 0) + 250
        bucket = bucket.taken(1, now)
        times.append(now)

    assert 39 * MINUTE / (times[-1] - times[0]) > 0.97 * 20


def test_what_may_not_be_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="1 may not be taken: there is 0"):
        Bucket(at=NOW, per_minute=60).taken(1, NOW)


def test_what_only_rounding_is_short_of_may_be_taken_at_once() -> None:
    bucket = Bucket(at=NOW, per_minute=60, level=1 - 1e-7)

    assert bucket.may_take(1, NOW)
    assert bucket.wait_ms(1, NOW) == 0


def test_without_a_share_nothing_is_ever_taken() -> None:
    bucket = a_full(60).resized(0, LONG_AFTER)

    assert not bucket.may_take(1, LONG_AFTER)
    assert not bucket.may_take(0, LONG_AFTER)
    assert bucket.wait_ms(1, LONG_AFTER) is None


def test_what_was_reserved_and_not_used_comes_back() -> None:
    bucket = a_full(60_000).taken(5_000, LONG_AFTER)
    settled = bucket.settled(5_000, 1_000, LONG_AFTER)

    assert settled.level == bucket.level + 4_000


def test_what_was_used_beyond_what_was_reserved_is_owed() -> None:
    bucket = a_full(60_000).taken(100, LONG_AFTER)
    settled = bucket.settled(100, 3_000, LONG_AFTER)

    assert settled.level == bucket.level - 2_900 < 0


def test_what_comes_back_does_not_fill_a_bucket_beyond_what_it_holds() -> None:
    full = a_full(60_000)
    settled = full.taken(500, LONG_AFTER).settled(500, 0, LONG_AFTER + MINUTE)

    assert settled.level == full.level


def test_a_gained_share_starts_empty() -> None:
    full = a_full(600)
    grown = full.resized(1_200, LONG_AFTER)

    assert grown.level == full.level
    assert not grown.may_take(grown.capacity, LONG_AFTER)


def test_a_lost_share_takes_its_part_of_the_level_along() -> None:
    full = a_full(1_200)
    cut = full.resized(300, LONG_AFTER)

    assert cut.level == pytest.approx(full.level / 4)


def test_a_share_that_left_and_returned_has_nothing_left() -> None:
    bucket = a_full(600).resized(0, LONG_AFTER).resized(600, LONG_AFTER)

    assert bucket.level == 0


def test_a_debt_stays_when_the_share_goes() -> None:
    owing = a_full(60_000).taken(10_000, LONG_AFTER)
    returned = owing.resized(0, LONG_AFTER).resized(60_000, LONG_AFTER)

    assert returned.level == owing.level


def test_a_clock_that_steps_back_gives_nothing_twice() -> None:
    bucket = Bucket(at=NOW, per_minute=600)
    once = bucket.refilled(NOW + 300)
    again = once.refilled(NOW).refilled(NOW + 300)

    assert again == once


# --- a pool of them -----------------------------------------------------------------------------


@dataclass
class Pool:
    """Workers that take from buckets of their own, and what they took: when, how much."""

    rate: Rate
    partitions: int
    buckets: dict[int, Bucket] = field(default_factory=dict)
    taken: list[tuple[int, int]] = field(default_factory=list)

    def own(self, now: int, owned: Mapping[int, Iterable[int]]) -> None:
        """Split the partitions anew: who is not named has none."""
        for worker in {*owned, *self.buckets}:
            share = self.rate.share(self.partitions, list(owned.get(worker, ())))
            bucket = self.buckets.get(worker, Bucket(at=now))
            self.buckets[worker] = bucket.resized(share, now)

    def run(self, now: int, until: int, size: Callable[[], int]) -> None:
        """All take whatever they may, as early as they may."""
        wanted = {worker: size() for worker in self.buckets}
        while True:
            waits = {
                worker: wait
                for worker, bucket in self.buckets.items()
                if (wait := bucket.wait_ms(wanted[worker], now)) is not None
            }
            if not waits:
                return
            worker = min(waits, key=lambda each: waits[each])
            now += waits[worker]
            if now >= until:
                return
            self.take(worker, wanted[worker], now)
            wanted[worker] = size()

    def take(self, worker: int, amount: int, now: int) -> None:
        self.buckets[worker] = self.buckets[worker].taken(amount, now)
        self.taken.append((now, amount))

    def most_in_a_minute(self) -> int:
        """The most that was taken in any 60 seconds, the last instant not among them."""
        most = amount = oldest = 0
        for at, taken in self.taken:
            amount += taken
            while self.taken[oldest][0] <= at - MINUTE:
                amount -= self.taken[oldest][1]
                oldest += 1
            most = max(most, amount)
        return most

    def sum_between(self, since: int, until: int) -> int:
        return sum(amount for at, amount in self.taken if since <= at < until)


def even(workers: int, partitions: int = 12) -> dict[int, list[int]]:
    """Each worker has every so many-th partition."""
    return {each: list(range(each, partitions, workers)) for each in range(workers)}


def one() -> int:
    return 1


@pytest.mark.parametrize(
    ("limit", "workers"),
    [(60, 3), (60, 12), (60, 1), (30, 12), (100, 12), (100, 5), (120, 3), (600, 3), (5_000, 3)],
)
def test_with_few_requests_each_no_minute_has_too_many_and_enough_are_reached(
    limit: int, workers: int
) -> None:
    """Full buckets, and then a backlog: the worst of minutes."""
    pool = Pool(Rate(limit), 12)
    pool.own(NOW, even(workers))
    begin = NOW + 10 * MINUTE
    pool.run(begin, begin + 10 * MINUTE, one)

    assert pool.most_in_a_minute() <= limit
    assert pool.sum_between(begin, begin + 10 * MINUTE) >= 0.95 * 10 * limit


@pytest.mark.parametrize("limit", [60, 120, 300, 600, 6_000])
def test_while_workers_join_and_leave_no_minute_has_2_percent_too_many(limit: int) -> None:
    pool = Pool(Rate(limit), 12)
    now = NOW
    pool.own(now, even(3))
    for workers in (3, 4, 3, 2, 3, 4, 4, 3):
        pool.own(now, even(workers))
        pool.run(now, now + 40_000, one)
        now += 40_000
    whole = now - NOW

    assert pool.most_in_a_minute() <= 1.02 * limit
    assert pool.sum_between(NOW, now) >= 0.9 * limit * whole / MINUTE


LIMITS: Final = st.sampled_from([1, 3, 7, 12, 30, 60, 100, 250, 1_000, 20_000])
SPLITS: Final = st.lists(st.integers(0, 5), min_size=12, max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    limit=LIMITS,
    steps=st.lists(st.tuples(SPLITS, st.integers(0, 90_000), st.booleans()), max_size=8),
    most=st.integers(1, 100),
    data=st.data(),
)
def test_no_minute_has_2_percent_and_a_job_of_each_worker_too_many(
    limit: int, steps: list[tuple[list[int], int, bool]], most: int, data: st.DataObject
) -> None:
    """Whoever owns what for how long, whether they take or wait, and whatever they take."""
    pool, now = Pool(Rate(limit), 12), NOW
    dice = data.draw(st.randoms(use_true_random=False))
    for owners, span, is_greedy in steps:
        pool.own(now, dict(enumerate(split(owners))))
        if is_greedy:
            pool.run(now, now + span, lambda: dice.randint(1, most))
        now += span

    assert pool.most_in_a_minute() <= 1.02 * limit + 6 * most


@settings(max_examples=40, deadline=None)
@given(limit=LIMITS, owners=SPLITS, most=st.integers(1, 100), data=st.data())
def test_who_takes_all_that_he_may_reaches_95_percent(
    limit: int, owners: list[int], most: int, data: st.DataObject
) -> None:
    pool = Pool(Rate(limit), 12)
    dice = data.draw(st.randoms(use_true_random=False))
    pool.own(NOW - MINUTE, dict(enumerate(split(owners))))
    # Begun full, ten minutes end in mid-debt or begin in mid-gain: a job of each is not seen.
    pool.run(NOW, NOW + 10 * MINUTE, lambda: dice.randint(1, most))

    assert pool.sum_between(NOW, NOW + 10 * MINUTE) + 6 * most >= 0.95 * 10 * limit


@settings(deadline=None)
@given(
    per_minute=st.floats(0, 1e6),
    events=st.lists(
        st.tuples(
            st.sampled_from(["take", "settle", "resize"]),
            st.floats(0, 1e5),
            st.floats(0, 1e5),
            st.integers(-1_000, 100_000),
        )
    ),
)
def test_nothing_is_taken_that_is_refused_and_nothing_fills_it_beyond_its_brim(
    per_minute: float, events: list[tuple[str, float, float, int]]
) -> None:
    bucket, now = Bucket(at=NOW).resized(per_minute, NOW), NOW
    for kind, amount, other, step in events:
        now += step
        if kind == "resize":
            bucket = bucket.resized(amount, now)
        elif kind == "settle":
            bucket = bucket.settled(amount, other, now)
        elif bucket.may_take(amount, now):
            before = bucket.level_at(now)
            bucket = bucket.taken(amount, now)
            assert before - bucket.level == pytest.approx(amount, abs=1e-3)
        else:
            with pytest.raises(ValueError, match="may not be taken"):
                bucket.taken(amount, now)

        # what it holds, and what a late waker finds
        assert bucket.level <= bucket.capacity + bucket.per_minute * 0.25 / 60 + 1e-6


@settings(deadline=None)
@given(
    per_minute=st.floats(0.01, 1e6),
    taken=st.floats(0, 1e5),
    amount=st.floats(0, 1e5),
    step=st.integers(0, 100_000),
)
def test_when_the_wait_is_over_it_may_be_taken(
    per_minute: float, taken: float, amount: float, step: int
) -> None:
    bucket, now = a_full(per_minute), LONG_AFTER
    bucket = bucket.settled(0, taken, now)
    wait = bucket.wait_ms(amount, now + step)

    assert wait is not None
    assert bucket.may_take(amount, now + step + wait)
    assert (wait == 0) == bucket.may_take(amount, now + step)
