"""Who is kept apart: only what was alone when its process died again is ever poison."""

import sys
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.progress import Progress, decode, encode
from outlast.core.quarantine import POISON, SUSPECT, company
from outlast.core.watermark import Watermark

MOST: Final = 200
"""Records that a process takes at most."""


@pytest.mark.parametrize(
    ("unclean", "expected"),
    [(0, sys.maxsize), (1, sys.maxsize), (2, 64), (3, 8), (4, 1), (5, 1), (7, 1)],
)
def test_the_circle_narrows_with_every_unclean_start(unclean: int, expected: int) -> None:
    assert company(unclean) == expected


def test_the_last_start_before_poison_is_alone_and_the_first_suspicion_is_not() -> None:
    assert company(POISON - 1) == 1
    assert company(SUSPECT - 1) == sys.maxsize
    assert all(company(n) >= company(n + 1) for n in range(POISON + 2))


class Life:
    """A process as the quarantine lets it be: it takes records in order, and ends or dies."""

    def __init__(self, number: int, progress: Progress) -> None:
        self.mark = Watermark(progress, f"host-0.{number:08x}")
        self.mark.settle(lambda _: False)

    def take(self, count: int) -> list[int]:
        """As many as may run together, the lowest first."""
        taken: list[int] = []
        least = MOST
        for offset in range(count):
            unclean = self.mark.start(offset).unclean
            if self.mark.is_done(offset) or unclean >= POISON:
                continue
            least = min(least, company(unclean))
            if len(taken) >= least:
                break
            self.mark.admit(offset)
            taken.append(offset)
        return taken


def lives(count: int, killers: set[int], switched_off: list[bool]) -> tuple[set[int], set[int]]:
    """Serve so many records; returns who was condemned, and who ever died alone.

    A life ends when a killer is in flight, or when the machine is switched off.
    """
    condemned: set[int] = set()
    died_alone: set[int] = set()
    low, metadata = 0, ""
    for number in range(40 + 8 * count):
        mark = (life := Life(number, decode(low, metadata))).mark
        poison = [offset for offset in range(mark.high) if mark.start(offset).unclean >= POISON]
        condemned.update(poison)
        for offset in poison:  # its dead letter is written
            mark.done(offset)
        while taken := life.take(count):
            if killers & set(taken) or (switched_off and switched_off.pop()):
                died_alone |= set(taken) if len(taken) == 1 else set()
                break
            for offset in taken:
                mark.done(offset)
        else:
            assert mark.low == count
            return condemned, died_alone
        low, metadata = mark.low, encode(mark.progress())
    raise AssertionError("no progress")


counts = st.integers(1, 300)
some = st.sets(st.integers(0, 299), max_size=3)


@given(counts, some)
@settings(max_examples=60, deadline=None)
def test_killers_are_condemned_and_all_others_are_served(count: int, killers: set[int]) -> None:
    killers = {offset for offset in killers if offset < count}
    condemned, _ = lives(count, killers, [])

    assert condemned == killers


@given(counts, some, st.lists(st.booleans(), max_size=12))
@settings(max_examples=60, deadline=None)
def test_nobody_is_condemned_who_was_not_alone_when_its_process_died(
    count: int, killers: set[int], switched_off: list[bool]
) -> None:
    condemned, died_alone = lives(count, killers, switched_off)

    assert {offset for offset in killers if offset < count} <= condemned <= died_alone
