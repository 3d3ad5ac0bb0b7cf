"""Copies are told from new records and from another job under the same id."""

import pytest

from outlast.core.seen import Seen, Sight

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
