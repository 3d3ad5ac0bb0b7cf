"""The archive on real Kafka: from the first record to the end, whatever lies between."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TypeVar

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from outlast.audit import Report, audit
from outlast.core.lifecycle import Hop
from outlast.core.progress import Progress, encode
from outlast.edges.codec import Encoded
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.publish import JobsPublisher, Publisher
from outlast.edges.kafka.scan import from_the_first, scan
from outlast.ports import Archive, EndedRun, Open
from outlast.replay import Wish, look, replay
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Result, Served, Status
from outlast_schemas.state import State
from tests.kafka.cluster import Place, partitions, place

pytestmark = pytest.mark.kafka

T = TypeVar("T")


def job(job_id: str, run: int = 0, hop: int = 1) -> Job:
    return Job(
        id=job_id,
        body=b'{"messages": [{"role": "user", "content": "x"}]}',
        headers=(("customer", b"c"),),
        state=State(accepted=1, deadline=2, route="chat", replays=run, hop=hop),
        origin=Origin("x", 0, 0, 0),
    )


def published(where: Place, job_id: str) -> Encoded:
    return Encoded(
        where.topics.jobs, job_id.encode(), job(job_id).body, [("ce_id", job_id.encode())]
    )


def served(where: Place, job_id: str, run: int = 0) -> Result:
    return Result(
        job=job(job_id, run),
        topic=where.topics.results(),
        status=Status.SUCCEEDED,
        served=Served(body=b'{"choices": []}', provider="local", model="m"),
    )


def set_aside(where: Place, job_id: str, run: int = 0) -> tuple[DeadLetter, Result]:
    reason, detail = Reason.JOB_REJECTED, "the provider refused it"
    topic = where.topics.results()
    return (
        DeadLetter(job=job(job_id, run), reason=reason, detail=detail),
        Result(
            job=job(job_id, run),
            topic=topic,
            status=Status.DEAD_LETTERED,
            reason=reason,
            message=detail,
        ),
    )


async def all_of(found: AsyncIterator[T]) -> list[T]:
    return [each async for each in found]


async def route_has_done(where: Place) -> None:
    """Commit the ends of the jobs topic, as route does when it has moved everything on."""
    jobs = partitions(where.topics.jobs, range(3))
    ends: dict[TopicPartition, int] = dict.fromkeys(jobs, 0)
    async for record in scan(where.kafka, from_the_first(jobs)):
        ends[TopicPartition(record.topic, record.partition)] = record.offset + 1
    await where.commit(Groups(where.kafka.prefix).route, dict(ends))


async def test_empty_topics_are_read_to_their_end(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        archive: Archive = where.archive

        assert await all_of(archive.accepted()) == []
        assert await all_of(archive.ended()) == []
        assert await all_of(archive.dead_letters()) == []
        assert await all_of(archive.open()) == []


async def test_markers_aborted_records_and_a_cut_start_do_not_hold_a_scan_up(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        topic = where.topics.jobs
        producer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=where.kafka.prefix)
        await producer.start()
        try:
            for number in range(3):
                async with producer.transaction():
                    await producer.send_and_wait(topic, b"%d" % number, partition=0)
        finally:
            await producer.stop()
        await where.admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(1)})

        found = await all_of(scan(where.kafka, from_the_first(partitions(topic, range(3)))))

        # offsets 1, 3 and 5 are markers; the first record was deleted
        assert [(each.offset, each.value) for each in found] == [(2, b"1"), (4, b"2")]


async def test_results_come_back_with_their_reason_and_foreign_records_are_passed(
    kafka: str,
) -> None:
    async with place(kafka) as where:
        await where.apply()
        foreign = Encoded(where.topics.results(), b"k", b"hello", [("x", b"y")])
        await where.write(served(where, "a"), foreign, *set_aside(where, "b", run=2))

        ended = await all_of(where.archive.ended())

        assert sorted(ended, key=lambda each: each.job_id) == [
            EndedRun(job_id="a", replays=0, status=Status.SUCCEEDED),
            EndedRun(
                job_id="b", replays=2, status=Status.DEAD_LETTERED, reason=Reason.JOB_REJECTED
            ),
        ]


async def test_dead_letters_come_back_whole(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        await where.write(set_aside(where, "a", run=1)[0])

        [letter] = await all_of(where.archive.dead_letters())

        assert (letter.reason, letter.detail) == (Reason.JOB_REJECTED, "the provider refused it")
        assert (letter.job.id, letter.job.body) == ("a", job("a").body)
        assert letter.job.state == job("a", run=1).state
        assert letter.job.header("customer") == "c"
        assert letter.job.origin.topic == where.topics.dead_letters
        assert letter.job.origin.appended > 0


async def test_open_is_what_the_commits_and_their_metadata_leave(kafka: str) -> None:
    async with place(kafka, topic_partitions={"parked": 1, "jobs": 1}) as where:
        await where.apply()
        parked, groups = where.topics.parked, Groups(where.kafka.prefix)
        await where.write(*(Hop(parked, job(f"p{n}", run=n)) for n in range(6)))
        await where.write(*(published(where, f"j{n}") for n in range(2)))
        # 0 is done; 1 and 3 are not, 2 is; nobody has looked at 4 and 5 yet
        note = encode(Progress(1, 4, (1, 3)))
        await where.commit(groups.park, {TopicPartition(parked, 0): (1, note)})
        await where.commit(groups.route, {TopicPartition(where.topics.jobs, 0): (1, "")})

        found = await all_of(where.archive.open())

        assert sorted(found, key=lambda each: each.job_id) == [
            Open(job_id="j1", replays=0, topic=where.topics.jobs),
            *(Open(job_id=f"p{n}", replays=n, topic=parked) for n in (1, 3, 4, 5)),
        ]


async def test_a_pool_that_left_the_configuration_is_still_read(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        work = where.topics.work("local")
        await where.write(Hop(work, job("a")))
        without = replace(where, catalogue=replace(where.catalogue, providers={}))

        assert await all_of(without.archive.open()) == [Open(job_id="a", replays=0, topic=work)]


async def test_the_audit_balances_and_a_replay_moves_its_job(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        await where.write(*(published(where, name) for name in "abcd"))
        await where.write(served(where, "a"), *set_aside(where, "b"), *set_aside(where, "c"))
        await route_has_done(where)

        before = await audit(where.archive)
        await replay_one(where, "b")
        after = await audit(where.archive)

        assert before == Report(accepted=4, succeeded=1, dead_lettered=2, lost=("d",))
        assert after == Report(
            accepted=4, succeeded=1, dead_lettered=1, open=1, open_ids=("b",), lost=("d",)
        )
        [again] = [each async for each in where.archive.accepted() if each.state.replays]
        assert (again.id, again.body, again.header("customer")) == ("b", job("b").body, "c")
        assert again.header("outlast-ttl-seconds") == "30.0"
        # it runs again, so there is nothing to replay now
        assert (await look(where.archive, Wish(ids=frozenset({"b"})))).letters == ()

        await where.write(served(where, "b", run=1))
        assert (await audit(where.archive)).succeeded == 2


async def replay_one(where: Place, job_id: str) -> None:
    wish = Wish(ids=frozenset({job_id}), ttl_seconds=30.0)
    selection = await look(where.archive, wish)
    publisher = Publisher(where.kafka)
    try:
        out = JobsPublisher(publisher, where.codec)
        assert await replay(selection.letters, wish, "run-1", out, where.topics) == 1
    finally:
        await publisher.close()
