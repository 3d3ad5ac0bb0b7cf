"""A suspect has little company and gets its turn; without suspects nobody is held up."""

import asyncio
from collections.abc import Hashable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outlast.core.quarantine import SUSPECT, company
from outlast.edges.kafka.quarantine import Quarantine
from tests.stages.fakes import turns


def holding(*unclean: int) -> Quarantine:
    """A quarantine in which records of such a history are worked on, named by their place."""
    quarantine = Quarantine()
    for place, count in enumerate(unclean):
        assert quarantine.enters(place, count, "feed")
    return quarantine


def test_without_suspects_anybody_enters() -> None:
    quarantine = Quarantine()

    assert all(quarantine.enters(place, place % SUSPECT, "feed") for place in range(5_000))


@pytest.mark.parametrize("unclean", [2, 3, 4, 5, 7])
def test_a_suspect_enters_while_there_is_room_for_it_and_not_beyond(unclean: int) -> None:
    most = company(unclean)
    roomy, full = holding(*[0] * (most - 1)), holding(*[0] * most)

    assert roomy.enters("suspect", unclean, "tp")
    assert not full.enters("suspect", unclean, "tp")


@pytest.mark.parametrize("unclean", [2, 3, 4, 5, 7])
def test_beside_a_suspect_only_so_many_enter(unclean: int) -> None:
    quarantine = holding(unclean)
    entered = sum(quarantine.enters(f"other {n}", 0, "other") for n in range(100))

    assert entered == company(unclean) - 1


def test_a_suspect_that_waits_lets_no_other_of_its_feed_pass_it() -> None:
    quarantine = holding(*[0] * 10)
    assert not quarantine.enters("suspect", 4, "tp")
    assert not quarantine.enters("other", 0, "another tp")
    for place in range(10):
        quarantine.leaves(place)

    assert quarantine.enters("suspect", 4, "tp")
    assert not quarantine.enters("other", 0, "another tp")


def test_what_comes_before_a_suspect_in_its_own_partition_may_pass_it() -> None:
    """Its partition was read again from further back: what asked there does not stand in it."""
    quarantine = holding(*[0] * 10)
    assert not quarantine.enters("suspect", 4, "tp")

    assert quarantine.enters("before it", 0, "tp")


def test_who_is_withdrawn_holds_up_nobody() -> None:
    quarantine = holding(*[0] * 10)
    told: list[str] = []
    quarantine.watch(lambda: told.append("changed"))
    assert not quarantine.enters("suspect", 4, "tp")
    assert not quarantine.enters("other", 0, "another tp")
    quarantine.withdraws("tp")
    quarantine.withdraws("tp")

    assert told == ["changed"]
    assert quarantine.enters("other", 0, "another tp")


def test_one_that_leaves_twice_or_never_came_changes_nothing() -> None:
    quarantine = holding(4)
    quarantine.leaves("nobody")
    assert not quarantine.enters("other", 0, "tp")
    quarantine.leaves(0)
    quarantine.leaves(0)

    assert quarantine.enters("other", 0, "tp")
    assert quarantine.enters("another", 0, "tp")


async def test_two_suspects_that_ask_at_once_both_get_their_turn_and_then_all_go_on() -> None:
    quarantine = holding(0, 0)
    order: list[str] = []

    async def one(name: str, unclean: int) -> None:
        await quarantine.entered(name, unclean)
        order.append(f"{name} in")
        await turns(3)
        order.append(f"{name} out")
        quarantine.leaves(name)

    tasks = [asyncio.create_task(one("a", 4)), asyncio.create_task(one("b", 4))]
    await turns()
    tasks += [asyncio.create_task(one(f"n{n}", 0)) for n in range(3)]
    await turns()
    assert order == []
    quarantine.leaves(0)
    quarantine.leaves(1)
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)

    for name in ("a", "b"):  # each alone
        assert order[order.index(f"{name} in") + 1] == f"{name} out"
    assert len(order) == 10


async def test_a_suspect_that_is_cut_while_it_waits_holds_up_nobody() -> None:
    quarantine = holding(0)
    waits = asyncio.create_task(quarantine.entered("suspect", 4))
    await turns()
    assert not quarantine.enters("other", 0, "tp")
    waits.cancel()
    await asyncio.wait({waits})

    assert quarantine.enters("other", 0, "tp")
