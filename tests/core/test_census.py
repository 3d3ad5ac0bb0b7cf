"""The census: of each kind of job the last offset, however many jobs there are."""

from dataclasses import replace

from outlast.core.census import Census
from outlast_schemas.job import Job
from tests.core.given import CATALOGUE, HOUR, NOW, a_job, an_attempt

MINUTE = 60_000


def at(offset: int, *headers: tuple[str, bytes | None], **state: object) -> Job:
    job = a_job(*headers, **state)  # type: ignore[arg-type]
    return replace(job, origin=replace(job.origin, offset=offset))


def counted(*jobs: Job) -> Census:
    census = Census(0)
    for job in jobs:
        census.saw(job, CATALOGUE, NOW)
    return census


def test_what_decides_where_a_job_goes_makes_its_kind_and_nothing_else() -> None:
    alike = [
        at(0),
        at(1, ("x-foreign", b"1"), attempts=(an_attempt(),), calls=3, deadline=NOW + 5 * HOUR),
        at(2, avoid={"deepseek": NOW + 1_000}),  # over by the next sweep
    ]
    others = [
        at(3, route="private"),
        at(4, ("outlast-scope", b"openai")),
        at(5, ("outlast-operation", b"embeddings")),
        at(6, avoid={"deepseek": NOW + HOUR}),
        at(7, avoid={"deepseek": NOW + HOUR + 5}),  # the same to the minute
    ]
    census = counted(*alike, *others)

    assert [offset for offset, _ in census.kinds()] == [2, 3, 4, 5, 7]


def test_one_of_a_kind_is_kept_without_its_body_and_never_expires() -> None:
    [(_, job)] = counted(at(0, deadline=NOW + 1)).kinds()

    assert (job.body, job.state.route) == (b"", "chat")
    assert job.state.deadline > NOW + 1_000 * HOUR


def test_what_is_in_hand_by_now_is_forgotten() -> None:
    census = counted(at(0, route="private", deadline=NOW), at(1), at(2))
    census.came_to(1)

    assert ([offset for offset, _ in census.kinds()], census.read) == ([2], 3)
    assert census.expired(NOW + MINUTE) is None
    census.came_to(9)
    assert (list(census.kinds()), census.read) == ([], 9)


def test_the_expired_are_known_to_the_minute() -> None:
    census = counted(
        at(0, deadline=NOW + 10), at(1, deadline=NOW + HOUR), at(2, deadline=NOW + 20), at(3)
    )
    assert census.expired(NOW) is None
    assert census.expired(NOW + MINUTE) == 2
    assert census.expired(NOW + HOUR + MINUTE) == 3
