"""publish_many on real Kafka: a receipt per item, in order, over a window that is bounded."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.kafka.broker import free_port
from outlast import AsyncClient, NewJob, PublishRefused, PublishUnknown, Receipt
from outlast.client import bulk
from outlast.core.errors import TopicsError
from tests.kafka.backend import BODY, ids, published
from tests.kafka.brokers import passing
from tests.kafka.cluster import place

pytestmark = pytest.mark.kafka


class Counted:
    """Bodies, and how many of them were taken."""

    def __init__(self, total: int, body: Any = BODY) -> None:
        self.taken = 0
        self._total = total
        self._body = body

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self._total):
            self.taken += 1
            yield self._body


async def later(items: Iterable[Any]) -> AsyncIterator[Any]:
    """The same from an async iterator."""
    for item in items:
        await asyncio.sleep(0)
        yield item


async def test_every_item_has_a_receipt_in_the_order_of_the_items(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        bodies = [f'{{"number": {number}}}' for number in range(300)]
        receipts = [each async for each in client.publish_many(bodies, route="chat")]

        found = {dict(each.headers)["ce_id"].decode(): each for each in await published(where)}
        assert [each.number for each in receipts] == list(range(300))
        assert [found[each.job_id].value.decode() for each in receipts] == bodies
        assert len(found) == 300
        for receipt in receipts:
            job, record = receipt.raise_for_error(), found[receipt.job_id]
            assert (job.id, job.topic) == (receipt.job_id, record.topic)
            assert (job.partition, job.offset) == (record.partition, record.offset)
            assert (job.accepted, job.results) == (record.timestamp, "default")
            assert dict(record.headers)["outlast-route"] == b"chat"


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_item_that_cannot_be_published_does_not_stop_the_others(
    kafka: str, kind: str
) -> None:
    async with place(kafka, max_body_bytes=1024) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        items: list[Any] = [
            b'"first"',
            b"x" * 1025,
            {"a": object()},
            None,
            NewJob(body=b"{}", job_id="ü"),
            NewJob(body=b"{}", ttl=-1),
            NewJob(body=b"{}", headers={"outlast-state": "{}"}),
            b'"last"',
        ]
        given = items if kind == "sync" else later(items)
        receipts = [each async for each in client.publish_many(given)]

        says = [None if each.error is None else str(each.error) for each in receipts]
        assert [each.number for each in receipts] == list(range(8))
        assert says[0] is says[7] is None
        assert "1,025 bytes; the limit is 1,024" in (says[1] or "")
        assert "cannot be written as JSON" in (says[2] or "")
        assert "cannot be written as JSON" in (says[3] or "")
        assert "job_id is 1 to 128" in (says[4] or "")
        assert "ttl is a number of seconds" in (says[5] or "")
        assert "outlast-state is Outlast's own" in (says[6] or "")
        assert all(each.job is None for each in receipts[1:7])
        with pytest.raises(PublishRefused, match="1,025 bytes"):
            receipts[1].raise_for_error()
        assert {each.value for each in await published(where)} == {b'"first"', b'"last"'}


async def test_an_item_has_its_own_id_and_terms_where_it_says_so(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        items: list[Any] = [
            b"{}",
            NewJob(body=b"{}", job_id="own", route="other", ttl=5, results="team"),
            NewJob(body=b"{}"),
        ]
        receipts = [
            each
            async for each in client.publish_many(
                items, batch="b", route="chat", ttl=60, scope=iter(["local"])
            )
        ]

        assert [each.job_id for each in receipts] == ["b/0", "own", "b/2"]
        assert [each.raise_for_error().results for each in receipts] == [
            *("default", "team", "default")
        ]
        headers = {
            dict(each.headers)["ce_id"]: dict(each.headers) for each in await published(where)
        }
        assert headers[b"b/0"]["outlast-route"] == headers[b"b/2"]["outlast-route"] == b"chat"
        assert headers[b"b/0"]["outlast-ttl-seconds"] == b"60"
        assert headers[b"own"]["outlast-route"] == b"other"
        assert {each["outlast-scope"] for each in headers.values()} == {b"local"}
        assert headers[b"own"]["outlast-ttl-seconds"] == b"5"
        assert headers[b"own"]["outlast-results"] == b"team"


async def test_a_batch_that_is_run_again_publishes_the_same_ids(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        first = [each async for each in client.publish_many([BODY] * 20, batch="import-7")]
        again = [each async for each in client.publish_many([BODY] * 5, batch="import-7", first=15)]

        assert [each.job_id for each in first] == [f"import-7/{number}" for number in range(20)]
        assert [each.number for each in again] == list(range(15, 20))
        assert [each.job_id for each in again] == [f"import-7/{number}" for number in range(15, 20)]
        assert len(await published(where)) == 25


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_items_are_taken_no_further_ahead_than_the_window(
    kafka: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(bulk, "WINDOW_JOBS", 50)
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        items, got = Counted(1_000), 0
        async for receipt in client.publish_many(items if kind == "sync" else later(items)):
            receipt.raise_for_error()
            got += 1
            assert items.taken - got < 50

        assert got == items.taken == 1_000


async def test_bodies_under_way_are_bounded_by_their_bytes(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "WINDOW_BYTES", 100_000)
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        # Between brackets: white space at an end is no part of a body, and would not be counted.
        items, got = Counted(300, b"[" + os.urandom(9_998) + b"]"), 0
        async for receipt in client.publish_many(items):
            receipt.raise_for_error()
            got += 1
            assert items.taken - got < 10

        assert got == 300


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ttl": 0}, "ttl is a number"),
        ({"route": ""}, "route is empty"),
        ({"batch": ""}, "batch is 1 to 108 printable"),
        ({"batch": "x" * 109}, "batch is 1 to 108 printable"),
        ({"batch": "ü"}, "batch is 1 to 108 printable"),
    ],
)
async def test_terms_that_are_wrong_for_all_are_refused_before_anything_is_taken(
    arguments: dict[str, Any], says: str
) -> None:
    items = Counted(10)

    with pytest.raises(PublishRefused, match=says):
        await anext(AsyncClient("127.0.0.1:1").publish_many(items, **arguments))

    assert items.taken == 0


async def test_a_missing_topic_is_named_before_anything_is_taken(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        items = Counted(10)
        with pytest.raises(TopicsError, match="outlast topics apply"):
            await anext(client.publish_many(items))

        assert items.taken == 0


async def test_nothing_to_publish_is_no_receipt(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()

        assert [each async for each in client.publish_many([])] == []


async def test_who_leaves_early_has_published_what_was_taken_and_can_go_on(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "WINDOW_JOBS", 50)
    async with place(kafka) as where:
        await where.apply()
        items, receipts = Counted(1_000), list[Receipt]()
        async with AsyncClient(where.kafka) as client:
            async for receipt in client.publish_many(items, batch="b"):
                receipts.append(receipt)
                if len(receipts) == 10:
                    break
            await client.publish(BODY, job_id="after")

        there = set(ids(await published(where)))
        assert there == {"after", *(f"b/{number}" for number in range(items.taken))}
        assert items.taken <= 60


async def test_items_that_are_far_between_have_their_receipts_before_the_next_comes(
    kafka: str,
) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        told: list[asyncio.Event] = [asyncio.Event() for _ in range(3)]

        async def slow() -> AsyncIterator[Any]:
            for event in told:
                yield BODY
                async with asyncio.timeout(20):
                    await event.wait()

        async for receipt in client.publish_many(slow()):
            receipt.raise_for_error()
            told[receipt.number].set()


async def test_whoever_leaves_early_ends_the_items_too(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        ended: list[str] = []

        async def endless() -> AsyncIterator[Any]:
            try:
                while True:
                    yield BODY
                    await asyncio.sleep(0)
            finally:
                ended.append("ended")

        many = client.publish_many(endless())
        (await anext(many)).raise_for_error()
        await many.aclose()
        async with asyncio.timeout(20):
            while not ended:
                await asyncio.sleep(0.01)


async def test_two_imports_at_once_keep_their_own_order(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()

        async def run(batch: str) -> list[str]:
            many = client.publish_many([BODY] * 500, batch=batch)
            return [each.raise_for_error().id async for each in many]

        one, other = await asyncio.gather(run("one"), run("other"))

        assert one == [f"one/{number}" for number in range(500)]
        assert other == [f"other/{number}" for number in range(500)]
        assert sorted(ids(await published(where))) == sorted(one + other)


async def test_what_a_silent_broker_has_not_acknowledged_is_unknown_and_not_lost(
    tmp_path: Path,
) -> None:
    with passing(tmp_path, port=free_port(count=2)) as broker:
        async with place(broker.bootstrap_servers) as where:
            await where.apply()
            async with AsyncClient(where.kafka, timeout=1.0) as client:
                before = [each async for each in client.publish_many([BODY] * 20, batch="b")]
                os.kill(broker.pids[1], signal.SIGSTOP)
                try:
                    many = client.publish_many([BODY] * 30, batch="b", first=20)
                    during = [each async for each in many]
                finally:
                    os.kill(broker.pids[1], signal.SIGCONT)
                again = [
                    await client.publish(BODY, job_id=each.job_id) for each in during if each.error
                ]

            there = ids(await published(where))
            assert all(each.error is None for each in before)
            assert [each.number for each in during] == list(range(20, 50))
            assert all(isinstance(each.error, PublishUnknown) for each in during)
            assert [each.job_id for each in during] == [f"b/{number}" for number in range(20, 50)]
            assert [each.id for each in again] == [each.job_id for each in during]
            assert set(there) == {f"b/{number}" for number in range(50)}
            # Nothing but what was published twice, under the same id, is there twice.
            assert all(there.count(f"b/{number}") == 1 for number in range(20))
            assert all(there.count(f"b/{number}") <= 2 for number in range(20, 50))


async def test_an_import_outlasts_a_broker_that_stands_still_longer_than_a_request_may_take(
    tmp_path: Path,
) -> None:
    with passing(tmp_path, port=free_port(count=2)) as broker:
        async with place(broker.bootstrap_servers, topic_partitions={"jobs": 1}) as where:
            await where.apply()
            async with AsyncClient(where.kafka) as client:
                await client.publish(BODY, job_id="connected")
                os.kill(broker.pids[1], signal.SIGSTOP)
                loop = asyncio.get_running_loop()
                loop.call_later(9.5, os.kill, broker.pids[1], signal.SIGCONT)
                # Far more than the producer holds at a time.
                many = client.publish_many([os.urandom(200_000)] * 20, batch="b")
                receipts = [each async for each in many]

            assert [each.error for each in receipts] == [None] * 20
            there = ids(await published(where, 1))
            assert there == ["connected", *(f"b/{number}" for number in range(20))]


async def test_the_first_overdue_item_is_told_while_others_still_try_to_get_in(
    tmp_path: Path,
) -> None:
    with passing(tmp_path, port=free_port(count=2)) as broker:
        async with place(broker.bootstrap_servers, topic_partitions={"jobs": 1}) as where:
            await where.apply()
            async with AsyncClient(where.kafka, timeout=1.0) as client:
                await client.publish(BODY)
                os.kill(broker.pids[1], signal.SIGSTOP)
                try:
                    items = Counted(100, os.urandom(200_000))
                    first = await anext(client.publish_many(items))
                    assert isinstance(first.error, PublishUnknown)
                    assert items.taken < 10
                finally:
                    os.kill(broker.pids[1], signal.SIGCONT)


async def test_a_receipt_does_not_wait_for_the_next_item_of_a_slow_source(kafka: str) -> None:
    async with place(kafka) as where, AsyncClient(where.kafka) as client:
        await where.apply()
        goes_on = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            yield b'{"n": 1}'
            await goes_on.wait()
            yield b'{"n": 2}'

        receipts = client.publish_many(source(), batch="slow")
        async with asyncio.timeout(20):
            first = await anext(receipts)
            goes_on.set()
            second = await anext(receipts)

        assert [first.job_id, second.job_id] == ["slow/0", "slow/1"]
        assert first.raise_for_error().id == "slow/0"
        assert await anext(receipts, None) is None
