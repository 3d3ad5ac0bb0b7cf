"""The feed across restarts: what was not done runs again, and nothing else."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions

from outlast.core.errors import TopicsError
from outlast.core.progress import Progress
from outlast.core.watermark import Watermark
from outlast.edges.kafka import private
from outlast.edges.kafka.loading import BeginAt
from tests.kafka.member import BOUND, Corner, Stage, corner, until
from tests.stages.fakes import turns

pytestmark = pytest.mark.kafka


async def test_a_restart_runs_exactly_what_was_not_done(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        before, after = Stage(), Stage(open=True)
        killed = await here.join(before)
        await here.publish_all((f"{number}", number % 2) for number in range(12))
        await until(lambda: len(before.started) == 12)
        before.let_go("0", "4", "6", "1", "11")
        undone = (Progress(1, 6, (1, 4, 5)), Progress(1, 6, (1, 2, 3, 4)))
        await here.until_committed(*undone)
        await killed.die()
        await here.join(after)

        await here.until_committed(Progress(6, 6), Progress(6, 6))
        assert sorted(after.started, key=int) == ["2", "3", "5", "7", "8", "9", "10"]


async def test_a_drain_lets_what_runs_end_and_commits_it(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Stage()
        member = await here.join(stage)
        await here.publish_all([("slow", 0), ("slower", 0)])
        await until(lambda: len(stage.running) == 2)
        leaving = asyncio.create_task(member.leave())
        await turns()
        stage.let_go("slow")
        await until(lambda: stage.ended == ["slow"])
        assert not leaving.done()
        stage.let_go("slower")

        assert await leaving == 0
        assert await here.committed() == Progress(2, 2)


async def test_a_drain_takes_nothing_new_and_cuts_what_does_not_end_in_time(kafka: str) -> None:
    async with corner(kafka) as here:
        stage, after = Stage(), Stage(open=True)
        member = await here.join(stage)
        await here.publish_all([("endless", 0), ("done", 0)])
        await until(lambda: len(stage.started) == 2)
        stage.let_go("done")
        await until(lambda: stage.ended)

        assert await member.leave(drain_seconds=0.01) == 1
        assert await here.committed() == Progress(0, 2, (0,))
        await here.publish("late")
        await here.join(after)
        await here.until_committed(Progress(3, 3))
        assert after.started == ["endless", "late"]
        assert stage.started == ["endless", "done"]


async def test_a_copy_of_what_was_done_before_a_restart_is_dropped(kafka: str) -> None:
    async with corner(kafka) as here:
        before, after = Stage(open=True), Stage(open=True)
        first = await here.join(before)
        await here.publish_all([("done", 0), ("other", 0)])
        await here.until_committed(Progress(2, 2))
        await first.die()
        await here.publish_all([("done", 0), ("new", 0)])
        await here.join(after)

        await here.until_committed(Progress(4, 4))
        assert after.started == ["new"]


@pytest.mark.parametrize("body", [b"{}", b'{"another":1}'])
async def test_a_copy_dropped_before_its_first_was_done_does_not_replace_it(
    kafka: str, body: bytes
) -> None:
    async with corner(kafka, partitions=2) as here:
        before, after = Stage(), Stage(open=True)
        killed = await here.join(before)
        await here.publish("j", partition=1)
        await until(lambda: before.started == ["j"])
        await here.publish("j", partition=0, body=body)
        await here.publish("next", partition=0)
        await until(lambda: "next" in before.started)
        before.let_go("next")
        await until(lambda: before.ended == ["next"])
        assert await killed.assignment.commits.flush(5.0)
        await killed.die()
        await here.join(after, fetches_all_first=True)  # and so meets the copy first

        await here.until_committed(Progress(2, 2), Progress(1, 1))
        # its only run was cut by the crash: it has to run again
        assert after.ended == ["j"]


async def test_records_without_a_committed_offset_are_refused_with_what_mends_it(
    kafka: str,
) -> None:
    async with corner(kafka, begun=False) as here:
        stage = Stage()
        await here.publish("j")
        member = await here.join(stage)

        failure = await member.failure()
        assert isinstance(failure, TopicsError)
        for said in (here.topic, "`outlast topics apply`", "--from earliest", "--from latest"):
            assert said in str(failure)
        assert stage.started == []


@pytest.mark.parametrize(
    ("begin_at", "started"), [("earliest", ["old", "new"]), ("latest", ["new"])]
)
async def test_where_to_begin_can_be_said(kafka: str, begin_at: str, started: list[str]) -> None:
    async with corner(kafka, begun=False) as here:
        stage = Stage(open=True)
        await here.publish("old")
        await here.join(stage, begin_at=begin_at)
        await here.publish("new")

        await here.until_committed(Progress(2, 2))
        assert stage.started == started


async def _and_one_more(here: Corner) -> None:
    await here.where.admin.create_partitions({here.topic: NewPartitions(2)})
    async with asyncio.timeout(BOUND):
        while len(await here._producer.partitions_for(here.topic)) < 2:
            await here._producer.client.force_metadata_update()


@pytest.mark.parametrize("begin_at", [None, "latest"])
async def test_a_topic_that_has_grown_is_begun_at_its_start_although_records_are_there_already(
    kafka: str, begin_at: BeginAt | None
) -> None:
    async with corner(kafka) as here:
        before, after = Stage(open=True), Stage(open=True)
        member = await here.join(before)
        await here.publish("old")
        await here.until_committed(Progress(1, 1))
        await member.leave()
        await _and_one_more(here)
        await here.publish("new", partition=1)
        again = await here.join(after, begin_at=begin_at)

        await here.until_committed(Progress(1, 1), Progress(1, 1))
        assert (again.assignment.fatal, after.started) == (None, ["new"])


@pytest.mark.parametrize("begin_at", ["earliest", "latest"])
async def test_where_it_began_is_committed_before_anything_is_done(
    kafka: str, begin_at: str
) -> None:
    async with corner(kafka, begun=False) as here:
        before, after = Stage(), Stage(open=True)
        await here.publish("old")
        killed = await here.join(before, begin_at=begin_at)
        await here.publish("new")
        await until(lambda: "new" in before.started)
        await killed.assignment.commits.flush(5.0)
        await killed.die()
        await here.join(after, begin_at=begin_at)

        # what had been taken when it died is taken again, and not skipped as older than the start
        await until(lambda: after.ended == before.started)


async def test_where_something_is_committed_it_counts_whatever_was_said(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Stage(open=True)
        await here.publish("old")
        await here.join(stage, begin_at="latest")

        await here.until_committed(Progress(1, 1))
        assert stage.started == ["old"]


async def test_an_empty_topic_needs_no_committed_offset(kafka: str) -> None:
    async with corner(kafka, begun=False) as here:
        stage = Stage(open=True)
        await here.join(stage)
        await here.publish("j")

        await here.until_committed(Progress(1, 1))


async def test_metadata_of_another_writer_repeats_work_and_loses_none(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Stage(open=True)
        await here.publish_all((f"j{number}", 0) for number in range(3))
        tp = TopicPartition(here.topic, 0)
        await here.where.commit(here.topic, {tp: (1, "somebody's note")})
        await here.join(stage)

        await here.until_committed(Progress(3, 3))
        assert stage.started == ["j1", "j2"]


async def test_who_is_no_member_any_more_commits_nothing(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Stage()
        member = await here.join(stage)
        commits, consumer = member.assignment.commits, member.assignment.consumer
        await here.publish_all([("j0", 0), ("j1", 0)])
        await until(lambda: len(stage.started) == 2)
        stage.let_go("j0")
        await here.until_committed(Progress(1, 2, (1,)))
        private.forget_instance(consumer)
        # The group is empty now, and the broker would take anything: it is connected still.
        await consumer._coordinator.close()
        assert private.generation(consumer) == -1
        stage.let_go("j1")
        await until(lambda: stage.ended == ["j0", "j1"])

        assert not await commits.flush(1.0)
        assert await here.committed() == Progress(1, 2, (1,))


async def test_what_is_committed_is_never_taken_back(kafka: str) -> None:
    async with corner(kafka) as here:
        stage, tp = Stage(open=True), TopicPartition(here.topic, 0)
        member = await here.join(stage)
        await here.publish_all([("j0", 0), ("j1", 0)])
        await here.until_committed(Progress(2, 2))
        member.assignment.records.marks[tp] = Watermark(Progress(1, 1))  # as if a bug had forgotten
        member.assignment.commits.touched(tp)

        assert not await member.assignment.commits.flush(1.0)
        assert await here.committed() == Progress(2, 2)


async def test_an_evicted_member_goes_on_after_its_next_assignment_and_repeats_nothing(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        stage = Stage()
        member = await here.join(stage)
        await here.publish("j0")
        await until(lambda: stage.running)
        epoch = member.assignment.epoch
        member.assignment.consumer._coordinator.generation += 7  # as after a missed rebalance
        stage.let_go()
        await until(lambda: member.assignment.commits.evicted or member.assignment.epoch > epoch)
        await here.publish("j1")

        await here.until_committed(Progress(2, 2))
        assert stage.started == ["j0", "j1"]
        assert member.assignment.epoch > epoch
