"""The feed on real Kafka: out of order, thousands at once, patient with bugs, wary of copies."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from structlog.testing import capture_logs

from outlast.core.errors import CallSpent, Released
from outlast.core.progress import Progress
from outlast.edges.kafka import patience as module
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job
from tests.kafka.member import Stage, Waits, corner, until

pytestmark = pytest.mark.kafka


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Back-offs of milliseconds, and no tracebacks printed of bugs that are there on purpose."""
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.002)
    with capture_logs():
        yield


async def test_the_lowest_incomplete_offset_is_committed_with_the_others_beside_it(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        stage = Stage()
        await here.join(stage)
        await here.publish_all((f"j{number}", 0) for number in range(6))
        await until(lambda: len(stage.started) == 6)
        stage.let_go("j1", "j3", "j5")
        await here.until_committed(Progress(0, 6, (0, 2, 4)))
        stage.let_go("j0")
        await here.until_committed(Progress(2, 6, (2, 4)))
        stage.let_go()

        await here.until_committed(Progress(6, 6))


async def test_two_thousand_jobs_of_two_partitions_are_in_flight_together(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        stage = Stage()
        member = await here.join(stage)
        await here.publish_all((f"j{number}", number % 2) for number in range(2_000))
        await until(lambda: len(stage.running) == 2_000)
        assert member.feed.in_flight == 2_000
        stage.let_go()

        await here.until_committed(Progress(1_000, 1_000), Progress(1_000, 1_000))
        assert len(stage.started) == 2_000


async def test_no_more_is_in_flight_than_there_is_room_for(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        stage, most = Stage(), 0
        member = await here.join(stage, room=5)
        await here.publish_all((f"j{number}", number % 2) for number in range(20))
        for number in range(4):
            await until(lambda count=5 * (number + 1): len(stage.started) == count)  # type: ignore[misc]
            most = max(most, member.feed.in_flight)
            stage.let_go(*stage.running)

        await here.until_committed(Progress(10, 10), Progress(10, 10))
        assert most == 5


async def test_what_rests_leaves_its_room_to_others_where_it_may(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Waits()
        await here.join(stage, room=5, rest_takes_room=False)
        jobs = [f"j{number}" for number in range(23)]
        await here.publish_all((job, 0) for job in jobs)
        await until(lambda: stage.waiting == set(jobs))
        for job in jobs:
            stage.permit(job)
        await until(lambda: stage.running == set(jobs))
        stage.let_go()

        await here.until_committed(Progress(23, 23))


async def test_room_that_others_leave_goes_to_the_partitions_in_turn(kafka: str) -> None:
    async with corner(kafka, partitions=3) as here:
        stage = Stage()
        await here.publish_all((f"p{number % 3}-{number}", number % 3) for number in range(60))
        await here.join(stage, room=3, fetches_all_first=True)
        for count in range(3, 24):
            await until(lambda count=count: len(stage.started) == count)  # type: ignore[misc]
            stage.let_go(sorted(stage.running)[0])
        await until(lambda: len(stage.started) == 24)
        served = Counter(job.split("-")[0] for job in stage.started)
        stage.let_go()

        await here.until_committed(*[Progress(20, 20)] * 3)
        assert min(served.values()) >= 6, served


async def test_while_the_way_out_is_blocked_nothing_new_is_taken(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Stage(open=True)
        member = await here.join(stage)
        await here.publish("before")
        await until(lambda: stage.ended == ["before"])
        member.may_start = False
        await asyncio.sleep(0)
        await here.publish("after")
        fetched = TopicPartition(here.topic, 0)
        await until(lambda: (member.assignment.consumer.highwater(fetched) or 0) == 2)
        assert stage.started == ["before"]
        member.may_start = True

        await until(lambda: stage.ended == ["before", "after"])


@pytest.mark.usefixtures("_no_patience")
async def test_a_stage_that_raises_is_tried_again_until_it_does_not(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Stage(open=True)
        stage.raises["bad"] = ValueError("a bug")
        member = await here.join(stage)
        await here.publish("bad")
        await until(lambda: stage.started.count("bad") >= 2)
        del stage.raises["bad"]

        await here.until_committed(Progress(1, 1))
        assert stage.ended == ["bad"]
        assert member.set_aside == []


@pytest.mark.usefixtures("_no_patience")
@pytest.mark.parametrize("bad", [["bad0"], ["bad0", "bad1", "bad2", "bad3"]])
async def test_five_raises_while_others_pass_are_a_dead_letter(kafka: str, bad: list[str]) -> None:
    async with corner(kafka) as here:
        stage = Stage(open=True)
        stage.raises = {job: ValueError("a bug") for job in bad}
        member = await here.join(stage)
        good = ["good0", "good1", "good2"]
        await here.publish_all((job, 0) for job in (*bad, *good))
        offsets = len(bad) + len(good)

        await here.until_committed(Progress(offsets, offsets))
        assert sorted(member.set_aside) == [(job, Reason.INTERNAL_ERROR) for job in bad]
        assert [stage.started.count(job) for job in bad] == [5] * len(bad)
        assert sorted(stage.ended) == good


@pytest.mark.usefixtures("_no_patience")
async def test_when_all_raise_the_feed_fails_and_nothing_is_dead_lettered(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Stage()
        stage.raises_always = ValueError("a bug")
        member = await here.join(stage)
        await here.publish_all((f"j{number}", 0) for number in range(5))

        failure = await member.failure()
        assert failure is stage.raises_always
        assert member.set_aside == []
        await member.leave()
        said = await here.committed()
        assert said.low == 0
        # A bug is no death: who reads them next has no reason to be wary of them.
        assert {(start.runner, start.unclean) for start in said.starts} == {(None, 0)}


@pytest.mark.usefixtures("_no_patience")
async def test_calls_that_are_paid_for_are_set_aside_once_and_the_feed_fails_when_all_of_them_are(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        stage = Stage()
        stage.raises_always = CallSpent("after a call")
        member = await here.join(stage, room=3)
        await here.publish_all((f"j{number}", 0) for number in range(40))

        assert await member.failure() is stage.raises_always
        aside = [job for job, _ in member.set_aside]
        assert sorted(aside) == sorted(stage.started)  # each was called once, and none is lost
        assert len(aside) < 40


@pytest.mark.usefixtures("_no_patience")
async def test_records_at_fault_do_not_count_as_jobs_that_passed(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Stage()
        stage.raises_always = ValueError("a bug")
        member = await here.join(stage)
        await here.publish_all([*((f"j{number}", 0) for number in range(5)), ("x" * 129, 0)])

        assert await member.failure() is stage.raises_always
        assert [reason for _, reason in member.set_aside] == [Reason.BAD_HEADER]


@pytest.mark.usefixtures("_no_patience")
@pytest.mark.parametrize("at_a_time", [1, 2])
async def test_a_stage_that_always_raises_fails_before_it_floods_the_dead_letters(
    kafka: str, at_a_time: int
) -> None:
    async with corner(kafka) as here:
        stage = Stage()
        stage.raises_always = ValueError("a bug")
        member = await here.join(stage, room=at_a_time)
        await here.publish_all((f"j{number}", 0) for number in range(20))

        assert await member.failure() is stage.raises_always
        assert len(member.set_aside) <= module.EVERYBODY + at_a_time


async def test_a_job_let_go_of_stays_undone_for_the_next_owner(kafka: str) -> None:
    async def releases_the_second(job: Job) -> None:
        seen.append(job.id)
        if job.id == "j1":
            raise Released

    async with corner(kafka) as here:
        seen: list[str] = []
        first = await here.join(releases_the_second)
        await here.publish_all((f"j{number}", 0) for number in range(3))
        await here.until_committed(Progress(1, 3, (1,)))
        assert seen == ["j0", "j1", "j2"]
        await first.leave()
        stage = Stage(open=True)
        await here.join(stage)

        await here.until_committed(Progress(3, 3))
        assert stage.started == ["j1"]


async def test_a_job_let_go_of_is_read_again_here_and_is_no_copy_of_itself(kafka: str) -> None:
    async def releases_it_once(job: Job) -> None:
        seen.append(job.id)
        if seen == ["j0"]:
            raise Released

    async with corner(kafka) as here:
        seen: list[str] = []
        member = await here.join(releases_it_once)
        await here.publish("j0")
        await here.until_committed(Progress(1, 1))

        assert seen == ["j0", "j0"]
        assert member.set_aside == []


@pytest.mark.parametrize("first_is_done", [True, False])
async def test_a_copy_at_another_offset_is_dropped(kafka: str, first_is_done: bool) -> None:
    async with corner(kafka) as here:
        stage = Stage(open=first_is_done)
        member = await here.join(stage)
        await here.publish("j")
        await until(lambda: stage.started == ["j"])
        await here.publish("j")
        await here.publish("last")
        await until(lambda: stage.started[-1] == "last")
        stage.let_go()

        await here.until_committed(Progress(3, 3))
        assert stage.started == ["j", "last"]
        assert member.set_aside == []


async def test_another_run_and_another_hop_are_no_copies(kafka: str) -> None:
    async with corner(kafka, moving=True) as here:
        stage = Stage(open=True)
        await here.join(stage)
        await here.move("a", hop=1)
        await here.move("a", hop=2)
        await here.move("a", hop=1, replays=1)
        await here.move("b", hop=1)
        await here.move("a", hop=1)

        await here.until_committed(Progress(5, 5))
        assert stage.started == ["a", "a", "a", "b"]


async def test_after_the_first_hop_another_body_is_a_copy_all_the_same(kafka: str) -> None:
    async with corner(kafka, moving=True) as here:
        stage = Stage(open=True)
        member = await here.join(stage)
        await here.move("a", hop=1)
        await here.move("a", hop=1, body=b"[]")

        await here.until_committed(Progress(2, 2))
        assert stage.started == ["a"]
        assert member.set_aside == []


async def test_the_same_id_with_another_body_is_a_conflict(kafka: str) -> None:
    async with corner(kafka) as here:
        stage = Stage(open=True)
        member = await here.join(stage)
        await here.publish("j", body=b'{"a":1}')
        await here.publish("j", body=b'{"a":2}')

        await here.until_committed(Progress(2, 2))
        assert stage.started == ["j"]
        assert member.set_aside == [("j", Reason.CONFLICT)]


async def test_records_deleted_unread_are_counted_and_the_feed_goes_on(kafka: str) -> None:
    async with corner(kafka) as here:
        tp = TopicPartition(here.topic, 0)
        with capture_logs() as logs:
            stage = Stage(open=True)
            first = await here.join(stage)
            await here.publish("j0")
            await here.until_committed(Progress(1, 1))
            await first.leave()
            await here.publish_all((f"j{number}", 0) for number in range(1, 6))
            await here.where.admin.delete_records({tp: RecordsToDelete(4)})
            await here.join(stage)

            await here.until_committed(Progress(6, 6))
        lost = [each for each in logs if each["event"] == "feed.records_lost"]
        assert [(each["first"], each["count"]) for each in lost] == [(1, 3)]
        assert stage.ended == ["j0", "j4", "j5"]


async def test_what_is_asked_for_again_while_it_arrives_is_not_taken_for_another_log(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with corner(kafka) as here:
        stage, tp = Stage(), TopicPartition(here.topic, 0)
        member = await here.join(stage)
        consumer, asked = member.assignment.consumer, 0
        fetch = consumer.getmany

        async def getmany(*partitions: TopicPartition, timeout_ms: int) -> object:
            nonlocal asked
            fetched = await fetch(*partitions, timeout_ms=timeout_ms)
            if fetched and asked < 3:
                asked += 1
                member.assignment.read_again(tp)  # as a note or a job given up does, meanwhile
            return fetched

        monkeypatch.setattr(consumer, "getmany", getmany)
        with capture_logs() as logs:
            await here.publish_all((f"j{number}", 0) for number in range(3))
            await until(lambda: len(stage.started) >= 3)
            stage.let_go("j0", "j1")
            await here.until_committed(Progress(2, 3, (2,)))
            await here.publish("last")
            await until(lambda: "last" in stage.started)
            stage.let_go()

            await here.until_committed(Progress(4, 4))
        assert stage.started == ["j0", "j1", "j2", "last"]
        assert "feed.log_began_anew" not in [each["event"] for each in logs]
