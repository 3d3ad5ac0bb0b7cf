"""Copies are told from new records and from another job under the same id."""

from collections.abc import Hashable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from outlast.core.seen import Key, Place, Seen, Sight

KEY = ("job-1", 0, 0)
HERE = ("outlast.jobs", 3, 42)
THERE = ("outlast.jobs", 3, 43)


@pytest.mark.parametrize(
    ("key", "place", "body", "expected"),
    [
        (KEY, THERE, "a", Sight.COPY),
        (KEY, ("outlast.jobs", 4, 42), "a", Sight.COPY),
        (KEY, ("outlast.retry.0s", 3, 42), "a", Sight.COPY),
        (KEY, THERE, "b", Sight.CONFLICT),
        # the same record read again, after a rebalance: never a copy of itself
        (KEY, HERE, "a", Sight.NEW),
        (("job-2", 0, 0), THERE, "a", Sight.NEW),
        # the next run and the next hop of the same job
        (("job-1", 1, 0), THERE, "a", Sight.NEW),
        (("job-1", 0, 1), THERE, "a", Sight.NEW),
    ],
)
def test_a_copy_is_the_same_run_and_hop_at_another_offset(
    key: tuple[str, int, int], place: tuple[str, int, int], body: str, expected: Sight
) -> None:
    seen = Seen()
    seen.look(KEY, HERE, "a")

    assert seen.look(key, place, body) is expected


def test_a_copy_does_not_take_the_place_of_the_first() -> None:
    seen = Seen()
    seen.look(KEY, HERE)
    seen.look(KEY, THERE)

    assert seen.look(KEY, HERE) is Sight.NEW
    assert seen.look(KEY, THERE) is Sight.COPY


def test_a_conflict_does_not_take_the_place_of_the_first() -> None:
    seen = Seen()
    seen.look(KEY, HERE, "a")
    seen.look(KEY, THERE, "b")

    assert seen.look(KEY, ("outlast.jobs", 3, 44), "a") is Sight.COPY
    assert seen.look(KEY, ("outlast.jobs", 3, 44), "b") is Sight.CONFLICT


def test_what_was_given_up_unfinished_is_forgotten() -> None:
    seen = Seen()
    seen.look(KEY, HERE)
    seen.forget(KEY, HERE)

    assert seen.look(KEY, THERE) is Sight.NEW


def test_giving_up_a_copy_does_not_forget_the_first() -> None:
    seen = Seen()
    seen.look(KEY, HERE)
    seen.forget(KEY, THERE)

    assert seen.look(KEY, THERE) is Sight.COPY


def test_forgetting_what_was_never_seen_does_nothing() -> None:
    seen = Seen()
    seen.forget(KEY, HERE)

    assert len(seen) == 0


def test_the_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    seen = Seen(remembered=3)
    for offset in range(5):
        seen.look((f"job-{offset}", 0, 0), ("outlast.jobs", 0, offset))
    sights = [seen.look((f"job-{n}", 0, 0), ("outlast.jobs", 0, 100 + n)) for n in (2, 3, 4)]

    assert len(seen) == 3
    assert sights == [Sight.COPY] * 3
    assert seen.look(("job-0", 0, 0), ("outlast.jobs", 0, 100)) is Sight.NEW


def test_looking_at_the_first_again_forgets_nobody() -> None:
    seen = Seen(remembered=2)
    for offset in (0, 1):
        seen.look((f"job-{offset}", 0, 0), ("outlast.jobs", 0, offset))
    for _ in range(10):
        seen.look(("job-1", 0, 0), ("outlast.jobs", 0, 1))

    assert seen.look(("job-0", 0, 0), ("outlast.jobs", 0, 9)) is Sight.COPY


REMEMBERED = 4
keys = st.builds(lambda n: (f"job-{n}", 0, 0), st.integers(0, 7))
places = st.builds(lambda n: ("outlast.jobs", 0, n), st.integers(0, 15))


class Memory(RuleBasedStateMachine):
    """Records that come, come again elsewhere, and are given up; against a plain list."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        super().__init__()
        self.seen = Seen(remembered=REMEMBERED)
        self.firsts: list[tuple[Key, Place, Hashable]] = []

    def _first(self, key: Key) -> tuple[Key, Place, Hashable] | None:
        return next((first for first in self.firsts if first[0] == key), None)

    @rule(key=keys, place=places, body=st.sampled_from("xy"))
    def look(self, key: Key, place: Place, body: str) -> None:
        first = self._first(key)
        sight = self.seen.look(key, place, body)

        if first is None:
            assert sight is Sight.NEW
            self.firsts = [*self.firsts, (key, place, body)][-REMEMBERED:]
        elif first[1] == place:
            assert sight is Sight.NEW, "a copy of itself"
            self.firsts[self.firsts.index(first)] = (key, place, body)
        else:
            assert sight is (Sight.COPY if first[2] == body else Sight.CONFLICT)

    @rule(key=keys, place=places)
    def give_up(self, key: Key, place: Place) -> None:
        self.seen.forget(key, place)
        self.firsts = [first for first in self.firsts if first[:2] != (key, place)]

    @rule(data=st.data())
    def give_up_a_first(self, data: st.DataObject) -> None:
        if self.firsts:
            key, place, _ = data.draw(st.sampled_from(self.firsts))
            self.give_up(key, place)
            assert self.seen.look(key, ("elsewhere", 0, 0)) is Sight.NEW
            self.firsts.append((key, ("elsewhere", 0, 0), None))

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.seen) == len(self.firsts) <= REMEMBERED


Memory.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestMemory = Memory.TestCase
