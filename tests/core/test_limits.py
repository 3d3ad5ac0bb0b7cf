"""The shares of a pool's workers add up to its limit, and no minute has more than that."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.limits import Bucket, Rate, rotated_share, share
from outlast.core.tokens import Expected, Reserved, Usage
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


@pytest.mark.parametrize(
    ("level", "amount", "expected"),
    [
        (-900.0, 400.0, -500.0),
        (-900.0, 900.0, 0.0),
        # it pays the debt, and is nothing to take
        (-900.0, 5_000.0, 0.0),
        (0.0, 5_000.0, 0.0),
        (300.0, 5_000.0, 300.0),
    ],
)
def test_what_was_taken_to_be_sure_pays_debts_and_gives_nothing(
    level: float, amount: float, expected: float
) -> None:
    bucket = Bucket(at=NOW, per_minute=60_000, level=level)

    assert bucket.forgiven(amount, NOW).level == expected


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

    def own_one(self, now: int, worker: int, owned: Sequence[int]) -> None:
        """One worker hears of its partitions."""
        bucket = self.buckets.get(worker, Bucket(at=now))
        self.buckets[worker] = bucket.resized(self.rate.share(self.partitions, owned), now)

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
SPANS: Final = st.sampled_from([100, 5_000, 31_000, 60_000, 200_000])


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
@given(
    limit=LIMITS,
    steps=st.lists(st.tuples(SPLITS, st.integers(0, 30_000)), max_size=8),
    late=st.lists(st.integers(0, 10_000), min_size=6, max_size=6),
)
def test_who_hears_late_that_partitions_moved_overlaps_by_that_time_and_no_more(
    limit: int, steps: list[tuple[list[int], int]], late: list[int]
) -> None:
    """Each worker goes on by the split it knows, as one does that stood still for a moment."""
    pool, now, heard = Pool(Rate(limit), 12), NOW, list[tuple[int, int, list[int]]]()
    for owners, span in steps:
        heard += [(now + late[each], each, owned) for each, owned in enumerate(split(owners))]
        now += span
    now = NOW
    for at, worker, owned in sorted(heard, key=lambda each: each[0]):
        pool.run(now, at, one)
        pool.own_one(at, worker, owned)
        now = at
    pool.run(now, now + MINUTE, one)
    overlaps = len(steps) * max(late) / MINUTE

    assert pool.most_in_a_minute() <= (1.02 + overlaps) * limit + 6


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
            st.sampled_from(["take", "settle", "forgive", "resize"]),
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
        elif kind == "forgive":
            bucket = bucket.forgiven(amount, now)
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


# --- what calls use of what they might ----------------------------------------------------------


def seen(*used: int, most: int = Reserved(60, 4_096)) -> Usage:
    """After calls that used so many."""
    usage = Usage()
    for each in used:
        usage = usage.seen(most, each)
    return usage


def test_before_anything_was_seen_all_is_set_aside_that_a_call_may_use() -> None:
    assert Usage().expected(Reserved(60, 4_096)) == Expected(60, 4_096)
    assert Usage().expected(4_156).tokens == 4_156


def test_what_calls_use_is_learnt_and_the_doubt_goes() -> None:
    most = Reserved(60, 4_096)
    once, often = (seen(*[120] * times).expected(most) for times in (1, 200))

    # a call that was not seen counts a tenth of one that was
    assert once.likely == 120
    assert once.tokens == pytest.approx(60 + (60 + 4_096 / 10) / 1.1)
    assert often.likely == pytest.approx(120)
    assert often.tokens == pytest.approx(120, rel=0.01)


def test_the_prompt_is_known_and_nothing_to_learn() -> None:
    usage = seen(*[120] * 200)

    assert usage.expected(Reserved(100_000, 4_096)).tokens == pytest.approx(100_060, rel=0.001)
    assert usage.expected(Reserved(500, 0)) == Expected(500)
    assert usage.seen(Reserved(500, 0), 900) == usage


def test_of_jobs_that_ask_for_much_and_for_little_all_together_are_met_exactly() -> None:
    much, little = Reserved(0, 4_000), Reserved(0, 100)
    usage = Usage()
    for _ in range(300):
        usage = usage.seen(much, 60).seen(little, 90)
    both = usage.expected(much).tokens + usage.expected(little).tokens

    assert both == pytest.approx(150, rel=0.05)


def test_where_answers_do_not_tell_their_tokens_the_bound_stays() -> None:
    most = Reserved(60, 4_096)

    assert seen(*[most] * 50).expected(most).tokens == most


def test_a_call_that_was_refused_says_nothing_of_the_others() -> None:
    usage = seen(500, 700)

    assert usage.seen(Reserved(60, 4_096), 0) == usage


@given(
    calls=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 5_000), st.integers(0, 9_000))),
    prompt=st.integers(0, 500),
    output=st.integers(0, 5_000),
)
def test_never_is_more_set_aside_than_a_call_may_use_nor_less_than_its_prompt(
    calls: list[tuple[int, int, int]], prompt: int, output: int
) -> None:
    usage = Usage()
    for asked, answer, used in calls:
        usage = usage.seen(Reserved(asked, answer), used)
    expected = usage.expected(Reserved(prompt, output))

    assert expected.doubt >= -1e-6
    assert prompt - 1e-6 <= expected.likely <= expected.tokens <= prompt + output + 1e-6


@given(likely=st.floats(0, 1e4), doubt=st.floats(0, 1e4), used=st.floats(0, 3e4))
def test_doubted_is_what_a_call_did_not_come_to(likely: float, doubt: float, used: float) -> None:
    doubted = Expected(likely, doubt).doubted(used)

    assert 0 <= doubted <= doubt
    assert (doubted == doubt) == (used <= likely) or doubt - doubted < 1e-6
    assert used >= likely + doubt - doubted - 1e-6 or doubted == doubt


@dataclass
class Calls(Pool):
    """Workers whose calls take time, and turn out to use less than they might."""

    lasting: Callable[[], int] = lambda: 1_000
    using: Callable[[], int] = one
    most: Reserved = field(default_factory=lambda: Reserved(60, 4_096))
    usages: dict[int, Usage] = field(default_factory=dict)
    under_way: list[tuple[int, int, int, Expected, int]] = field(default_factory=list)
    unforeseen: float = 0.0

    def work(self, now: int, until: int) -> int:
        """All call whatever they may, as early as they may; returns when it stopped."""
        while now < until:
            moments = [until, *(self._call(worker, now) for worker in self.buckets)]
            if self.under_way:
                moments.append(self.under_way[0][0])
            now = max(now, min(moments))
            while self.under_way and self.under_way[0][0] <= now:
                self._end(now)
        return now

    def _call(self, worker: int, now: int) -> int:
        """Begin what may begin; returns when to look again."""
        usage = self.usages.setdefault(worker, Usage())
        while True:
            expected = usage.expected(self.most)
            wait = self.buckets[worker].wait_ms(expected.tokens, now)
            if wait != 0:
                return now + (wait or MINUTE)
            used = min(self.most, self.most - self.most.output + self.using())
            self.buckets[worker] = self.buckets[worker].taken(expected.tokens, now)
            self.taken.append((now, used))
            call = (now + self.lasting(), len(self.taken), worker, expected, used)
            heapq.heappush(self.under_way, call)
            self._measure()

    def _end(self, now: int) -> None:
        _, _, worker, expected, used = heapq.heappop(self.under_way)
        doubted = expected.doubted(used)
        bucket = self.buckets[worker].settled(expected.tokens - doubted, used, now)
        self.buckets[worker] = bucket.forgiven(doubted, now)
        self.usages[worker] = self.usages[worker].seen(self.most, used)

    def _measure(self) -> None:
        """By how much calls under way differ at most from what was thought likely of them."""
        off = sum(abs(used - expected.likely) for *_, expected, used in self.under_way)
        self.unforeseen = max(self.unforeseen, off)


@pytest.mark.parametrize(
    ("limit", "used", "lasting", "learning"),
    [
        (60_000, 60, 750, 1),
        (60_000, 60, 10_000, 3),
        (300_000, 60, 10_000, 1),
        (600_000, 2_000, 5_000, 1),
    ],
)
def test_far_above_the_use_a_reservation_holds_up_no_tokens_and_no_minute_has_too_many(
    limit: int, used: int, lasting: int, learning: int
) -> None:
    pool = Calls(Rate(limit), 12, lasting=lambda: lasting, using=lambda: used)
    pool.own(NOW, even(3))
    begin = pool.work(NOW, NOW + learning * MINUTE)
    end = pool.work(begin, begin + 2 * MINUTE)

    assert pool.most_in_a_minute() <= 1.02 * limit
    assert pool.sum_between(begin, end) >= 0.95 * 2 * limit


@settings(max_examples=12, deadline=None)
@given(
    limit=st.sampled_from([20_000, 60_000, 200_000]),
    used=st.sampled_from([1, 60, 500, 4_096]),
    lasting=st.sampled_from([100, 3_000, 10_000, 30_000]),
    steps=st.lists(st.tuples(SPLITS, SPANS), min_size=1, max_size=4),
)
def test_what_calls_use_alike_is_never_exceeded_by_learning_it_whoever_owns_what(
    limit: int, used: int, lasting: int, steps: list[tuple[list[int], int]]
) -> None:
    pool, now = Calls(Rate(limit), 12, lasting=lambda: lasting, using=lambda: used), NOW
    for owners, span in steps:
        pool.own(now, dict(enumerate(split(owners))))
        now = pool.work(now, now + span)

    # The first calls of who knows nothing yet are not thought likely to use what they do.
    assert pool.most_in_a_minute() <= 1.02 * limit + 6 * (60 + used) + pool.unforeseen


@settings(max_examples=12, deadline=None)
@given(
    limit=st.sampled_from([20_000, 60_000, 200_000]),
    steps=st.lists(
        st.tuples(SPLITS, SPANS, st.sampled_from([1, 60, 4_096]), st.integers(1, 20_000)),
        min_size=1,
        max_size=4,
    ),
    dice=st.randoms(use_true_random=False),
)
def test_what_calls_use_otherwise_than_those_before_is_all_by_which_a_minute_can_exceed(
    limit: int, steps: list[tuple[list[int], int, int, int]], dice: Random
) -> None:
    """However use and duration change: the calls under way are the only ones not known of."""
    pool, now = Calls(Rate(limit), 12), NOW
    for owners, span, most, longest in steps:
        pool.using = partial(dice.randint, 0, most)
        pool.lasting = partial(dice.randint, 1, longest)
        pool.own(now, dict(enumerate(split(owners))))
        now = pool.work(now, now + span)

    assert pool.most_in_a_minute() <= 1.02 * limit + 6 * pool.most + 2 * pool.unforeseen
