"""Publishing one job on real Kafka: an acknowledged job is in the topic as it was asked for."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outlast import AsyncClient, PublishRefused, PublishUnknown
from outlast.core.errors import KafkaUnreachable, TopicsError
from outlast.edges.settings import Kafka
from tests.kafka.backend import BODY, published
from tests.kafka.cluster import place

pytestmark = pytest.mark.kafka


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
        (5, {}, "the body cannot be written as JSON"),
        (b" \n", {}, "the body is empty"),
        ("", {}, "the body is empty"),
        (b"{}", {"deadline": "soon"}, "deadline is a datetime with a time zone"),
        (b"{}", {"deadline": datetime(2026, 1, 1)}, "deadline is a datetime with a time zone"),  # noqa: DTZ001
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

        assert [dict(each.headers)["ce_id"] for each in await published(where, 1)] == [b"small"]
