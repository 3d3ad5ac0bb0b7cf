"""The dump on real Kafka: what is written comes out, whole, and what is not done is open."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from outlast.core.lifecycle import Hop
from outlast.core.policy import Route, Target
from outlast.core.progress import Progress, encode
from outlast.drill.conservation import (
    Allowance,
    Dump,
    End,
    Letter,
    Open,
    Published,
    Rule,
    Trace,
    check,
)
from outlast.drill.dump import dump
from outlast.edges.codec import Encoded
from outlast.edges.kafka.groups import Groups
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Result, Served, Status
from outlast_schemas.state import State
from tests.kafka.cluster import CATALOGUE, Place, place

pytestmark = pytest.mark.kafka

ROUTES: Final = {
    **CATALOGUE.routes,
    "west": Route(name="west", targets=(Target("local", "m"),), results="west"),
}
ONE_EACH: Final = dict.fromkeys(
    (
        *("jobs", "work.local", "retry.5s", "parked"),
        *("results", "results.west", "dead-letters"),
    ),
    1,
)


@asynccontextmanager
async def corner(servers: str) -> AsyncIterator[Place]:
    """Topics of one partition, so that offsets count what was written."""
    async with place(servers, topic_partitions=ONE_EACH) as bare:
        where = replace(bare, catalogue=replace(CATALOGUE, routes=ROUTES))
        await where.apply()
        yield where


def job(job_id: str, run: int = 0, hop: int = 1, calls: int = 0, charged: int = 0) -> Job:
    return Job(
        id=job_id,
        body=b'{"messages": [{"role": "user", "content": "x"}]}',
        headers=(),
        state=State(
            accepted=1,
            deadline=2,
            route="chat",
            replays=run,
            hop=hop,
            calls=calls,
            charged=charged,
        ),
        origin=Origin("x", 0, 0, 0),
    )


def published(where: Place, job_id: str) -> Encoded:
    return Encoded(where.topics.jobs, job_id.encode(), b"{}", [("ce_id", job_id.encode())])


def replayed(where: Place, job_id: str, run: int) -> Encoded:
    record = where.codec.encode(Hop(where.topics.jobs, job(job_id, run, calls=7)), 0)
    return replace(record, headers=[*record.headers, ("outlast-replay", b"r")])


def ended(where: Place, of: Job, status: Status, topic: str = "default") -> Result:
    served = Served(body=b'{"choices": []}', provider="local", model="m")
    reason = {Status.EXPIRED: Reason.DEADLINE, Status.DEAD_LETTERED: Reason.JOB_REJECTED}
    return Result(
        job=of,
        topic=where.topics.results(topic),
        status=status,
        served=served if status is Status.SUCCEEDED else None,
        reason=reason.get(status),
    )


def aside(of: Job, reason: Reason = Reason.JOB_REJECTED) -> DeadLetter:
    return DeadLetter(job=of, reason=reason, detail="why")


def in_order(record: Trace) -> tuple[str, int]:
    return record.place.topic, record.place.offset


async def dumped(where: Place) -> Dump:
    return without_times(await dump(where.kafka, where.codec, where.admin))


def without_times(found: Dump) -> Dump:
    """Append times are the broker's and change from run to run."""

    def at(place: Origin) -> Origin:
        assert place.appended > 0
        return replace(place, appended=0)

    return replace(
        found,
        ends=tuple(replace(each, place=at(each.place)) for each in found.ends),
        letters=tuple(replace(each, place=at(each.place)) for each in found.letters),
        open=tuple(
            replace(each, place=at(each.place)) for each in sorted(found.open, key=in_order)
        ),
        foreign=tuple(at(each) for each in found.foreign),
    )


def open_at(topic: str, offset: int, of: Job) -> Open:
    state = of.state
    return Open(
        job_id=of.id,
        replays=state.replays,
        hop=state.hop,
        calls=state.calls,
        place=Origin(topic, 0, offset, 0),
    )


async def test_empty_topics_hold_nothing(kafka: str) -> None:
    async with corner(kafka) as where:
        assert await dumped(where) == Dump()


async def test_results_come_with_their_place_and_what_they_tell(kafka: str) -> None:
    async with corner(kafka) as where:
        topics = where.topics
        await where.write(
            ended(where, job("a", calls=2, charged=1), Status.SUCCEEDED),
            ended(where, job("b", run=3, calls=1), Status.CANCELLED),
            ended(where, job("a", calls=3), Status.EXPIRED),
            ended(where, job("c", calls=4), Status.SUCCEEDED, "west"),
        )

        found = await dumped(where)

        assert sorted(found.ends, key=in_order) == [
            End(
                job_id="a",
                replays=0,
                status=Status.SUCCEEDED,
                calls=2,
                charged=1,
                provider="local",
                place=Origin(topics.results(), 0, 0, 0),
            ),
            End(
                job_id="b",
                replays=3,
                status=Status.CANCELLED,
                calls=1,
                charged=0,
                place=Origin(topics.results(), 0, 1, 0),
            ),
            End(
                job_id="a",
                replays=0,
                status=Status.EXPIRED,
                calls=3,
                charged=0,
                place=Origin(topics.results(), 0, 2, 0),
            ),
            End(
                job_id="c",
                replays=0,
                status=Status.SUCCEEDED,
                calls=4,
                charged=0,
                provider="local",
                place=Origin(topics.results("west"), 0, 0, 0),
            ),
        ]
        assert found == replace(Dump(), ends=found.ends)


async def test_dead_letters_come_with_their_reason_and_place(kafka: str) -> None:
    async with corner(kafka) as where:
        await where.write(
            aside(job("a", run=1, calls=2)),
            aside(job("b"), Reason.CONFLICT),
        )

        found = await dumped(where)

        topic = where.topics.dead_letters
        assert found == Dump(
            letters=(
                Letter(
                    job_id="a",
                    replays=1,
                    reason=Reason.JOB_REJECTED,
                    calls=2,
                    place=Origin(topic, 0, 0, 0),
                ),
                Letter(
                    job_id="b",
                    replays=0,
                    reason=Reason.CONFLICT,
                    calls=0,
                    place=Origin(topic, 0, 1, 0),
                ),
            )
        )


async def test_what_is_neither_result_nor_dead_letter_is_shown(kafka: str) -> None:
    async with corner(kafka) as where:
        topics = where.topics
        nonsense = [("outlast-reason", b"nonsense")]
        lacks_a_state = where.codec.encode(ended(where, job("a"), Status.SUCCEEDED), 0)
        headers = [pair for pair in lacks_a_state.headers if pair[0] != "outlast-state"]
        await where.write(
            Encoded(topics.results("west"), b"k", b"hello", [("x", b"y")]),
            Encoded(topics.dead_letters, b"k", b"hello", []),
            Encoded(topics.dead_letters, b"k", b"hello", [("ce_id", b"a"), *nonsense]),
            replace(lacks_a_state, headers=headers),
        )

        found = await dumped(where)

        assert sorted(map(str, found.foreign)) == [
            f"{topics.dead_letters}/0/0",
            f"{topics.dead_letters}/0/1",
            f"{topics.results('west')}/0/0",
        ]
        # it is a result all the same
        assert [(each.job_id, each.charged) for each in found.ends] == [("a", None)]
        assert found.letters == ()


async def test_records_in_jobs_are_counted_by_run_whether_done_or_not(kafka: str) -> None:
    async with corner(kafka) as where:
        jobs = where.topics.jobs
        await where.write(
            published(where, "a"),
            published(where, "b"),
            published(where, "a"),
            replayed(where, "b", 1),
            replayed(where, "b", 2),
            replayed(where, "b", 2),
        )
        await where.commit(Groups(where.kafka.prefix).route, {TopicPartition(jobs, 0): (5, "")})

        found = await dumped(where)

        # a replay begins to count anew
        again = job("b", run=2, hop=0)
        assert found == Dump(
            accepted={"a": 2, "b": 1},
            replayed={("b", 1): 1, ("b", 2): 2},
            open=(open_at(jobs, 5, again),),
        )


async def test_open_is_what_commits_and_their_metadata_leave_in_every_topic(kafka: str) -> None:
    async with corner(kafka) as where:
        topics, groups = where.topics, Groups(where.kafka.prefix)
        work, tier, parked = topics.work("local"), topics.retry("5s"), topics.parked
        kept = {
            name: [job(f"{name}-{each}", hop=each + 1, calls=each) for each in range(6)]
            for name in (work, tier, parked)
        }
        await where.write(*(Hop(name, each) for name, them in kept.items() for each in them))
        await where.write(*(published(where, f"j-{each}") for each in range(3)))
        # of the work 1 and 3 are under way, 4 and 5 not yet looked at
        note = encode(Progress(1, 4, (1, 3)))
        await where.commit(groups.work("local"), {TopicPartition(work, 0): (1, note)})
        await where.commit(groups.retry, {TopicPartition(tier, 0): (5, "")})
        # not ours: whatever was done beyond the offset is not known
        await where.commit(groups.park, {TopicPartition(parked, 0): (4, "by another program")})
        await where.commit(
            groups.route, {TopicPartition(topics.jobs, 0): (0, encode(Progress(0, 2, (0,))))}
        )

        found = await dumped(where)

        assert list(found.open) == [
            open_at(topics.jobs, 0, job("j-0", hop=0)),
            open_at(topics.jobs, 2, job("j-2", hop=0)),
            *(open_at(parked, each, kept[parked][each]) for each in (4, 5)),
            open_at(tier, 5, kept[tier][5]),
            *(open_at(work, each, kept[work][each]) for each in (1, 3, 4, 5)),
        ]


async def test_a_pool_without_configuration_or_commit_is_read_from_the_first_record(
    kafka: str,
) -> None:
    async with corner(kafka) as where:
        work = where.topics.work("local")
        gone = f"{where.kafka.prefix}.work.gone"
        await where.write(Hop(work, job("a")))
        await where.admin.create_topics([NewTopic(gone, 1, 1)])
        await where.write(Hop(gone, job("b")))

        found = await dumped(where)

        assert list(found.open) == [
            open_at(gone, 0, job("b")),
            open_at(work, 0, job("a")),
        ]


async def test_what_retention_deleted_is_not_there_and_the_account_names_it(kafka: str) -> None:
    async with corner(kafka) as where:
        work = where.topics.work("local")
        await where.write(published(where, "a"), published(where, "b"))
        await where.write(Hop(work, job("a")), Hop(work, job("b")))
        route = Groups(where.kafka.prefix).route
        await where.commit(route, {TopicPartition(where.topics.jobs, 0): (2, "")})
        await where.admin.delete_records({TopicPartition(work, 0): RecordsToDelete(1)})

        found = await dump(where.kafka, where.codec, where.admin)
        account = check(Published(acked=frozenset("ab")), found, {}, Allowance())

        assert [(each.rule, each.job_id) for each in account.offenders] == [(Rule.LOST, "a")]
        assert account.open == 1
