"""This process's part of the rates: what calls use is learnt, and who waits is woken in time."""

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import cast

import pytest

from outlast.core.policy import Limits, Permit
from outlast.core.tokens import Reserved
from outlast.edges.pool import Share
from outlast.edges.pool.permits import Gate, Permits
from outlast.edges.pool.rates import Rates
from tests.core.given import NOW, a_job

MINUTE = 60_000
MUCH = Reserved(60, 4_096)


class World:
    """The rates of a pool that has one worker, and its clock."""

    def __init__(self, **limits: int) -> None:
        self.now = NOW
        share = SimpleNamespace(epoch=0, partitions=12, owned=range(12))
        self.rates = Rates(Limits(**limits), cast(Share, share), lambda: self.now)
        self.rates.wait_ms(0)
        self.now += MINUTE

    def begin(self, most: int = MUCH) -> Permit:
        self.now += self.rates.wait_ms(most) or 0
        permit = Permit("flash", most)
        self.rates.take(permit)
        return permit

    def end(self, permit: Permit, used: int | None) -> None:
        permit.used = used
        self.rates.put(permit)

    def left(self, kind: str = "tokens") -> float:
        return self.rates.left()[kind][0]


def test_the_more_calls_have_ended_the_less_is_set_aside_for_the_next() -> None:
    world, taken = World(tokens_per_minute=6_000_000), []
    for _ in range(100):
        before = world.left()
        permit = world.begin()
        taken.append(before - world.left())
        world.end(permit, 120)

    assert taken[0] == MUCH
    assert taken == sorted(taken, reverse=True)
    assert taken[-1] == pytest.approx(120, rel=0.05)


def test_what_a_call_used_beyond_what_was_set_aside_is_owed() -> None:
    world = World(tokens_per_minute=600_000)
    for _ in range(200):
        world.end(world.begin(), 120)
    world.now += MINUTE
    before = world.left()
    permit = world.begin()
    world.end(permit, 4_000)

    assert world.left() == pytest.approx(before - 4_000)


def test_of_what_was_no_call_all_comes_back_and_nothing_is_learnt() -> None:
    world = World(tokens_per_minute=6_000_000, requests_per_minute=60_000)
    before = world.rates.left()
    world.end(world.begin(), None)

    assert world.rates.left() == before
    again = world.left()
    world.begin()
    assert again - world.left() == MUCH


def test_a_call_that_was_refused_has_used_its_request_and_no_tokens() -> None:
    world = World(tokens_per_minute=6_000_000, requests_per_minute=60_000)
    world.end(world.begin(Reserved(60, 0)), 120)
    tokens, requests = world.left(), world.left("requests")
    world.end(world.begin(Reserved(60, 0)), 0)

    assert (world.left(), world.left("requests")) == (tokens, requests - 1)


def test_a_permit_that_no_rate_let_through_gives_nothing_back() -> None:
    world = World(tokens_per_minute=6_000_000)
    world.begin()
    before = world.left()
    world.end(Permit("flash", used=0), 0)

    assert world.left() == before


def test_the_less_calls_use_the_more_jobs_are_worth_having_here() -> None:
    world, ahead = World(tokens_per_minute=600_000), []
    for _ in range(100):
        world.end(world.begin(), 120)
        ahead.append(world.rates.ahead())

    # three seconds' worth: 30,000 tokens
    assert ahead[0] == 8
    assert ahead[-1] == pytest.approx(250, rel=0.15)


async def test_who_waits_long_is_woken_earlier_once_something_came_back() -> None:
    waits = [60_000, 1, 0]

    def wait_ms(_: int = 0) -> int:
        return waits.pop(0)

    rates = SimpleNamespace(
        counts_tokens=True, wait_ms=wait_ms, take=lambda _: None, put=lambda _: None
    )
    gate = SimpleNamespace(
        share=lambda: 9,
        ramp=lambda _: None,
        is_up=lambda _: True,
        throttling=SimpleNamespace(wait_ms=lambda: 0, began=lambda _: None),
        rates=rates,
        tokens=lambda _: 100,
    )
    permits = Permits(cast(Gate, gate), lambda _: nullcontext())
    waits.insert(0, 60_000)  # asked once before it waits, and once as it does
    taking = asyncio.create_task(permits.take(a_job(), "flash"))
    while len(waits) > 2:
        await asyncio.sleep(0)
    permits.grant()
    async with asyncio.timeout(10):
        permit = await taking

    assert (permit.model, permit.tokens) == ("flash", 100)
