"""The feed when partitions move: nothing is lost, nothing that runs here is begun here again."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from outlast.core.progress import Progress
from tests.kafka.member import Corner, Member, Stage, corner, until

pytestmark = pytest.mark.kafka


async def shared(first: Member, second: Member, partitions: int) -> None:
    """Wait until each partition has exactly one owner, and each member has some."""
    everything = set(range(partitions))
    await until(lambda: first.owned | second.owned == everything)
    await until(lambda: first.owned and second.owned and not first.owned & second.owned)


@contextlib.asynccontextmanager
async def watched(here: Corner, partitions: int) -> AsyncIterator[list[list[int]]]:
    """What each partition's committed offset was, again and again."""
    seen: list[list[int]] = [[] for _ in range(partitions)]

    async def watch() -> None:
        while True:
            for number in range(partitions):
                seen[number].append((await here.committed(number)).low)

    task = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_second_member_joins_and_leaves_under_load_and_nothing_is_lost(
    kafka: str,
) -> None:
    partitions, jobs = 4, 400
    async with corner(kafka, partitions=partitions) as here:
        one, two = Stage(), Stage(open=True)
        first = await here.join(one, room=60)
        await here.publish_all((f"{number}", number % partitions) for number in range(jobs))
        await until(lambda: len(one.running) == 60)
        async with watched(here, partitions) as lows:
            second = await here.join(two, instance="host-1", room=60)
            await shared(first, second, partitions)
            await until(lambda: two.ended)
            for job in sorted(one.running)[::2]:
                one.let_go(job)
            await second.leave()
            one.let_go()
            await until(lambda: len({*one.ended, *two.ended}) == jobs)
            await here.until_committed(*[Progress(100, 100)] * partitions)

        assert {*one.ended, *two.ended} == {f"{number}" for number in range(jobs)}
        # what ran here all the time was not begun here again, wherever its partition was
        assert Counter(one.started).most_common(1)[0][1] == 1
        assert Counter(two.started).most_common(1)[0][1] == 1
        # what was in flight in the first when its partition moved was lent, and ended there
        assert not {*one.started} & {*two.started}
        for each in lows:
            assert each == sorted(each)


async def test_a_partition_that_comes_back_is_merged_with_what_was_done_meanwhile(
    kafka: str,
) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        names = [(f"{job}{number}", number) for number in range(2) for job in "abc"]
        await here.publish_all(names)
        await until(lambda: len(one.started) == 6)
        second = await here.join(two, instance="host-1")
        await shared(first, second, 2)
        [moved] = second.owned
        await here.publish(f"e{moved}", partition=moved)
        await until(lambda: two.started)
        two.let_go()  # done there, behind what still runs here
        one.let_go(f"c{moved}")  # done here while it belongs to the other
        await until(lambda: two.ended and second.borrowed == 2)
        await second.leave(drain_seconds=0)
        await until(lambda: first.owned == {0, 1})
        await here.publish(f"d{moved}", partition=moved)
        await until(lambda: f"d{moved}" in one.started)
        one.let_go(f"a{moved}", f"b{moved}", f"d{moved}")

        whole, other = Progress(5, 5), Progress(0, 3, (0, 1, 2))
        await here.until_committed(*((whole, other) if moved == 0 else (other, whole)))
        assert sorted(one.started) == sorted([*dict(names), f"d{moved}"])
        assert two.started == [f"e{moved}"]


async def test_what_runs_goes_on_and_is_committed_when_its_partition_stays(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        await here.publish_all([("j0", 0), ("j1", 1)])
        await until(lambda: len(one.started) == 2)
        second = await here.join(two, instance="host-1")
        await shared(first, second, 2)
        [stayed] = first.owned
        one.let_go(f"j{stayed}")

        done, undone = Progress(1, 1), Progress(0, 1, (0,))
        await here.until_committed(*((done, undone) if stayed == 0 else (undone, done)))
        one.let_go()
        await here.until_committed(done, done)
        assert sorted(one.started) == ["j0", "j1"]
        assert two.started == []


async def test_what_ends_after_its_partition_moved_is_not_committed_over_the_new_owner(
    kafka: str,
) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        await here.publish_all([("j0", 0), ("j1", 1)])
        await until(lambda: len(one.started) == 2)
        second = await here.join(two, instance="host-1")
        await shared(first, second, 2)
        [moved] = second.owned
        second.stop_listening()
        one.let_go()
        await until(lambda: len(one.ended) == 2)
        assert await first.assignment.commits.flush(5.0)

        assert await here.committed(1 - moved) == Progress(1, 1)
        assert (first.assignment.records.away, second.borrowed) == (0, 1)
        assert await here.committed(moved) == Progress(0, 1, (0,))
        second.listen()
        await here.until_committed(Progress(1, 1), Progress(1, 1))
        assert (await here.committed(moved)).writer == second.membership.incarnation


async def test_a_record_that_comes_right_after_a_rebalance_does_not_wait_for_the_next_one(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        stage = Stage(open=True)
        member = await here.join(stage)
        await here.publish("first")
        await until(lambda: stage.ended == ["first"])
        for number in range(8):
            # the feed waits for records while all is taken away and given back
            owned = set(member.assignment.owned)
            await member.assignment.on_partitions_revoked(owned)
            await member.assignment.on_partitions_assigned(owned)
            await here.publish(f"j{number}")

            await until(lambda job=f"j{number}": job in stage.ended, 10.0)  # type: ignore[misc]


async def test_a_feed_knows_the_ends_of_what_it_owns_and_of_nothing_before_it_joins(
    kafka: str,
) -> None:
    async with corner(kafka, partitions=2) as here:
        await here.publish_all([("a", 0), ("b", 0), ("c", 1)])
        early = Member(here.where, here.topic, Stage())
        assert await early.assignment.ends() == {}
        member = await here.join(Stage())
        found = await member.assignment.ends()

        assert {tp.partition: end for tp, end in found.items()} == {0: 2, 1: 1}
