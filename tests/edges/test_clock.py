"""The clock: broker time learnt from acks, and waits that can be let go of."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from outlast.core.errors import Released
from outlast.edges import clock as module
from outlast.edges.clock import BrokerClock

SECOND = 1_000


class Local:
    """The monotonic clock of a machine, moved by hand."""

    def __init__(self) -> None:
        self.ms = 50_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Local:
    moved = Local()
    monkeypatch.setattr(module, "_monotonic_ms", moved)
    return moved


def test_before_the_first_ack_the_wall_clock_must_do() -> None:
    before = int(time.time() * 1_000)
    now = BrokerClock().now()
    after = int(time.time() * 1_000)

    assert before - 1 <= now <= after + 1  # two clocks, each cut to whole milliseconds


def test_between_acks_it_goes_on_with_the_local_monotonic_clock(local: Local) -> None:
    clock = BrokerClock()
    clock.learn(1_000_000)
    local.ms += 1_234

    assert clock.now() == 1_001_234


@pytest.mark.parametrize(
    ("acks", "now"),
    [
        # an append lies before its ack, so of several the latest offset is the best
        ([(0, 1_000_000)], 1_000_000),
        ([(0, 1_000_000), (10, 1_000_020)], 1_000_020),
        ([(0, 1_000_000), (10, 1_000_005)], 1_000_010),  # an ack that was slow to come
        # the first ack wins over the wall clock, be it ahead or behind
        ([(0, 5)], 5),
        ([(0, 9_000_000_000_000)], 9_000_000_000_000),
        # drift: after ten minutes what was learnt is forgotten
        ([(0, 1_000_000), (600_000, 1_500_000)], 1_600_000),
        ([(0, 1_000_000), (600_001, 1_500_000)], 1_500_000),
    ],
)
def test_each_ack_is_a_lower_bound(local: Local, acks: list[tuple[int, int]], now: int) -> None:
    clock, began = BrokerClock(), local.ms
    for at, appended in acks:
        local.ms = began + at
        clock.learn(appended)

    assert clock.now() == now


@pytest.mark.parametrize(("behind", "alarms"), [(60 * SECOND, 1), (0, 0)])
def test_a_wall_clock_that_is_far_off_is_told_once(local: Local, behind: int, alarms: int) -> None:
    clock = BrokerClock()
    with capture_logs() as logs:
        for _ in range(3):
            clock.learn(int(time.time() * 1_000) - behind)
            local.ms += 600_001

    assert [each["event"] for each in logs] == ["clock.skewed"] * alarms


def test_dice_lie_from_nought_up_to_one() -> None:
    rolls = {BrokerClock().roll() for _ in range(100)}

    assert all(0 <= roll < 1 for roll in rolls)
    assert len(rolls) > 1


async def test_a_wait_ends_at_its_time_and_not_before() -> None:
    clock = BrokerClock()
    due = clock.now() + 30
    await clock.wait_until(due)

    assert clock.now() >= due


async def test_who_waits_can_be_let_go_of() -> None:
    clock = BrokerClock()
    waiting = [asyncio.create_task(clock.wait_until(clock.now() + 3_600_000)) for _ in range(3)]
    await asyncio.sleep(0)
    clock.let_go()
    ended = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(each) for each in ended] == [Released] * 3


async def test_once_let_go_nothing_waits_any_more_but_what_is_due_goes() -> None:
    clock = BrokerClock()
    clock.let_go()

    await clock.wait_until(clock.now())
    with pytest.raises(Released):
        await clock.wait_until(clock.now() + 3_600_000)
