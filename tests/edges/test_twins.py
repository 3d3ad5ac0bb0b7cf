"""Of two processes with one instance id the younger goes, also the next time."""

from collections import deque
from types import SimpleNamespace
from typing import cast

import pytest

from outlast.edges.kafka import private
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.watchdog import TWIN_ASSIGNMENTS, TWIN_SECONDS, Watchdog

PUSHES = TWIN_ASSIGNMENTS + 1


def holding(closed_since: float | None = None) -> Assignment:
    """The assignment of one that has its partitions, or was pushed out then."""
    lent = SimpleNamespace(me="older")
    return cast(Assignment, SimpleNamespace(lent=lent, consumer=None, closed_since=closed_since))


async def test_of_two_of_one_age_the_one_that_was_shut_out_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(private, "member_id", lambda _: "member")
    generations: deque[tuple[float, int]] = deque()
    holds = Watchdog(holding(), instance="host-0", generations=generations)
    fought = holds._began + 1
    shut_out = Watchdog(holding(closed_since=fought), instance="host-0", generations=generations)
    generations += [(fought + number / 10, 7) for number in range(PUSHES)]
    looks = [fought + 2 + seconds for seconds in range(8)]

    assert [holds._twin(now) for now in looks] == [None] * len(looks)
    assert "host-0" in ([shut_out._twin(now) for now in looks][-1] or "")


async def test_who_stayed_has_the_same_patience_with_the_next_twin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(private, "member_id", lambda _: "member")
    generations: deque[tuple[float, int]] = deque()
    older = Watchdog(holding(), instance="host-0", generations=generations)
    began = older._began
    first, second = began + 100, began + 100 + 3 * TWIN_SECONDS
    told: list[str | None] = []
    for episode in (first, second):
        generations += [(episode + number / 2, 7) for number in range(PUSHES)]
        told += [older._twin(episode + PUSHES / 2 + late) for late in (0, 1, 2)]
        told.append(older._twin(episode + 2 * TWIN_SECONDS))  # the younger has gone

    assert told == [None] * 8
    pushed = [began + 1_000 + number / 2 for number in range(30)]  # and now nobody goes
    said = []
    for now in pushed:
        generations.append((now, 7))
        said.append(older._twin(now))
    assert set(said[:10]) == {None}
    assert "host-0" in (said[-1] or "")
