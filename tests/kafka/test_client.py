"""The client on real Kafka: an acknowledged job is in the topic, a result comes once."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outlast import AsyncClient, JobFailed, PublishRefused, PublishUnknown
from outlast.core.errors import KafkaUnreachable, TopicsError
from outlast.edges.kafka.scan import from_the_first, scan
from outlast.edges.settings import Kafka
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Result, Served, Status
from outlast_schemas.state import State
from tests.kafka.cluster import Place, partitions, place

pytestmark = pytest.mark.kafka

BODY = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
ANSWER = b'{"choices": [{"message": {"role": "assistant", "content": "hello"}}]}'


def ended(where: Place, job_id: str, run: int = 0, *, failed: bool = False) -> Result:
    job = Job(
        id=job_id,
        body=b"{}",
        headers=(),
        state=State(accepted=1, deadline=2, route="chat", replays=run, calls=2),
        origin=Origin("x", 0, 0, 0),
    )
    topic = where.topics.results()
    if failed:
        return Result(
            job=job,
            topic=topic,
            status=Status.DEAD_LETTERED,
            reason=Reason.BAD_REQUEST,
            message="no messages",
        )
    answer = Served(body=ANSWER, provider="local", model="m-1")
    return Result(job=job, topic=topic, status=Status.SUCCEEDED, served=answer)


async def published(where: Place) -> list[Any]:
    jobs = from_the_first(partitions(where.topics.jobs, range(3)))
    return [record async for record in scan(where.kafka, jobs)]


async def test_a_job_is_published_with_all_it_asks_for(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka, source="me") as client:
        await where.apply()
        job = await client.publish(
            BODY,
            job_id="job-1",
            route="chat",
            ttl=timedelta(minutes=1),
            scope=["local", "jurisdiction:eu"],
            on_ambiguous="hold",
            results="team",
            headers={"customer": "c", "outlast-tenant": b"t"},
        )

        [record] = await published(where)
        assert (job.id, job.topic) == ("job-1", where.topics.jobs)
        assert (job.partition, job.offset) == (record.partition, record.offset)
        assert record.key == b"job-1"
        headers = dict(record.headers)
        assert headers.pop("ce_time").endswith(b"Z")
        assert headers == {
            "ce_id": b"job-1",
            "ce_type": b"outlast.job.v1",
            "ce_source": b"me",
            "ce_specversion": b"1.0",
            "outlast-route": b"chat",
            "outlast-ttl-seconds": b"60.0",
            "outlast-scope": b"local,jurisdiction:eu",
            "outlast-on-ambiguous": b"hold",
            "outlast-results": b"team",
            "outlast-tenant": b"t",
            "customer": b"c",
        }


async def test_bytes_and_text_are_published_as_they_are(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        deadline = datetime(2026, 3, 30, 8, tzinfo=UTC)
        first = await client.publish(b'{ "a" :1}', deadline=deadline)
        second = await client.publish('{"ü": 1}')

        found = {dict(each.headers)["ce_id"].decode(): each for each in await published(where)}
        assert found[first.id].value == b'{ "a" :1}'
        assert dict(found[first.id].headers)["outlast-deadline"] == b"2026-03-30T08:00:00Z"
        assert found[second.id].value == '{"ü": 1}'.encode()
        assert first.id < second.id  # UUIDv7


@pytest.mark.parametrize(
    ("body", "arguments", "says"),
    [
        (b"x" * 1025, {}, "1,025 bytes; the limit is 1,024"),
        ({"a": object()}, {}, "cannot be written as JSON"),
        (b"{}", {"job_id": "ü"}, "job_id is 1 to 128"),
        (b"{}", {"job_id": "x" * 129}, "job_id is 1 to 128"),
        (b"{}", {"job_id": ""}, "job_id is 1 to 128"),
        (b"{}", {"ttl": 0}, "ttl is a number of seconds above 0"),
        (b"{}", {"ttl": float("nan")}, "ttl is a number of seconds above 0"),
        (b"{}", {"ttl": 1, "deadline": datetime(2026, 1, 1, tzinfo=UTC)}, "exclude each other"),
        (b"{}", {"deadline": datetime(2026, 1, 1)}, "deadline needs a time zone"),  # noqa: DTZ001
        (b"{}", {"scope": []}, "scope is a list"),
        (b"{}", {"scope": ["a,b"]}, "scope is a list"),
        (b"{}", {"on_ambiguous": "maybe"}, "on_ambiguous is one of"),
        (b"{}", {"route": " "}, "route is empty"),
        (b"{}", {"headers": {"outlast-state": "{}"}}, "outlast-state is Outlast's own"),
        (b"{}", {"headers": {"x": "y" * 50_000}}, "the headers have"),
    ],
)
async def test_what_cannot_become_a_job_is_refused_before_it_is_sent(
    body: Any, arguments: dict[str, Any], says: str
) -> None:
    client = AsyncClient(Kafka(bootstrap_servers="127.0.0.1:1", max_body_bytes=1024))

    with pytest.raises(PublishRefused, match=says):
        await client.publish(body, **arguments)


async def test_missing_topics_are_named(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        with pytest.raises(TopicsError, match="outlast topics apply"):
            await client.publish(BODY)


async def test_an_address_where_nobody_answers_is_named() -> None:
    with pytest.raises(KafkaUnreachable, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        async with AsyncClient("127.0.0.1:1"):
            pass


async def test_without_an_acknowledgement_in_time_the_outcome_is_unknown(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        async with AsyncClient(where.kafka, timeout=1e-6) as client:
            with pytest.raises(PublishUnknown, match="job job-1: no acknowledgement"):
                await client.publish(BODY, job_id="job-1")


async def test_a_refusal_of_the_broker_does_not_spoil_what_follows(kafka: str) -> None:
    async with place(kafka, max_body_bytes=1024, topic_partitions={"jobs": 1}) as where:
        await where.apply()
        larger = Kafka(bootstrap_servers=kafka, prefix=where.kafka.prefix)
        async with AsyncClient(larger) as client:
            with pytest.raises(PublishRefused, match="job big"):
                await client.publish(os.urandom(500_000), job_id="big")
            await client.publish(BODY, job_id="small")

        assert [dict(each.headers)["ce_id"] for each in await published_in(where, 1)] == [b"small"]


async def published_in(where: Place, count: int) -> list[Any]:
    jobs = from_the_first(partitions(where.topics.jobs, range(count)))
    return [record async for record in scan(where.kafka, jobs)]


async def take(client: AsyncClient, group: str, count: int) -> list[tuple[str, int]]:
    """Read so many, asking for one more than that never."""
    found: list[tuple[str, int]] = []
    async with asyncio.timeout(20):
        async for result in client.results(group):
            found.append((result.job_id, result.replays))
            if len(found) == count:
                break
    return found


async def test_a_result_says_how_it_ended(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await where.write(ended(where, "good", run=1), ended(where, "bad", failed=True))
        async with AsyncClient(where.kafka) as client:
            stream = client.results("g")
            good, bad = await anext(stream), await anext(stream)

        assert (good.job_id, good.replays, good.status) == ("good", 1, Status.SUCCEEDED)
        assert (good.text, good.provider, good.model) == ("hello", "local", "m-1")
        assert (good.route, good.attempts) == ("chat", 2)
        assert good.raise_for_status() is good
        assert (bad.status, bad.text, bad.provider) == (Status.DEAD_LETTERED, None, None)
        with pytest.raises(JobFailed, match="job bad ended as dead_lettered: bad_request: no mess"):
            bad.raise_for_status()


async def test_a_new_group_begins_at_the_earliest_and_repeats_are_dropped(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        runs = [("a", 0), ("a", 0), ("b", 0), ("a", 1), ("b", 0), ("c", 0)]
        await where.write(*(ended(where, job_id, run) for job_id, run in runs))
        async with AsyncClient(where.kafka) as client:
            found = await take(client, "g", 4)

        assert found == [("a", 0), ("b", 0), ("a", 1), ("c", 0)]


async def test_what_was_not_acknowledged_comes_again(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await where.write(*(ended(where, name) for name in "abc"))
        group = f"{where.kafka.prefix}.backend"
        async with AsyncClient(where.kafka) as client:
            assert await take(client, group, 2) == [("a", 0), ("b", 0)]
        assert await where.committed(group, where.topics.results()) == {0: 1}

        async with AsyncClient(where.kafka) as client:
            # b was handed out but nothing was asked for after it
            assert await take(client, group, 2) == [("b", 0), ("c", 0)]


async def test_an_acknowledgement_is_committed_within_a_second_or_so(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await where.write(ended(where, "a"))
        group = f"{where.kafka.prefix}.backend"
        async with AsyncClient(where.kafka) as client:
            stream = client.results(group)
            await anext(stream)
            waiting = asyncio.ensure_future(anext(stream))
            async with asyncio.timeout(20):
                while await where.committed(group, where.topics.results()) != {0: 1}:
                    await asyncio.sleep(0.1)
            await where.write(ended(where, "b"))
            assert (await waiting).job_id == "b"


async def test_closing_the_client_ends_the_iteration(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        client = AsyncClient(where.kafka)
        waiting = asyncio.create_task(take(client, f"{where.kafka.prefix}.backend", 1))
        await asyncio.sleep(0.5)
        await client.close()

        assert await waiting == []


async def test_an_unknown_result_topic_is_named(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        with pytest.raises(TopicsError, match=r"results\.team"):
            await anext(client.results("g", name="team"))


async def test_members_of_one_group_share_the_results(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 4}) as where:
        await where.apply()
        group, names = f"{where.kafka.prefix}.backend", {f"job-{n}" for n in range(40)}
        async with AsyncClient(where.kafka) as one, AsyncClient(where.kafka) as other:
            seen: list[str] = []

            async def read(client: AsyncClient) -> None:
                async for result in client.results(group):
                    seen.append(result.job_id)

            readers = [asyncio.ensure_future(read(each)) for each in (one, other)]
            await where.write(*(ended(where, name) for name in sorted(names)))
            async with asyncio.timeout(30):
                while set(seen) != names:
                    await asyncio.sleep(0.05)
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

        assert set(seen) == names
