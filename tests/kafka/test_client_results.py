"""Reading results as a member of a group, on real Kafka: each comes once, until acknowledged."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from structlog.testing import capture_logs

from outlast import AsyncClient, JobFailed, Result, ResultStream
from outlast.core.errors import TopicsError
from outlast.edges.codec import Encoded
from outlast_schemas.result import Status
from tests.kafka.backend import end, ended, following, take
from tests.kafka.cluster import Place, place

pytestmark = pytest.mark.kafka

SECONDS = 30


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


async def test_acknowledged_in_any_order_a_restart_brings_exactly_the_others(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await end(where, [ended(where, name) for name in "abcdef"])
        group = f"{where.kafka.prefix}.backend"
        async with AsyncClient(where.kafka) as client:
            taken = await following(client.results(group, ack="manual"), 6)
            for number in (4, 1, 5, 1):
                await taken[number].ack()
        assert await where.committed(group, where.topics.results()) == {0: 0}

        async with AsyncClient(where.kafka) as client:
            again = await following(client.results(group, ack="manual"), 3)
            assert [each.job_id for each in again] == ["a", "c", "d"]
            for each in again:
                await each.ack()
        assert await where.committed(group, where.topics.results()) == {0: 6}

        await end(where, [ended(where, "g")])
        async with AsyncClient(where.kafka) as client:
            assert await take(client, group, 1) == [("g", 0)]


async def test_an_acknowledgement_after_the_stream_was_closed_changes_nothing(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await end(where, [ended(where, "a")])
        group = f"{where.kafka.prefix}.backend"
        async with AsyncClient(where.kafka) as client:
            async with client.results(group, ack="manual") as stream:
                [result] = await following(stream, 1)
            await result.ack()
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

            assert await take(client, group, 1) == [("a", 0)]


async def test_of_an_acknowledged_job_a_later_run_comes_and_a_repeat_does_not(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        group = f"{where.kafka.prefix}.backend"
        await end(where, [ended(where, "a"), ended(where, "b")])
        async with AsyncClient(where.kafka) as client:
            stream = client.results(group, ack="manual")
            for result in await following(stream, 2):
                await result.ack()
            runs = [("a", 0), ("a", 1), ("b", 0), ("a", 1), ("a", 2), ("c", 0)]
            await end(where, [ended(where, job_id, run) for job_id, run in runs])

            found = [(each.job_id, each.replays) for each in await following(stream, 3)]
            assert found == [("a", 1), ("a", 2), ("c", 0)]


async def test_without_acknowledgements_no_more_is_handed_out_than_a_restart_can_be_told(
    kafka: str,
) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        names = [f"job-{number}" for number in range(4_000)]
        await end(where, [ended(where, name) for name in names])
        group = f"{where.kafka.prefix}.backend"
        async with AsyncClient(where.kafka) as client:
            stream = client.results(group, ack="manual")
            held = await _until_it_waits(stream)
            assert 1_000 < len(held) < 4_000
            for result in held[1:]:
                await result.ack()
            rest = await following(stream, 4_000 - len(held))
            assert [each.job_id for each in [*held, *rest]] == names
            for result in rest:
                await result.ack()

        async with AsyncClient(where.kafka) as client:
            assert await take(client, group, 1) == [("job-0", 0)]


async def _until_it_waits(stream: ResultStream) -> list[Result]:
    """What is handed out until nothing more is; asking for more than that is given up."""
    held = await following(stream, 1)
    while True:
        try:
            async with asyncio.timeout(2):
                held.append(await anext(stream))
        except TimeoutError:
            return held


async def test_who_asks_only_for_a_moment_loses_nothing(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 3}) as where:
        await where.apply()
        names = [f"job-{number}" for number in range(300)]
        group, found = f"{where.kafka.prefix}.backend", list[str]()
        async with AsyncClient(where.kafka) as client:
            stream, writing = client.results(group), asyncio.create_task(_trickle(where, names))
            async with asyncio.timeout(SECONDS):
                while len(found) < 300:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.003):
                            found.append((await anext(stream)).job_id)
            await writing

        assert Counter(found) == Counter(names)


async def _trickle(where: Place, names: list[str]) -> None:
    for first in range(0, len(names), 20):
        await end(where, [ended(where, name) for name in names[first : first + 20]])


async def test_who_handles_results_without_awaiting_anything_has_them_committed(
    kafka: str,
) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await end(where, [ended(where, f"job-{number}") for number in range(400)])
        tp = TopicPartition(where.topics.results(), 0)
        async with AsyncClient(where.kafka) as client:
            stream, handled = client.results(f"{where.kafka.prefix}.backend"), 0
            async for _ in stream:
                time.sleep(0.003)  # noqa: ASYNC251  # work that blocks, as much of it does
                handled += 1
                if handled == 400:
                    break

            assert (stream._assignment.commits.floor(tp) or 0) > 200


async def test_what_is_no_result_is_passed_over_and_acknowledged(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        topic, group = where.topics.results(), f"{where.kafka.prefix}.backend"
        subject: list[tuple[str, bytes | None]] = [("ce_subject", b"x")]
        junk = [
            Encoded(topic, b"k", b"junk", []),
            Encoded(topic, b"", b"{}", subject),
            Encoded(topic, b"k", b"{}", [*subject, ("outlast-status", b"odd")]),
            Encoded(
                topic,
                b"k",
                b"no json",
                [*subject, ("outlast-status", b"succeeded"), ("outlast-replays", b"0")],
            ),
        ]
        await end(where, [*junk, ended(where, "a"), *junk])
        async with AsyncClient(where.kafka) as client:
            stream = client.results(group)
            assert [each.job_id for each in await following(stream, 1)] == ["a"]
            waiting = asyncio.ensure_future(anext(stream))
            async with asyncio.timeout(SECONDS):
                while await where.committed(group, topic) != {0: 9}:
                    await asyncio.sleep(0.05)
            await stream.aclose()
            with pytest.raises(StopAsyncIteration):
                await waiting


@pytest.mark.parametrize("after", [0.0, 0.01, 0.05, 0.1, 0.2, 0.4])
async def test_closed_at_any_moment_the_iteration_ends_and_the_group_is_left(
    kafka: str, after: float
) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        group = f"{where.kafka.prefix}.backend"
        client = AsyncClient(where.kafka)
        waiting = asyncio.create_task(take(client, group, 1))
        await asyncio.sleep(after)
        await client.close()
        async with asyncio.timeout(SECONDS):
            assert await waiting == []

        # Nobody is left who would have to time out before another gets the partition.
        assert await _members(where, group) == 0


async def _members(where: Place, group: str) -> int:
    [answer] = await where.admin.describe_consumer_groups([group])
    [found] = answer.to_object()["groups"]
    return len(found["members"])


async def test_a_member_that_joins_does_not_make_what_is_in_work_acknowledged(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 2}) as where:
        await where.apply()
        group, names = f"{where.kafka.prefix}.backend", [f"job-{n}" for n in range(20)]
        found: list[str] = []
        await end(where, [ended(where, name) for name in names])
        async with AsyncClient(where.kafka) as one, AsyncClient(where.kafka) as other:
            held = await following(one.results(group, ack="manual"), 20)
            for result in held[::2]:
                await result.ack()
            stream = other.results(group, ack="manual")
            # It gets the partition that moves, with all of it that was not acknowledged.
            waiting = asyncio.create_task(_gather(stream, found))
            async with asyncio.timeout(SECONDS):
                while await _members(where, group) != 2:
                    await asyncio.sleep(0.05)
            await one.close()
            async with asyncio.timeout(SECONDS):
                while len(found) < 10:
                    await asyncio.sleep(0.05)
        await waiting

        assert sorted(found) == sorted(each.job_id for each in held[1::2])


async def _gather(stream: ResultStream, found: list[str]) -> None:
    async for result in stream:
        found.append(result.job_id)


async def test_an_acknowledgement_that_comes_after_others_have_ended_it_is_harmless(
    kafka: str,
) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        group = f"{where.kafka.prefix}.backend"
        first = AsyncClient(where.kafka)  # the first in the group's order: the partition is its
        slow = AsyncClient(where.kafka)
        opening = asyncio.create_task(_gather(first.results(group), []))
        async with asyncio.timeout(SECONDS):
            while not await _is_joined(where, group, 1):
                await asyncio.sleep(0.05)
        stream = slow.results(group, ack="manual")
        handed_out = asyncio.create_task(following(stream, 1))
        async with asyncio.timeout(SECONDS):
            while not await _is_joined(where, group, 2):
                await asyncio.sleep(0.05)
        await first.close()
        await opening
        await end(where, [ended(where, "a"), ended(where, "b")])
        [result] = await handed_out
        assert result.job_id == "a"
        async with _ended_elsewhere(where, group, stream):
            pass
        async with _ended_elsewhere(where, group, stream):
            await result.ack()
        await slow.close()

        assert await where.committed(group, where.topics.results()) == {0: 2}


async def _is_joined(where: Place, group: str, count: int) -> bool:
    [answer] = await where.admin.describe_consumer_groups([group])
    [found] = answer.to_object()["groups"]
    return found["state"] == "Stable" and len(found["members"]) == count


@asynccontextmanager
async def _ended_elsewhere(where: Place, group: str, stream: ResultStream) -> AsyncIterator[None]:
    """Another member has the partition and has ended all that is there; then it leaves."""
    asking = asyncio.create_task(anext(stream))
    async with AsyncClient(where.kafka) as other:
        reading = asyncio.create_task(_gather(other.results(group), []))
        async with asyncio.timeout(SECONDS):
            while await where.committed(group, where.topics.results()) != {0: 2}:
                await asyncio.sleep(0.05)
            while not await _is_joined(where, group, 2):
                await asyncio.sleep(0.05)
        yield
    await reading
    async with asyncio.timeout(SECONDS):
        while not await _is_joined(where, group, 1):
            await asyncio.sleep(0.05)
    asking.cancel()
    await asyncio.wait({asking})


async def test_members_that_come_and_go_under_load_lose_nothing(kafka: str) -> None:
    async with place(kafka, topic_partitions={"results": 6}) as where:
        await where.apply()
        group, names = f"{where.kafka.prefix}.backend", [f"job-{n}" for n in range(1_500)]
        handled: list[tuple[str, int]] = []

        async def member(count: int | None) -> None:
            """Handle so many, the last one without acknowledging it, and leave; or stay."""
            async with AsyncClient(where.kafka) as client:
                async for result in client.results(group):
                    handled.append((result.job_id, result.replays))
                    if count is not None and (count := count - 1) <= 0:
                        return
                    await asyncio.sleep(0)

        async def coming_and_going() -> None:
            for count in (30, 60, 90, 40):
                await member(count)

        async with asyncio.timeout(90):
            staying = asyncio.create_task(member(None))
            others = [asyncio.create_task(coming_and_going()) for _ in range(2)]
            await _trickle(where, names)
            for other in others:
                while not other.done() and len(set(handled)) < len(names):
                    await asyncio.sleep(0.05)
            while len(set(handled)) < len(names):
                await asyncio.sleep(0.05)
            for task in (staying, *others):
                task.cancel()
            await asyncio.gather(staying, *others, return_exceptions=True)

        assert set(handled) == {(name, 0) for name in names}
        # Repeated is what was handed out and not acknowledged when a member left or others moved.
        repeats = sum(Counter(handled).values()) - len(names)
        assert repeats <= 8 * 3 + 8


async def test_an_error_of_the_group_is_said_and_holds_the_results_up_no_longer_than_it_lasts(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(kafka, topic_partitions={"results": 1}) as where:
        await where.apply()
        await where.write(ended(where, "before"))
        async with AsyncClient(where.kafka) as client:
            stream = client.results("g")
            assert (await anext(stream)).job_id == "before"
            coordinator = stream._connected()._coordinator
            rejoin, errors = coordinator._do_rejoin_group, [KafkaError("denied"), KafkaError("no")]

            async def fails_twice(subscription: object) -> Any:
                if errors:
                    raise errors.pop()
                return await rejoin(subscription)

            monkeypatch.setattr(coordinator, "_do_rejoin_group", fails_twice)
            coordinator.request_rejoin()
            await where.write(ended(where, "after"))
            with capture_logs() as logs:
                async with asyncio.timeout(SECONDS):
                    assert (await anext(stream)).job_id == "after"

        assert [each["event"] for each in logs].count("results.coordination_failed") == 2


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
