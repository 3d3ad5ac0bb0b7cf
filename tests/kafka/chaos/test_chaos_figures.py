"""The figures of the chaos table: a pause counts only while an acknowledged job waits."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from aiokafka import TopicPartition

from outlast.core.progress import Progress
from tests.kafka.chaos.deaths import Death, allowed
from tests.kafka.chaos.figures import Row, Table, longest_pause
from tests.kafka.chaos.witness import Call

JOBS = TopicPartition("jobs", 0)
WORK = TopicPartition("work", 0)


@pytest.mark.parametrize(
    ("acknowledged", "started", "pause"),
    [
        ({}, [], None),
        ({"a": 0.0}, [(5.0, "a")], None),  # nothing counts before the first start
        ({"a": 0.0, "b": 1.0}, [(0.0, "a"), (3.0, "b")], 2.0),
        ({"a": 0.0, "b": 3.0}, [(0.0, "a"), (3.1, "b")], pytest.approx(0.1)),
        ({"a": 0.0, "b": 0.0}, [(0.0, "a"), (1.0, "a"), (1.5, "b")], 1.0),
        ({"a": 0.0, "b": 1.0, "c": 0.5}, [(0.0, "a"), (2.0, "b"), (2.1, "c")], 1.5),
    ],
)
def test_a_pause_is_a_time_in_which_a_job_waits_and_none_starts(
    acknowledged: Mapping[str, float], started: Sequence[tuple[float, str]], pause: float | None
) -> None:
    assert longest_pause(acknowledged, started) == pause


def test_a_dead_worker_may_repeat_what_its_group_had_not_committed() -> None:
    death = Death(key="w", at=9.0, progress={WORK: Progress(1, 3, (1,))})
    calls = [Call(caller="w", job=job, began=0.0, ended=1.0, status=200) for job in "abcd"]
    where = {job: [(WORK, offset, 1)] for offset, job in enumerate("abcd")}

    assert allowed([death], calls, where) == Counter("bd")


def test_a_dead_mover_may_repeat_what_it_wrote_twice() -> None:
    death = Death(key="route", at=9.0, progress={JOBS: Progress(1, 1)})
    where = {
        "done": [(JOBS, 0, 0), (WORK, 0, 1)],
        "once": [(JOBS, 1, 0), (WORK, 1, 1)],
        "twice": [(JOBS, 2, 0), (WORK, 2, 1), (WORK, 3, 1)],
    }

    assert allowed([death], [], where) == Counter(["twice"])


def test_the_table_is_aligned() -> None:
    table = Table()
    for name, pause in (("short", None), ("a longer name", 0.25)):
        table.add(
            Row(
                scenario=name,
                jobs=1_000,
                lost=0,
                repeated=1,
                extra_calls=2,
                allowed_calls=3,
                pause_seconds=pause,
                seconds=61.4,
            )
        )

    head, first, second = table.lines()

    assert len(head) == len(first) == len(second)
    assert first.split() == ["short", "1000", "0", "1", "2", "3", "-", "61", "s"]
    assert second.endswith("0.25 s  61 s")
