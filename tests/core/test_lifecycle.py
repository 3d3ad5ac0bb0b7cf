"""Every place of a job is reached and left, and every decision writes the records it must."""

from dataclasses import replace
from typing import Final

import pytest

from outlast.core.lifecycle import (
    ENDS,
    WAYS,
    Ask,
    Complete,
    Decision,
    Expire,
    Hop,
    Outgoing,
    Park,
    Place,
    SetAside,
    Wait,
    records,
)
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.job import Job
from outlast_schemas.result import Result, Served, Status
from outlast_schemas.topics import Topics
from tests.core.given import CATALOGUE, HOUR, LUNA, NOW, a_job

TOPICS: Final = Topics()
ANSWER: Final = Served(body=b"{}", provider="openai", model="luna-2026")


def written(decision: Decision, topics: Topics = TOPICS) -> tuple[Outgoing, ...]:
    """The records of a decision taken now."""
    return records(decision, topics, CATALOGUE, NOW)


def hop(decision: Decision) -> Hop:
    """The one record of a decision that moves the job on."""
    (record,) = written(decision)
    assert isinstance(record, Hop)
    return record


def reached_from(start: Place) -> set[Place]:
    """Every place a job can get to."""
    found, ahead = {start}, [start]
    while ahead:
        new = WAYS[ahead.pop()] - found
        found |= new
        ahead += new
    return found


def test_the_table_knows_every_place() -> None:
    assert set(WAYS) == set(Place)


def test_every_place_is_reached_from_a_published_job() -> None:
    assert reached_from(Place.ACCEPTED) == set(Place)


@pytest.mark.parametrize("place", [place for place in Place if place not in ENDS])
@pytest.mark.parametrize("end", ENDS)
def test_a_job_can_end_in_each_way_from_wherever_it_is(place: Place, end: Place) -> None:
    assert end in reached_from(place)


@pytest.mark.parametrize("place", [place for place in Place if place not in ENDS])
def test_a_deadline_a_cancel_and_a_fault_end_a_job_at_its_next_touch(place: Place) -> None:
    assert {Place.EXPIRED, Place.CANCELLED, Place.DEAD_LETTERED} <= WAYS[place]


def test_only_a_job_in_a_pool_can_succeed() -> None:
    assert [place for place in Place if Place.SUCCEEDED in WAYS[place]] == [Place.QUEUED]


@pytest.mark.parametrize(
    ("end", "ways"),
    [
        (Place.SUCCEEDED, set()),
        (Place.CANCELLED, set()),
        # what is kept as a dead letter can be replayed
        (Place.DEAD_LETTERED, {Place.ACCEPTED}),
        (Place.EXPIRED, {Place.ACCEPTED}),
    ],
)
def test_an_end_is_left_only_by_a_replay(end: Place, ways: set[Place]) -> None:
    assert WAYS[end] == ways


def test_a_status_is_an_end() -> None:
    assert {place.value for place in ENDS} == {status.value for status in Status}


@pytest.mark.parametrize(
    ("decision", "topic", "due", "target"),
    [
        (Ask(a_job(due=NOW), LUNA), "outlast.work.openai", None, "openai/luna"),
        (Wait(a_job(target="openai/luna"), NOW), "outlast.retry.0s", NOW, None),
        # a due that has come is as good as now
        (Wait(a_job(), NOW - 5_000), "outlast.retry.0s", NOW - 5_000, None),
        (Wait(a_job(), NOW + 1), "outlast.retry.5s", NOW + 1, None),
        (Wait(a_job(), NOW + 5_000), "outlast.retry.5s", NOW + 5_000, None),
        (Wait(a_job(), NOW + 7_000), "outlast.retry.30s", NOW + 7_000, None),
        (Wait(a_job(), NOW + 120_000), "outlast.retry.2m", NOW + 120_000, None),
        (Wait(a_job(), NOW + 120_001), "outlast.retry.10m", NOW + 120_001, None),
        # longer than the longest tier: it passes through more than once, its due stays
        (Wait(a_job(), NOW + 1_800_000), "outlast.retry.10m", NOW + 1_800_000, None),
        (Wait(a_job(), NOW + HOUR - 1), "outlast.retry.10m", NOW + HOUR - 1, None),
        # only the deadline expires a job: what would be due after it is parked
        (Wait(a_job(), NOW + HOUR), "outlast.parked", None, None),
        (Wait(a_job(), NOW + 10 * HOUR), "outlast.parked", None, None),
        (Park(a_job(due=NOW, target="openai/luna")), "outlast.parked", None, None),
    ],
)
def test_a_job_under_way_is_written_to_one_topic(
    decision: Decision, topic: str, due: int | None, target: str | None
) -> None:
    record = hop(decision)

    assert record.topic == topic
    assert record.job.state.due == due
    assert record.job.state.target == target


@pytest.mark.parametrize(
    "decision", [Ask(a_job(hop=6), LUNA), Wait(a_job(hop=6), NOW), Park(a_job(hop=6))]
)
def test_every_append_is_a_hop_and_changes_nothing_else(decision: Decision) -> None:
    job = hop(decision).job
    unchanged = replace(job.state, hop=6, due=None, target=None)

    assert job.state.hop == 7
    assert replace(job, state=unchanged) == a_job(hop=6)


def test_an_answer_becomes_the_result() -> None:
    job = a_job(hop=3)

    assert written(Complete(job, ANSWER)) == (
        Result(job=job, topic="outlast.results", status=Status.SUCCEEDED, served=ANSWER),
    )


def test_a_job_set_aside_is_kept_before_its_result_is_written() -> None:
    job = a_job(hop=3)
    decision = SetAside(job, Reason.JOB_REJECTED, "no such tool (HTTP 400)", "job_rejected")

    assert written(decision) == (
        DeadLetter(job=job, reason=Reason.JOB_REJECTED, detail="no such tool (HTTP 400)"),
        Result(
            job=job,
            topic="outlast.results",
            status=Status.DEAD_LETTERED,
            reason=Reason.JOB_REJECTED,
            message="no such tool (HTTP 400)",
            verdict="job_rejected",
        ),
    )


def test_an_expired_job_is_kept_too_so_that_it_can_be_replayed() -> None:
    letter, result = written(Expire(a_job()))

    assert isinstance(letter, DeadLetter)
    assert letter.reason is Reason.DEADLINE
    assert isinstance(result, Result)
    assert (result.status, result.reason) == (Status.EXPIRED, Reason.DEADLINE)


def test_a_conflict_writes_no_result_under_the_id_of_the_other() -> None:
    job = a_job()
    decision = SetAside(job, Reason.CONFLICT, "job-1 was published with another body")

    assert written(decision) == (
        DeadLetter(job=job, reason=Reason.CONFLICT, detail="job-1 was published with another body"),
    )


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.CONFLICT])
def test_every_other_reason_writes_a_dead_letter_and_then_a_result(reason: Reason) -> None:
    letter, result = written(SetAside(a_job(), reason, "why"))

    assert isinstance(letter, DeadLetter)
    assert isinstance(result, Result)
    assert letter.reason is result.reason is reason
    assert result.status is Status.DEAD_LETTERED


@pytest.mark.parametrize(("size", "fits"), [(1_000, True), (1_001, False)])
def test_an_answer_that_fits_no_record_ends_as_a_dead_letter(size: int, fits: bool) -> None:
    served = replace(ANSWER, body=b"x" * size)
    out = written(Complete(a_job(), served))

    assert [type(record) for record in out] == ([Result] if fits else [DeadLetter, Result])
    assert fits or _too_large(out)


def _too_large(out: tuple[Outgoing, ...]) -> bool:
    letter, result = out
    return (
        isinstance(letter, DeadLetter)
        and isinstance(result, Result)
        and letter.reason is result.reason is Reason.ANSWER_TOO_LARGE
        and result.status is Status.DEAD_LETTERED
        and result.served is None
        and "1,001 bytes" in letter.detail
    )


@pytest.mark.parametrize(
    ("job", "topic"),
    [
        (a_job(), "outlast.results"),
        (a_job(route="west"), "outlast.results.west"),
        (a_job(("outlast-results", b"west")), "outlast.results.west"),
        # a job goes before its route
        (a_job(("outlast-results", b"default"), route="west"), "outlast.results"),
        # one that no route has: what is wrong with the job is told where its route's readers are
        (a_job(("outlast-results", b"mine"), route="west"), "outlast.results.west"),
        (a_job(("outlast-results", None), route="west"), "outlast.results.west"),
        (a_job(("outlast-results", b"\xff"), route="west"), "outlast.results.west"),
        # never admitted, or of a route that left the configuration
        (a_job(route=""), "outlast.results"),
        (a_job(route="gone"), "outlast.results"),
        (a_job(route="openai/any-model"), "outlast.results"),
    ],
)
@pytest.mark.parametrize("end", [Expire, lambda job: Complete(job, ANSWER)])
def test_a_result_goes_where_the_job_or_its_route_says(
    job: Job, topic: str, end: type[Expire]
) -> None:
    result = written(end(job))[-1]

    assert isinstance(result, Result)
    assert result.topic == topic


def test_every_topic_carries_the_prefix() -> None:
    topics = Topics("team")
    out = [
        written(decision, topics)[-1]
        for decision in (Ask(a_job(), LUNA), Wait(a_job(), NOW), Park(a_job()), Expire(a_job()))
    ]

    assert [record.topic for record in out if not isinstance(record, DeadLetter)] == [
        "team.work.openai",
        "team.retry.0s",
        "team.parked",
        "team.results",
    ]
