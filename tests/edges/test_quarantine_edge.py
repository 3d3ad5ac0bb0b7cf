"""A suspect has little company and gets its turn; without suspects nobody is held up."""

import asyncio
from collections.abc import Callable, Hashable
from typing import cast

import pytest
from aiokafka import TopicPartition
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outlast.core.quarantine import SUSPECT, company
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.quarantine import Quarantine
from outlast.edges.kafka.starts import Starts
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


async def test_who_waited_for_the_last_suspect_goes_on_when_it_leaves() -> None:
    quarantine = holding(4)
    told: list[str] = []
    quarantine.watch(lambda: told.append("changed"))
    waits = asyncio.create_task(quarantine.entered("other", 0))
    await turns()
    assert not waits.done()
    quarantine.leaves(0)
    await turns()

    assert (waits.done(), told) == (True, ["changed"])
    waits.cancel()


@pytest.mark.parametrize("unclean", [2, 3, 4])
def test_a_suspect_that_waits_gets_the_next_place_that_is_free(unclean: int) -> None:
    quarantine = holding(*[0] * company(unclean))
    assert not quarantine.enters("suspect", unclean, "tp")
    quarantine.leaves(0)

    assert not quarantine.enters("other", 0, "another tp")
    assert quarantine.enters("suspect", unclean, "tp")


@pytest.mark.parametrize("later", [2, 3, 4])
def test_suspects_get_their_turn_in_the_order_they_asked(later: int) -> None:
    quarantine = holding(0)
    assert not quarantine.enters("first", 4, "tp")
    assert not quarantine.enters("second", later, "another tp")
    quarantine.leaves(0)

    assert not quarantine.enters("second", later, "another tp")
    assert quarantine.enters("first", 4, "tp")


class Quiet:
    """An assignment of which nothing rests and nothing is ever lost."""

    records = None

    def watch(self, opened: Callable[[], None]) -> None:
        """Nothing is told."""


HERE, THERE = TopicPartition("outlast.jobs", 0), TopicPartition("outlast.jobs", 1)


def starts_in(quarantine: Quarantine) -> Starts:
    """The starts of one feed."""
    return Starts(cast(Assignment, Quiet()), quarantine)


def test_who_cannot_ask_again_does_not_stand_in_the_way_of_others() -> None:
    """Its partition is closed, or its topic has no room: it would never take its turn."""
    starts = starts_in(holding(*[0] * 10))
    assert not starts.may_start(HERE, 5, 4)
    starts.only([HERE, THERE])
    assert not starts.may_start(THERE, 0, 0)
    starts.only([THERE])

    assert starts.may_start(THERE, 0, 0)


def test_who_could_not_ask_for_a_while_asks_anew_behind_those_who_did() -> None:
    quarantine = holding(0)
    starts = starts_in(quarantine)
    assert not starts.may_start(HERE, 5, 4)
    starts.only([THERE])
    assert not starts.may_start(THERE, 7, 4)
    starts.only([HERE, THERE])
    assert not starts.may_start(HERE, 5, 4)
    quarantine.leaves(0)

    assert not starts.may_start(HERE, 5, 4)
    assert starts.may_start(THERE, 7, 4)


def test_only_who_is_withdrawn_makes_the_others_try_again() -> None:
    quarantine = holding(*[0] * 10)
    starts = starts_in(quarantine)
    told: list[str] = []
    quarantine.watch(lambda: told.append("changed"))
    starts.only([HERE])
    assert not starts.may_start(HERE, 5, 4)
    starts.only([HERE])
    assert told == []
    starts.only([])
    starts.only([])

    assert told == ["changed"]


Ask = tuple[str, int]


class Company(RuleBasedStateMachine):
    """Feeds that ask for the heads of their partitions, and who rested and asks to go on."""

    def __init__(self) -> None:
        """Begin with nobody; four partitions, of which each has a head now and then."""
        super().__init__()
        self.quarantine = Quarantine()
        self.inside: dict[Hashable, int] = {}
        self.heads: dict[str, Ask] = {}
        self.waited: list[str] = []
        self.count = 0
        self.told = 0
        self.quarantine.watch(self._hear)

    def _hear(self) -> None:
        self.told += 1

    @rule(tp=st.sampled_from("abcd"), unclean=st.sampled_from([0, 0, 0, 1, 2, 3, 4]))
    def ask(self, tp: str, unclean: int) -> None:
        """A head that may not enter stays the head, as the feed asks in order."""
        if tp not in self.heads:
            self.count += 1
            self.heads[tp] = (f"record {self.count}", unclean)
        place, unclean = self.heads[tp]
        if self.quarantine.enters(place, unclean, tp):
            suspects = [each for each in self.waited if each != tp]

            assert not suspects or self._is_crowded_by_one_of(tp)
            self.inside[place] = unclean
            del self.heads[tp]
            self.waited = [each for each in self.waited if each != tp]
        elif unclean >= SUSPECT and tp not in self.waited:
            self.waited.append(tp)

    def _is_crowded_by_one_of(self, tp: str) -> bool:
        """Whether it asked before all others that wait."""
        return bool(self.waited) and self.waited[0] == tp

    @precondition(lambda self: len(self.inside) < 70)
    @rule(count=st.integers(1, 70))
    def crowd(self, count: int) -> None:
        for _ in range(count):
            self.count += 1
            place = f"record {self.count}"
            if not self.quarantine.enters(place, 0, "crowd"):
                break
            assert not self.waited
            self.inside[place] = 0

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(self.inside, key=str)))
        del self.inside[place]
        self.quarantine.leaves(place)

    @rule(tp=st.sampled_from("abcd"))
    def lose_a_partition(self, tp: str) -> None:
        self.heads.pop(tp, None)
        self.waited = [each for each in self.waited if each != tp]
        self.quarantine.withdraws(tp)

    @invariant()
    def nobody_has_more_company_than_may_be(self) -> None:
        assert all(len(self.inside) <= company(unclean) for unclean in self.inside.values())

    def teardown(self) -> None:
        """All that waits gets its turn, however the partitions are asked in turn."""
        for _ in range(len(self.inside) + len(self.heads) + 1):
            for place in list(self.inside):
                del self.inside[place]
                self.quarantine.leaves(place)
            for tp in sorted(self.heads):
                self.ask(tp, 0)
        assert self.heads == {}
        for place in list(self.inside):
            self.quarantine.leaves(place)

        assert all(self.quarantine.enters(n, 0, "feed") for n in range(200))


Company.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, derandomize=True
)
TestCompany = Company.TestCase
