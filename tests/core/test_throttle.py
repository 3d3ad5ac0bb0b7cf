"""A pool after refusals: it stops, tries with one call, and goes on at the provider's pace."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final, Protocol

import pytest

from outlast.core.breaker import Evidence
from outlast.core.throttle import LetIn, Throttle, ThrottlePolicy
from outlast_schemas.vitals import Window
from tests.core.given import NOW

POLICY: Final = ThrottlePolicy()
HALF: Final = 0.5
MINUTE: Final = 60_000
SECOND: Final = 1_000


def begun(calls: int, *, throttle: Throttle | None = None, now: int = NOW) -> Throttle:
    """So many calls begin at once."""
    throttle = throttle or Throttle()
    for _ in range(calls):
        throttle = throttle.began(now)
    return throttle


def refused(*, calls: int = 1, roll: float = HALF) -> Throttle:
    """The first of so many calls is refused."""
    return begun(calls).was_refused(1, NOW, roll)


def tried_again(throttle: Throttle, now: int, roll: float = HALF) -> Throttle:
    """A call begins and is refused."""
    throttle = throttle.began(now)
    return throttle.was_refused(throttle.begun, now, roll)


# --- the pause ------------------------------------------------------------------------------


def test_without_a_refusal_nothing_is_slowed() -> None:
    throttle = begun(5_000)

    assert throttle.wait_ms(NOW) == 0
    assert throttle.ahead(NOW, 3_000) is None


def test_a_refusal_that_names_no_time_stops_the_pool_for_a_back_off() -> None:
    throttle = refused(calls=9)

    assert throttle.wait_ms(NOW) == 500
    assert throttle.wait_ms(NOW + 499) == 1
    assert throttle.wait_ms(NOW + 500) == 0


@pytest.mark.parametrize("roll", [0.0, 0.25, 0.999])
def test_the_back_off_doubles_with_each_call_that_was_tried_and_refused(roll: float) -> None:
    throttle, now, waits = Throttle(), NOW, []
    for _ in range(9):
        throttle = tried_again(throttle, now, roll)
        waits.append(throttle.wait_ms(now))
        now = throttle.until

    bounds = (1, 2, 4, 8, 16, 20, 20, 20, 20)
    assert waits == [int(roll * most * SECOND) for most in bounds]


def test_refusals_of_calls_that_were_under_way_count_once() -> None:
    throttle = refused(calls=40)
    for number in range(2, 41):
        throttle = throttle.was_refused(number, NOW + number, 0.99)

    assert (throttle.until, throttle.setbacks) == (NOW + 500, 1)


def test_what_was_under_way_and_is_served_ends_no_pause() -> None:
    throttle = refused(calls=3).served(2, NOW + 100).served(3, NOW + 600)

    assert throttle.wait_ms(NOW + 499) == 1
    assert throttle.began(NOW + 600).wait_ms(NOW + 600) == POLICY.trial_ms


@pytest.mark.parametrize("number", [1, 3])
def test_a_wish_of_the_provider_stands_in_place_of_the_back_off(number: int) -> None:
    throttle = begun(3).was_refused(number, NOW, HALF, 7_000)

    assert (throttle.wait_ms(NOW), throttle.setbacks) == (7_000, 0)


def test_a_longer_wish_lengthens_a_pause_and_a_shorter_one_does_not_end_it() -> None:
    throttle = begun(3).was_refused(1, NOW, HALF, 7_000)

    assert throttle.was_refused(2, NOW, HALF, 9_000).until == NOW + 9_000
    assert throttle.was_refused(2, NOW, HALF, 1_000).until == NOW + 7_000


# --- the first call after it ----------------------------------------------------------------


@pytest.mark.parametrize(
    "throttle",
    [refused(), begun(1).was_refused(1, NOW, HALF, 500), Throttle().paused(NOW + 500, NOW)],
)
def test_after_any_pause_one_call_goes_first(throttle: Throttle) -> None:
    after = NOW + 500
    first = throttle.began(after)

    assert throttle.wait_ms(after) == 0
    assert throttle.ahead(after, 3_000) == 1
    assert first.wait_ms(after) == POLICY.trial_ms


def test_a_pause_that_is_over_or_known_changes_nothing() -> None:
    throttle = refused()

    assert Throttle().paused(NOW, NOW) == Throttle()
    assert throttle.paused(NOW + 500, NOW) == throttle


def test_once_the_first_was_served_the_others_follow_at_the_pace_of_before() -> None:
    throttle = begun(1)
    for at in range(250, 10_000, 250):  # four a second
        throttle = throttle.began(NOW + at)
    now = NOW + 10_000
    throttle = throttle.was_refused(throttle.begun, now, HALF)
    throttle = throttle.began(now + 500)
    throttle = throttle.served(throttle.begun, now + 600)
    starts = list(starting(throttle, now + 600, until=now + 5_600))

    assert 17 <= len(starts) <= 22
    assert len([at for at in starts if at < now + 1_600]) <= 6  # and not all at once


def test_a_first_call_that_is_not_refused_at_once_was_let_in() -> None:
    throttle = refused().began(NOW + 500)
    later = NOW + 500 + POLICY.trial_ms

    assert throttle.wait_ms(later - 1) == 1
    assert throttle.wait_ms(later) == 0
    assert throttle.began(later).stopped_at is None


def test_a_success_ends_the_doubling() -> None:
    throttle = refused()
    for _ in range(5):
        throttle = tried_again(throttle, throttle.until)
    now = throttle.until
    throttle = throttle.began(now)
    throttle = throttle.served(throttle.begun, now)
    twice = tried_again(tried_again(throttle, now), now)

    assert throttle.setbacks == 0
    assert twice.wait_ms(now) == 500


def starting(throttle: Throttle, now: int, *, until: int) -> Iterator[int]:
    """When calls begin that wait for nothing else; all are served."""
    while (wait := throttle.wait_ms(now)) + now < until:
        now += wait
        throttle = throttle.began(now)
        throttle = throttle.served(throttle.begun, now)
        yield now


# --- the pace -------------------------------------------------------------------------------


def paced(per_second: float = 10.0) -> Throttle:
    """A pool that was refused and goes on."""
    return Throttle(pace=per_second, paced_at=NOW, begun=100, mark=100)


def test_a_refusal_among_calls_that_were_let_in_slows_and_does_not_stop() -> None:
    throttle = begun(10, throttle=paced())
    slower = throttle.was_refused(throttle.begun, NOW, HALF)

    assert slower.stopped_at is None
    assert 7 <= (slower.pace or 0) < 10


def test_two_in_a_row_with_nothing_let_in_between_stop() -> None:
    throttle = begun(1, throttle=paced())
    once = throttle.was_refused(throttle.begun, NOW, HALF)
    again = begun(1, throttle=once)
    twice = again.was_refused(again.begun, NOW, HALF)

    assert once.stopped_at is None
    assert (twice.stopped_at, twice.wait_ms(NOW)) == (NOW, 500)


def test_the_pace_grows_while_nothing_is_refused_and_starts_over_with_a_refusal() -> None:
    throttle = paced(1.0)
    soon = [throttle.ahead(NOW, MINUTE)]
    for _ in range(20):
        throttle = throttle.began(NOW)
        soon.append(throttle.ahead(NOW, MINUTE))

    assert (soon[0], soon[10], soon[20]) == (66, 75, 132)
    slower = throttle.was_refused(throttle.begun, NOW, HALF)
    assert slower.clear == 0
    # as much as was let in, and never so little that it could not be seen
    assert (slower.pace or 0) >= POLICY.least


def test_the_pace_grows_with_time_where_few_calls_are_made() -> None:
    throttle = paced(1.0)
    later = [throttle.ahead(NOW + ms, MINUTE) for ms in (0, 30_000, 60_000)]

    assert later == [66, 75, 132]


def test_a_lone_refusal_while_little_is_asked_for_does_not_hold_up_what_comes_later() -> None:
    throttle, now = Throttle(), NOW
    for _ in range(24):
        throttle, now = throttle.began(now), now + 5 * SECOND
    throttle = throttle.was_refused(throttle.begun, now, HALF)
    starts = list(starting(throttle, now, until=now + 105 * SECOND))

    assert len(starts) >= 100


def test_a_refusal_of_a_call_from_before_starts_the_growth_over_too() -> None:
    throttle = begun(20, throttle=paced(1.0))

    assert throttle.was_refused(100, NOW, HALF).ahead(NOW, MINUTE) == 66


@pytest.mark.parametrize(("let_in", "pace"), [(10, 6.6), (40, 13.2)])
def test_the_growth_is_bounded_by_what_was_let_in(let_in: int, pace: float) -> None:
    lately = LetIn(count=let_in, since=NOW - 20 * SECOND, last=NOW)
    throttle = replace(paced(1.0), clear=500, let_in=lately)

    assert throttle.ahead(NOW, 10 * SECOND) == pace * 10


def test_the_pace_is_never_so_slow_that_it_learns_nothing() -> None:
    assert tried_again(paced(POLICY.least), NOW).pace == POLICY.least


@pytest.mark.parametrize(("stood", "pace"), [(1, 9.2), (15, 4.0), (600, 4.0)])
def test_of_a_pause_a_quarter_of_a_minute_counts_and_no_more(stood: int, pace: float) -> None:
    throttle = Throttle()
    for at in range(0, 10_000, 100):
        throttle = throttle.began(NOW + at)
    now = NOW + 10_000
    throttle = throttle.was_refused(throttle.begun, now, HALF, stood * SECOND)
    throttle = throttle.began(throttle.until)

    assert throttle.served(throttle.begun, throttle.until).pace == pytest.approx(pace, rel=0.05)


def test_a_pause_halves_the_pace_at_most() -> None:
    throttle = begun(1, throttle=paced(8.0)).paused(NOW + MINUTE, NOW)
    throttle = throttle.began(NOW + MINUTE)

    assert throttle.served(throttle.begun, NOW + MINUTE).pace == 4.0


def test_the_pace_is_forgotten_in_time() -> None:
    throttle = paced(0.1)
    last = NOW + POLICY.forget_ms

    assert throttle.ahead(last - 1, MINUTE) is not None
    assert throttle.ahead(last, MINUTE) is None


def test_a_pool_that_was_idle_is_measured_by_what_it_does_now() -> None:
    throttle = begun(1)
    now = NOW + 10 * MINUTE
    throttle = begun(30, throttle=throttle, now=now).was_refused(31, now, HALF)
    throttle = throttle.began(now + 500)
    throttle = throttle.served(throttle.begun, now + 500)

    assert throttle.pace == 30


# --- against limits that providers have -----------------------------------------------------


class Limit(Protocol):
    """What lets calls in."""

    def admits(self, now: int) -> bool:
        """Whether a call is let in."""
        ...

    def ended(self) -> None:
        """One that was let in has ended."""


@dataclass
class Bucket:
    """So many a minute, and some at once."""

    per_minute: int
    burst: float
    level: float = 0.0
    at: int = 0

    def admits(self, now: int) -> bool:
        self.level = min(self.burst, self.level + (now - self.at) * self.per_minute / MINUTE)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def ended(self) -> None:
        return


@dataclass
class Sliding:
    """So many in any span."""

    most: int
    ms: int = MINUTE
    seen: deque[int] = field(default_factory=deque)

    def admits(self, now: int) -> bool:
        while self.seen and self.seen[0] <= now - self.ms:
            self.seen.popleft()
        if len(self.seen) >= self.most:
            return False
        self.seen.append(now)
        return True

    def ended(self) -> None:
        return


@dataclass
class ByTheClock:
    """So many in each minute of the clock."""

    most: int
    minute: int = -1
    count: int = 0

    def admits(self, now: int) -> bool:
        if now // MINUTE != self.minute:
            self.minute, self.count = now // MINUTE, 0
        self.count += 1
        return self.count <= self.most

    def ended(self) -> None:
        return


@dataclass
class AtATime:
    """So many under way."""

    most: int
    under_way: int = 0

    def admits(self, now: int) -> bool:
        if self.under_way >= self.most:
            return False
        self.under_way += 1
        return True

    def ended(self) -> None:
        self.under_way -= 1


@dataclass
class Sometimes:
    """This share is refused from then on, whatever is done."""

    share: float
    since: int
    dice: random.Random = field(default_factory=lambda: random.Random(5))

    def admits(self, now: int) -> bool:
        return now < self.since or self.dice.random() >= self.share

    def ended(self) -> None:
        return


@dataclass
class Never:
    """All are refused between these instants."""

    since: int
    until: int

    def admits(self, now: int) -> bool:
        return not self.since <= now < self.until

    def ended(self) -> None:
        return


@dataclass
class Story:
    """When calls were let in, and when they were refused."""

    admitted: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def since(self, at: int) -> "Story":
        """From there on."""
        return Story([a for a in self.admitted if a >= at], [r for r in self.refused if r >= at])

    @property
    def share_refused(self) -> float:
        """Of all calls."""
        return len(self.refused) / max(1, len(self.admitted) + len(self.refused))


def backlog(
    limit: Limit,
    seconds: int,
    *,
    workers: int = 1,
    permits: int = 20,
    latency: Callable[[random.Random], float] = lambda dice: 300 + 300 * dice.random(),
    refusal_ms: int = 150,
    wish_ms: int | None = None,
) -> Story:
    """Workers with more jobs than they can ever call, and so many permits each."""
    dice, numbers, story = random.Random(7), count(), Story()
    throttles, free = [Throttle()] * workers, [permits] * workers
    wakes = [0] * workers
    events: list[tuple[int, int, int, int, bool | None]] = []

    def begin(worker: int, now: int) -> None:
        while free[worker]:
            if wait := throttles[worker].wait_ms(now):
                if not now < wakes[worker] <= now + wait:
                    wakes[worker] = now + wait
                    heapq.heappush(events, (now + wait, next(numbers), worker, 0, None))
                return
            throttles[worker] = throttles[worker].began(now)
            free[worker] -= 1
            is_in = limit.admits(now)
            (story.admitted if is_in else story.refused).append(now)
            ends = now + (int(latency(dice)) if is_in else refusal_ms)
            call = throttles[worker].begun
            heapq.heappush(events, (ends, next(numbers), worker, call, is_in))

    for worker in range(workers):
        begin(worker, NOW)
    while events and events[0][0] <= NOW + seconds * SECOND:
        now, _, worker, number, is_in = heapq.heappop(events)
        if is_in is True:
            limit.ended()
            throttles[worker] = throttles[worker].served(number, now)
        elif is_in is False:
            throttles[worker] = throttles[worker].was_refused(number, now, dice.random(), wish_ms)
        free[worker] += is_in is not None
        begin(worker, now)
    return story


def fast(dice: random.Random) -> float:
    """Half a second or so."""
    return 300 + 300 * dice.random()


def slow(dice: random.Random) -> float:
    """Ten seconds or so."""
    return 5_000 + 10_000 * dice.random()


@pytest.mark.parametrize("latency", [fast, slow])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("per_minute", "limit"),
    [
        (100, lambda: Bucket(100, 8)),
        (600, lambda: Bucket(600, 50)),
        (600, lambda: Bucket(600, 600)),
        (600, lambda: Sliding(600)),
        (600, lambda: Sliding(100, 10_000)),
        (600, lambda: Sliding(10, 1_000)),
        (600, lambda: ByTheClock(600)),
        (3_000, lambda: Sliding(3_000)),
        (3_000, lambda: ByTheClock(3_000)),
    ],
)
def test_a_limit_is_used_up_and_little_is_refused(
    per_minute: int, limit: Callable[[], Limit], workers: int, latency: Callable[..., float]
) -> None:
    permits = (60 if latency is fast else 600) // workers
    story = backlog(limit(), 300, workers=workers, permits=permits, latency=latency)
    later = story.since(NOW + 2 * MINUTE)  # when it has found out

    assert len(later.admitted) >= 0.8 * 3 * per_minute
    assert later.share_refused < 0.2


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("most", [20, 200])
def test_a_limit_of_calls_at_a_time_is_used_up_and_little_is_refused(
    most: int, workers: int
) -> None:
    story = backlog(AtATime(most), 300, workers=workers, permits=2 * most, latency=slow)
    later = story.since(NOW + 2 * MINUTE)

    assert len(later.admitted) >= 0.8 * most / 10 * 180
    assert later.share_refused < 0.2


@pytest.mark.parametrize("limit", [lambda: Bucket(30, 3), lambda: ByTheClock(30)])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_small_limit_is_used_up_and_each_worker_is_refused_a_few_times_a_minute(
    limit: Callable[[], Limit], workers: int
) -> None:
    story = backlog(limit(), 420, workers=workers).since(NOW + 2 * MINUTE)

    assert len(story.admitted) >= 0.8 * 5 * 30
    assert len(story.refused) <= 12 * 5 * workers


def test_a_few_refusals_that_come_whatever_is_done_do_not_slow_it_down() -> None:
    began = NOW + MINUTE
    story = backlog(Sometimes(0.03, since=began), 360)
    before = len([at for at in story.admitted if at < began])

    assert len(story.since(began).admitted) >= 0.8 * 5 * before


@pytest.mark.parametrize("wish", [None, 5_000])
def test_while_all_is_refused_each_worker_calls_once_in_each_pause(wish: int | None) -> None:
    workers, permits, down = 3, 20, 120
    story = backlog(
        Never(NOW, NOW + down * SECOND), down, workers=workers, permits=permits, wish_ms=wish
    )
    later = story.since(NOW + SECOND)

    # Twenty permits each were out when it began; then a call each in ten seconds or so.
    assert len(story.refused) - len(later.refused) <= workers * (permits + 3)
    assert len(later.refused) <= workers * (25 if wish else 20)


@pytest.mark.parametrize("down", [5, 20, 120, 600])
@pytest.mark.parametrize("workers", [1, 3])
def test_when_it_lets_calls_in_again_the_pool_is_soon_what_it_was(down: int, workers: int) -> None:
    began, well = NOW + MINUTE, NOW + MINUTE + down * SECOND
    story = backlog(Never(began, well), 60 + down + 60, workers=workers, permits=60 // workers)
    before = len([at for at in story.admitted if at < began]) / 60
    after = len(story.since(well + 30 * SECOND).admitted) / 30

    assert after >= 0.9 * before
    assert not story.since(well).refused


def test_the_others_follow_the_first_one_and_do_not_rush() -> None:
    well = NOW + MINUTE + 20 * SECOND
    story = backlog(Never(NOW + MINUTE, well), 140, permits=60, refusal_ms=20)
    again = [at - well for at in story.since(well).admitted]
    first = again[0]

    assert len([at for at in again if at < first + 300]) == 1  # until it was served
    assert len([at for at in again if at < first + 1_000]) <= 60


# --- and the breaker ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("workers", "permits"), [(1, 1), (1, 20), (3, 20)])
def test_an_outage_that_speaks_429_is_found_out_however_few_calls_are_made(
    workers: int, permits: int, seed: int
) -> None:
    down = 180
    story = backlog(Never(NOW, NOW + down * SECOND), down, workers=workers, permits=permits)
    evidence, opened = Evidence(), None
    for second in range(down):
        since = NOW + second * SECOND
        throttled = len([at for at in story.refused if since <= at < since + SECOND])
        evidence = evidence.saw("a", Window(throttled=throttled), since + SECOND)
        if opened is None and evidence.why(since + SECOND):
            opened = second

    assert opened is not None
    assert 59 <= opened <= 150


def test_a_limit_by_the_minute_is_no_outage() -> None:
    story = backlog(ByTheClock(30), 600, permits=20)
    evidence = Evidence()
    for second in range(600):
        since = NOW + second * SECOND
        window = Window(
            succeeded=len([at for at in story.admitted if since <= at < since + SECOND]),
            throttled=len([at for at in story.refused if since <= at < since + SECOND]),
        )
        evidence = evidence.saw("a", window, since + SECOND)
        assert evidence.why(since + SECOND) is None
