"""Waiting for the result of one job, on real Kafka: found whenever it comes, by a few readers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.partitioner import DefaultPartitioner

from outlast import AsyncClient, Job, Result
from outlast.core.errors import KafkaUnreachable, TopicsError
from outlast.edges.codec import Encoded
from outlast.edges.kafka import waits
from outlast.edges.kafka.topics import partitions
from outlast.edges.kafka.waits import beginning
from outlast_schemas.result import Status
from tests.kafka.backend import BODY, end, ended
from tests.kafka.cluster import Place, place

pytestmark = pytest.mark.kafka

PATIENCE = 20


@asynccontextmanager
async def client_of(kafka: str, results: int = 3) -> AsyncIterator[tuple[Place, AsyncClient]]:
    async with place(kafka, topic_partitions={"results": results}) as where:
        await where.apply()
        async with AsyncClient(where.kafka) as client:
            yield where, client


def waiting_for(client: AsyncClient, *jobs: Job | str) -> list[asyncio.Task[Result]]:
    return [asyncio.create_task(client.wait(job, timeout=PATIENCE)) for job in jobs]


def readers(client: AsyncClient) -> int:
    return sum(len(each) for each in client._waits._readers.values())


async def until_somebody_waits(client: AsyncClient, how_many: int) -> None:
    """Until so many wait in readers that have arrived at the end of what there was."""
    async with asyncio.timeout(PATIENCE):
        while True:
            there = [each for found in client._waits._readers.values() for each in found]
            if sum(len(each._waiting) for each in there if each._is_at_end) == how_many:
                return
            await asyncio.sleep(0.01)


async def test_a_result_that_comes_later_is_returned(kafka: str) -> None:
    async with client_of(kafka) as (where, client):
        job = await client.publish(BODY)
        [waiting] = waiting_for(client, job)
        await until_somebody_waits(client, 1)
        await end(where, [ended(where, "another"), ended(where, job.id)])

        result = await waiting
        assert (result.job_id, result.text, result.replays) == (job.id, "hello", 0)


async def test_a_result_that_was_there_before_is_returned_for_a_job_and_for_an_id(
    kafka: str,
) -> None:
    async with client_of(kafka) as (where, client):
        job = await client.publish(BODY)
        await end(where, [ended(where, job.id), ended(where, "by-id", failed=True)])

        assert (await client.wait(job, timeout=PATIENCE)).job_id == job.id
        assert (await client.wait(job.id, timeout=PATIENCE)).job_id == job.id
        assert (await client.wait("by-id", timeout=PATIENCE)).status is Status.DEAD_LETTERED


async def test_results_of_other_jobs_pass(kafka: str) -> None:
    async with client_of(kafka, results=1) as (where, client):
        jobs = [await client.publish(BODY) for _ in range(3)]
        waiting = waiting_for(client, *jobs)
        await until_somebody_waits(client, 3)
        await end(where, [ended(where, f"other-{number}") for number in range(50)])
        await end(where, [ended(where, job.id) for job in reversed(jobs)])

        assert [each.job_id for each in await asyncio.gather(*waiting)] == [
            each.id for each in jobs
        ]


async def test_a_job_that_has_not_ended_in_time_can_be_waited_for_again(kafka: str) -> None:
    async with client_of(kafka) as (where, client):
        job = await client.publish(BODY, job_id="slow")
        with pytest.raises(TimeoutError, match=r"job slow has not ended within 0\.3 s; it goes on"):
            await client.wait(job, timeout=0.3)
        with pytest.raises(TimeoutError, match="within 0 s"):
            await client.wait(job, timeout=0)
        await end(where, [ended(where, "slow")])

        assert (await client.wait(job, timeout=PATIENCE)).job_id == "slow"


async def test_several_may_wait_for_one_job_and_one_may_give_up(kafka: str) -> None:
    async with client_of(kafka) as (where, client):
        job = await client.publish(BODY)
        one, two, gone = waiting_for(client, job, job, job)
        await until_somebody_waits(client, 1)
        gone.cancel()
        await asyncio.wait({gone})
        await end(where, [ended(where, job.id)])

        assert gone.cancelled()
        assert (await one).job_id == (await two).job_id == job.id


@pytest.mark.parametrize("order", ["oldest first", "newest first", "by id"])
async def test_two_hundred_wait_with_one_reader_per_partition(kafka: str, order: str) -> None:
    async with client_of(kafka, results=3) as (where, client):
        receipts = [each async for each in client.publish_many([BODY] * 200)]
        jobs: list[Job | str] = [each.raise_for_error() for each in receipts]
        if order == "newest first":
            jobs.reverse()
        if order == "by id":
            jobs = [each.job_id for each in receipts]
        waiting = []
        for job in jobs:
            waiting += waiting_for(client, job)
            await asyncio.sleep(0)
        await until_somebody_waits(client, 200)
        assert readers(client) == 3

        await end(where, [ended(where, each.job_id) for each in receipts])
        found = await asyncio.gather(*waiting)
        assert {each.job_id for each in found} == {each.job_id for each in receipts}
        assert readers(client) == 3


async def test_waiting_in_turn_for_what_has_ended_uses_one_reader(kafka: str) -> None:
    async with client_of(kafka, results=1) as (where, client):
        jobs = [await client.publish(BODY) for _ in range(20)]
        await end(where, [ended(where, job.id) for job in jobs])

        for job in reversed(jobs):
            assert (await client.wait(job, timeout=PATIENCE)).job_id == job.id
        assert readers(client) == 1


async def test_of_several_runs_the_last_one_that_has_ended_is_returned(kafka: str) -> None:
    async with client_of(kafka, results=1) as (where, client):
        job = await client.publish(BODY)
        await end(where, [ended(where, job.id, run, failed=run < 2) for run in range(3)])
        found = await client.wait(job, timeout=PATIENCE)
        await end(where, [ended(where, job.id, 3)])
        async with asyncio.timeout(PATIENCE):
            while (later := await client.wait(job, timeout=PATIENCE)).replays == 2:
                await asyncio.sleep(0.01)

        assert (found.replays, found.status) == (2, Status.SUCCEEDED)
        assert later.replays == 3


async def test_the_result_topic_is_the_jobs_own_or_the_one_that_is_named(kafka: str) -> None:
    async with client_of(kafka) as (where, client):
        await where.admin.create_topics([NewTopic(where.topics.results("team"), 1, 1)])
        job = await client.publish(BODY, results="team")
        await end(where, [ended(where, job.id, name="team")])

        assert (await client.wait(job, timeout=PATIENCE)).job_id == job.id
        assert (await client.wait(job.id, timeout=PATIENCE, results="team")).job_id == job.id
        with pytest.raises(TimeoutError):
            await client.wait(job.id, timeout=1)


async def test_a_missing_result_topic_is_named(kafka: str) -> None:
    async with client_of(kafka) as (_, client):
        with pytest.raises(TopicsError, match=r"results\.team"):
            await client.wait("x", timeout=PATIENCE, results="team")


async def test_jobs_are_found_where_the_topic_has_grown_meanwhile(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "LOOK_SECONDS", 0.3)
    async with client_of(kafka, results=1) as (where, client):
        moved = [name for name in map("job-{}".format, range(40)) if _partition(name, 4) != 0]
        early, later, never, fresh, old = moved[:5]
        await client.publish(BODY, job_id=old)
        await end(where, [ended(where, old)])
        for name in (early, later):
            await client.publish(BODY, job_id=name)
        waiting = waiting_for(client, early, later)
        await until_somebody_waits(client, 2)
        await end(where, [ended(where, early)])
        assert (await waiting[0]).job_id == early

        await where.admin.create_partitions({where.topics.results(): NewPartitions(4)})
        await _until_grown(where, later)
        assert (await waiting[1]).job_id == later
        job = await client.publish(BODY, job_id=fresh)
        await end(where, [ended(where, fresh)])
        assert (await client.wait(job, timeout=PATIENCE)).job_id == fresh
        assert (await client.wait(old, timeout=PATIENCE)).job_id == old
        with pytest.raises(TimeoutError):
            await client.wait(never, timeout=0.5)


def _partition(name: str, count: int) -> int:
    return int(DefaultPartitioner()(name.encode(), list(range(count)), list(range(count))))


async def _until_grown(where: Place, name: str) -> None:
    """Write the result when a producer that starts now sees the new partitions."""
    async with asyncio.timeout(PATIENCE):
        while (await partitions([where.topics.results()], where.admin)).popitem()[1] != 4:
            await asyncio.sleep(0.05)
    [sent] = await end(where, [ended(where, name)])
    assert sent.partition != 0


async def test_closing_the_client_tells_who_waits(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        client = AsyncClient(where.kafka)
        job = await client.publish(BODY)
        [waiting] = waiting_for(client, job)
        await until_somebody_waits(client, 1)
        await client.close()

        with pytest.raises(KafkaUnreachable, match="the client was closed"):
            await waiting


async def test_what_is_forgotten_is_read_again_and_what_is_waited_for_is_not_forgotten(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "REMEMBERED_BYTES", 5_000)
    monkeypatch.setattr(waits, "SKEW_MS", 0)
    async with client_of(kafka, results=1) as (where, client):
        first = await client.publish(BODY, job_id="first")
        await end(where, [ended(where, "first")])
        assert (await client.wait(first, timeout=PATIENCE)).job_id == "first"
        [waiting] = waiting_for(client, "late")
        await until_somebody_waits(client, 1)
        # So many that `first` has gone from the memory of everybody.
        await end(where, [ended(where, f"other-{number}") for number in range(50)])
        await end(where, [ended(where, "late")])
        assert (await waiting).job_id == "late"
        for reader in client._waits._readers[next(iter(client._waits._readers))]:
            assert len(reader._latest) < 6
            assert b"first" not in reader._latest

        assert (await client.wait(first, timeout=PATIENCE)).job_id == "first"
        assert (await client.wait("other-0", timeout=PATIENCE)).job_id == "other-0"


async def test_a_reader_for_whom_nobody_waits_ends_and_the_next_wait_begins_anew(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "IDLE_SECONDS", 0.1)
    async with client_of(kafka) as (where, client):
        job = await client.publish(BODY)
        await end(where, [ended(where, job.id)])
        for _ in range(2):
            assert (await client.wait(job, timeout=PATIENCE)).job_id == job.id
            async with asyncio.timeout(PATIENCE):
                while readers(client) or client._waits._tasks:
                    await asyncio.sleep(0.02)


async def test_who_comes_while_a_reader_leaves_is_not_forgotten(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "IDLE_SECONDS", 0.0)
    async with client_of(kafka, results=1) as (where, client):
        job = await client.publish(BODY)
        await end(where, [ended(where, job.id)])

        for _ in range(60):
            assert (await client.wait(job, timeout=PATIENCE)).job_id == job.id


async def test_what_is_no_result_is_passed_over(kafka: str) -> None:
    async with client_of(kafka, results=1) as (where, client):
        job = await client.publish(BODY)
        topic = where.topics.results()
        [waiting] = waiting_for(client, job)
        await until_somebody_waits(client, 1)
        await end(where, [Encoded(topic, job.id.encode(), b"junk", []), ended(where, job.id)])
        await end(where, [Encoded(topic, job.id.encode(), b"junk", [])])

        assert (await waiting).job_id == job.id
        assert (await client.wait(job, timeout=PATIENCE)).job_id == job.id
        assert (await client.wait(job.id, timeout=PATIENCE)).job_id == job.id


async def test_partitions_that_cannot_be_counted_again_do_not_end_a_wait(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "LOOK_SECONDS", 0.1)
    async with client_of(kafka) as (where, client):
        job = await client.publish(BODY)
        [waiting] = waiting_for(client, job)
        await until_somebody_waits(client, 1)
        asked = asyncio.Event()

        async def nobody(*_: object) -> dict[str, int]:
            asked.set()
            raise KafkaUnreachable("no Kafka broker answers")

        monkeypatch.setattr(waits, "require", nobody)
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
        await end(where, [ended(where, job.id)])

        assert (await waiting).job_id == job.id


async def test_where_nobody_answers_the_wait_says_so() -> None:
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:1"):
        await AsyncClient("127.0.0.1:1").wait("x", timeout=PATIENCE)


@pytest.mark.parametrize("age", [0, 1, 900, 60_000, 3_600_000, 86_400_000])
def test_reading_begins_before_the_job_was_accepted_and_not_much_longer_ago_than_needed(
    age: int,
) -> None:
    now = 1_774_820_100_123
    began = beginning(now - age, now)

    assert began <= now - age - waits.SKEW_MS
    assert now - began <= 2 * (age + waits.SKEW_MS)


def test_reading_begins_early_enough_when_our_clock_is_behind() -> None:
    assert beginning(1_774_820_100_123, 1_000_000) <= 1_774_820_100_123 - waits.SKEW_MS
    assert beginning(0, 1_774_820_100_123) == 0
    assert beginning(5, 10) == 0


def test_jobs_of_one_day_have_a_few_beginnings() -> None:
    now = 1_774_820_100_123
    ages = range(0, 86_400_000, 1_000)

    assert len({beginning(now - age, now) for age in ages}) < 16
