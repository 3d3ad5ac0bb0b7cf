"""The synchronous client on real Kafka: from any thread, after a fork, through Ctrl-C."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

import pytest

from outlast import Client, NewJob, PublishRefused, Result, Results
from outlast.client import bulk
from outlast.core.errors import KafkaUnreachable
from tests.kafka.backend import BODY, end, ended, ids, published
from tests.kafka.cluster import Place, place

pytestmark = pytest.mark.kafka

PATIENCE = 20
T = TypeVar("T")


async def sync(work: Callable[..., T], *arguments: Any) -> T:
    """Run it where no event loop runs, as a backend without one does."""
    async with asyncio.timeout(60):
        return await asyncio.to_thread(work, *arguments)


def first(results: Results, count: int) -> list[Result]:
    return [next(results) for _ in range(count)]


async def test_a_job_is_published_and_waited_for(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()

        def publish(client: Client) -> str:
            return client.publish(BODY, job_id="j", route="chat", ttl=60).id

        def wait(client: Client) -> tuple[Result, Result]:
            with pytest.raises(TimeoutError, match=r"job j has not ended within 0\.2 s"):
                client.wait("j", timeout=0.2)
            ready.set()
            return client.wait("j", timeout=PATIENCE), client.wait("j", timeout=PATIENCE)

        ready = threading.Event()
        with Client(where.kafka) as client:
            assert await sync(publish, client) == "j"
            waiting = asyncio.create_task(sync(wait, client))
            await sync(ready.wait)
            await end(where, [ended(where, "j")])
            one, two = await waiting

        assert one == two
        assert (one.job_id, one.text) == ("j", "hello")
        [record] = await published(where)
        assert dict(record.headers)["outlast-route"] == b"chat"


async def test_bodies_are_iterated_in_the_callers_thread_and_receipts_keep_their_order(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK_JOBS", 100)
    async with place(kafka) as where:
        await where.apply()
        taken: list[int] = []

        def bodies() -> Iterator[Any]:
            for number in range(1_000):
                assert threading.current_thread() is caller[0]
                taken.append(number)
                yield NewJob(body=BODY, route="own") if number == 3 else BODY

        caller: list[threading.Thread] = []

        def publish() -> list[tuple[int, str]]:
            caller.append(threading.current_thread())
            with Client(where.kafka) as client:
                got: list[tuple[int, str]] = []
                scope = iter(["local"])
                for receipt in client.publish_many(bodies(), batch="b", route="chat", scope=scope):
                    got.append((receipt.number, receipt.raise_for_error().id))
                    assert len(taken) - len(got) < 100
                return got

        assert await sync(publish) == [(number, f"b/{number}") for number in range(1_000)]
        found = {dict(each.headers)["ce_id"]: dict(each.headers) for each in await published(where)}
        assert len(found) == 1_000
        assert found[b"b/3"]["outlast-route"] == b"own"
        assert found[b"b/4"]["outlast-route"] == b"chat"
        assert {each["outlast-scope"] for each in found.values()} == {b"local"}


async def test_large_bodies_are_taken_by_their_bytes(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "WINDOW_BYTES", 100_000)
    async with place(kafka) as where:
        await where.apply()
        taken: list[None] = []

        def bodies() -> Iterator[Any]:
            for _ in range(100):
                taken.append(None)
                yield {"model": "chat", "text": "x" * 10_000}

        def publish() -> int:
            got = 0
            with Client(where.kafka) as client:
                for receipt in client.publish_many(bodies()):
                    receipt.raise_for_error()
                    got += 1
                    assert len(taken) - got < 10
            return got

        assert await sync(publish) == 100


async def test_an_item_that_cannot_be_published_does_not_stop_the_others(kafka: str) -> None:
    async with place(kafka, max_body_bytes=1024) as where:
        await where.apply()
        items: list[Any] = [b"1", b"x" * 1025, {"a": object()}, None, NewJob(body=b"2", ttl=-1)]

        def publish() -> list[str | None]:
            with Client(where.kafka) as client:
                many = client.publish_many([*items, b"3"])
                return [None if each.error is None else str(each.error) for each in many]

        said = await sync(publish)
        assert said[0] is said[5] is None
        assert [text is not None for text in said[1:5]] == [True] * 4
        assert {each.value for each in await published(where)} == {b"1", b"3"}


def test_wrong_terms_are_refused_before_anything_is_taken() -> None:
    taken: list[int] = []

    def bodies() -> Iterator[Any]:
        taken.append(0)
        yield BODY

    with closing(Client("127.0.0.1:1")) as client, pytest.raises(PublishRefused, match="ttl"):
        next(client.publish_many(bodies(), ttl=0))

    assert taken == []


async def test_results_are_acknowledged_by_asking_for_the_next(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await end(where, [ended(where, name) for name in "abc"])
        group = f"{where.kafka.prefix}.backend"

        def read(count: int) -> list[str]:
            with Client(where.kafka) as client, client.results(group) as results:
                return [each.job_id for each in first(results, count)]

        assert await sync(read, 2) == ["a", "b"]
        assert await sync(read, 2) == ["b", "c"]


async def test_results_are_acknowledged_from_another_thread_in_any_order(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await end(where, [ended(where, name) for name in "abcd"])
        group = f"{where.kafka.prefix}.backend"

        def read(count: int, *handled: int) -> list[str]:
            with Client(where.kafka) as client:
                results = client.results(group, ack="manual")
                taken = first(results, count)
                with ThreadPoolExecutor(2) as pool:
                    list(pool.map(results.ack, [taken[number] for number in handled]))
                return [each.job_id for each in taken]

        assert await sync(read, 4, 3, 1) == ["a", "b", "c", "d"]
        assert await sync(read, 2, 0, 1) == ["a", "c"]
        assert await where.committed(group, where.topics.results()) == {0: 4}


async def test_eight_threads_share_one_client(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        client, names = Client(where.kafka), [f"{n}/{m}" for n in range(8) for m in range(10)]

        def use(number: int) -> list[str]:
            for each in range(10):
                client.publish(BODY, job_id=f"{number}/{each}")
            return [client.wait(f"{number}/{each}", timeout=60).job_id for each in range(10)]

        def all_of_them() -> list[str]:
            with ThreadPoolExecutor(8) as pool:
                return [name for each in pool.map(use, range(8)) for name in each]

        running = asyncio.create_task(sync(all_of_them))
        await _until_published(where, 80)
        await end(where, [ended(where, name) for name in names])
        assert sorted(await running) == sorted(names)
        assert sum(thread.name == "outlast" for thread in threading.enumerate()) == 1
        await sync(client.close)
        assert sum(thread.name == "outlast" for thread in threading.enumerate()) == 0


async def _until_published(where: Place, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(await published(where)) < count:
            await asyncio.sleep(0.1)


async def test_a_closed_client_connects_again_with_the_next_call(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()

        def use() -> None:
            client = Client(where.kafka)
            client.close()
            for name in ("a", "b"):
                client.publish(BODY, job_id=name)
                client.close()
                client.close()

        await sync(use)
        assert sorted(ids(await published(where))) == ["a", "b"]


async def test_threads_that_publish_while_another_closes_all_get_an_answer(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        client, told = Client(where.kafka), list[str]()

        def use(number: int) -> None:
            for each in range(20):
                try:
                    told.append(client.publish(BODY, job_id=f"{number}/{each}").id)
                except (Exception, asyncio.CancelledError):  # noqa: BLE001  # cut off by the close
                    cut.append(f"{number}/{each}")

        cut: list[str] = []

        def all_of_them() -> None:
            with ThreadPoolExecutor(5) as pool:
                uses = [pool.submit(use, number) for number in range(4)]
                while not all(each.done() for each in uses):
                    client.close()
                for each in uses:
                    each.result()
            client.close()

        await sync(all_of_them)
        assert len(told) + len(cut) == 80
        assert set(told) <= set(ids(await published(where)))


async def test_results_end_when_the_client_is_closed(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await end(where, [ended(where, "a")])
        group = f"{where.kafka.prefix}.backend"
        client = Client(where.kafka)

        def read() -> list[str]:
            found = []
            for result in client.results(group):
                found.append(result.job_id)
                handed_out.set()
            return found

        def work() -> list[str]:
            results = client.results(group, ack="manual")
            result = next(results)
            client.close()
            results.ack(result)  # too late: it comes again
            results.close()
            return [each.job_id for each in results]

        handed_out = threading.Event()
        reading = asyncio.create_task(sync(read))
        await sync(handed_out.wait)
        await sync(client.close)
        assert await reading == ["a"]
        await end(where, [ended(where, "b")])
        assert await sync(work) == []


def test_where_nobody_answers_each_call_says_so() -> None:
    client = Client("127.0.0.1:1")
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:1"), client:
        pass
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:1"):
        client.publish(BODY)
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:1"):
        client.wait("x", timeout=PATIENCE)
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:1"):
        next(client.results("g"))
    client.close()


BEGIN = """
import os, signal, sys, threading
from outlast import Client, Kafka
client = Client(Kafka(bootstrap_servers=sys.argv[1], prefix=sys.argv[2]))
"""

FORKED = """
client.publish(b"{}", job_id="before")
reading = client.results(sys.argv[2] + ".g")
next(reading)
child = os.fork()
name = "parent" if child else "child"
client.publish(b"{}", job_id=name)
print(">", name, client.wait(name, timeout=30).job_id, flush=True)
[receipt] = client.publish_many([b"{}"], batch=name)
receipt.raise_for_error()
if child:
    assert os.waitpid(child, 0)[1] == 0
    client.publish(b"{}", job_id="after")
print("> end of", name, flush=True)
"""

UNCLOSED = """
def use():
    local = Client(Kafka(bootstrap_servers=sys.argv[1], prefix=sys.argv[2]))
    local.publish(b"{}", job_id="local")
    return local.results(sys.argv[2] + ".local")

results = use()
next(results)
client.publish(b"{}", job_id="unclosed")
try:
    client.wait("unclosed", timeout=0.3)
except TimeoutError:
    print("> it goes on", flush=True)
threading.Thread(target=lambda: list(client.results(sys.argv[2] + ".g")), daemon=True).start()
"""

INTERRUPTED = """
job = client.publish(b"{}", job_id="long")
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    client.wait(job)
except KeyboardInterrupt:
    print("> interrupted", flush=True)
client.publish(b"{}", job_id="after")
results = client.results(sys.argv[2] + ".g")
next(results)
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
next(results)
"""


async def script(where: Place, text: str) -> tuple[int, str, str]:
    """Run it in a process of its own that warns of everything."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "always", "-c", BEGIN + text),
        *(where.kafka.bootstrap_servers, where.kafka.prefix),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    said = [line.removeprefix("> ") for line in out.decode().splitlines() if line[:2] == "> "]
    return process.returncode or 0, "\n".join(said), err.decode()


async def test_a_forked_process_has_connections_of_its_own_and_its_parent_goes_on(
    kafka: str,
) -> None:
    async with place(kafka) as where:
        await where.apply()
        await end(where, [ended(where, name) for name in ("parent", "child", "x")])
        code, out, err = await script(where, FORKED)

        assert (code, err) == (0, "")
        assert sorted(out.splitlines()) == [
            *("child child", "end of child", "end of parent", "parent parent")
        ]
        there = ["after", "before", "child", "child/0", "parent", "parent/0"]
        assert sorted(ids(await published(where))) == there


async def test_a_process_that_closes_nothing_ends_by_itself_and_in_silence(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        await end(where, [ended(where, "x")])
        code, out, err = await script(where, UNCLOSED)

        assert (code, out, err) == (0, "it goes on", "")
        assert sorted(ids(await published(where))) == ["local", "unclosed"]


async def test_ctrl_c_ends_a_wait_and_the_client_goes_on(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        await end(where, [ended(where, "x")])
        code, out, err = await script(where, INTERRUPTED)

        assert (code, out) == (-signal.SIGINT, "interrupted")
        assert err.splitlines()[-1] == "KeyboardInterrupt"
        assert "Warning" not in err
        assert "destroyed" not in err
        assert sorted(ids(await published(where))) == ["after", "long"]
