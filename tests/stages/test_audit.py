"""The audit: every accepted id has exactly one place, and a moving job is never called lost."""

from collections.abc import AsyncIterator, Sequence

import pytest

from outlast.audit import Accepted, Report, audit, collect, reconcile
from outlast.ports import EndedRun, Open
from outlast_schemas.dead_letter import DeadLetter
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Status
from outlast_schemas.state import State


def job(job_id: str, run: int = 0, body: bytes = b"{}") -> Job:
    return Job(
        id=job_id,
        body=body,
        headers=(),
        state=State(accepted=0, deadline=0, route="", replays=run),
        origin=Origin("outlast.jobs", 0, 0, 0),
    )


def ended(job_id: str, status: Status, run: int = 0) -> EndedRun:
    return EndedRun(job_id=job_id, replays=run, status=status)


def accepted(*jobs: Job) -> Accepted:
    made = Accepted()
    for each in jobs:
        made.add(each)
    return made


@pytest.mark.parametrize(
    ("jobs", "ends", "open_", "expected"),
    [
        ([], [], {}, Report()),
        (["a"], [("a", Status.SUCCEEDED, 0)], {}, Report(accepted=1, succeeded=1)),
        (["a"], [("a", Status.DEAD_LETTERED, 0)], {}, Report(accepted=1, dead_lettered=1)),
        (["a"], [("a", Status.EXPIRED, 0)], {}, Report(accepted=1, expired=1)),
        (["a"], [("a", Status.CANCELLED, 0)], {}, Report(accepted=1, cancelled=1)),
        (["a"], [], {"a": 0}, Report(accepted=1, open=1, open_ids=("a",))),
        (["a"], [], {}, Report(accepted=1, lost=("a",))),
        # its record is not committed yet, and its result is there already: it has ended
        (["a"], [("a", Status.SUCCEEDED, 0)], {"a": 0}, Report(accepted=1, succeeded=1)),
        # replayed after the jobs topic was read: the later run counts
        (["a"], [("a", Status.EXPIRED, 0)], {"a": 1}, Report(accepted=1, open=1, open_ids=("a",))),
        # a crash between a result and its commit wrote two results of one run: the first stands
        (
            ["a"],
            [("a", Status.SUCCEEDED, 0), ("a", Status.EXPIRED, 0)],
            {},
            Report(accepted=1, succeeded=1),
        ),
        # an end nobody asked about
        ([], [("b", Status.SUCCEEDED, 0)], {}, Report()),
    ],
)
def test_every_accepted_id_has_one_place(
    jobs: Sequence[str],
    ends: Sequence[tuple[str, Status, int]],
    open_: dict[str, int],
    expected: Report,
) -> None:
    runs = [EndedRun(job_id=job_id, replays=run, status=status) for job_id, status, run in ends]

    report = reconcile(accepted(*map(job, jobs)), collect(runs), open_)

    assert report == expected


def test_a_job_counts_by_its_latest_run() -> None:
    ends = collect([ended("a", Status.SUCCEEDED, 1), ended("a", Status.EXPIRED, 0)])

    assert reconcile(accepted(job("a"), job("a", 1)), ends, {}) == Report(accepted=1, succeeded=1)
    # the first run's end does not account for the second run
    ends = collect([ended("a", Status.EXPIRED, 0)])
    assert reconcile(accepted(job("a"), job("a", 1)), ends, {}).lost == ("a",)


def test_another_body_under_the_same_id_is_a_conflict_counted_apart() -> None:
    came = accepted(job("a", body=b"1"), job("a", body=b"1"), job("b", body=b"1"), job("b"))

    report = reconcile(came, collect([ended("a", Status.SUCCEEDED)]), {"b": 0})

    assert report == Report(accepted=2, succeeded=1, open=1, open_ids=("b",), conflicts=("b",))


class MovingArchive:
    """What each reading finds, one after the other; the last one again and again."""

    def __init__(
        self,
        jobs: Sequence[Job],
        ends: Sequence[Sequence[EndedRun]],
        opens: Sequence[Sequence[Open]],
    ) -> None:
        self._jobs = jobs
        self._ends = list(ends)
        self._opens = list(opens)
        self.read: list[str] = []

    async def accepted(self) -> AsyncIterator[Job]:
        self.read.append("accepted")
        for each in self._jobs:
            yield each

    async def ended(self) -> AsyncIterator[EndedRun]:
        self.read.append("ended")
        for each in self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]:
            yield each

    async def open(self) -> AsyncIterator[Open]:
        self.read.append("open")
        for each in self._opens.pop(0) if len(self._opens) > 1 else self._opens[0]:
            yield each

    async def dead_letters(self) -> AsyncIterator[DeadLetter]:
        raise AssertionError("the audit needs no dead letters")
        yield


async def test_a_job_that_ends_between_the_readings_is_not_lost() -> None:
    archive = MovingArchive([job("a")], [[], [ended("a", Status.SUCCEEDED)]], [[]])

    assert await audit(archive) == Report(accepted=1, succeeded=1)
    assert archive.read == ["accepted", "ended", "open", "ended"]


async def test_a_job_seen_in_a_later_round_is_not_lost() -> None:
    where = [Open(job_id="a", replays=0, topic="outlast.parked")]
    archive = MovingArchive([job("a")], [[]], [[], [], where])

    assert await audit(archive) == Report(accepted=1, open=1, open_ids=("a",))


async def test_only_what_three_rounds_miss_is_lost_and_named() -> None:
    archive = MovingArchive([job("a"), job("b")], [[ended("b", Status.SUCCEEDED)]], [[]])

    report = await audit(archive)

    assert report == Report(accepted=2, succeeded=1, lost=("a",))
    assert archive.read.count("open") == 3
    assert report.to_json()["lost"] == 1
    assert report.to_json()["lost_ids"] == ["a"]
