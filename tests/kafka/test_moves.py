"""Many records in one task: done one by one, each only when its next record is acknowledged."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from structlog.testing import capture_logs

from outlast.core.lifecycle import Hop
from outlast.core.progress import Progress
from outlast.edges.kafka import entrance, moves, private
from outlast_schemas.job import Job
from tests.kafka.member import BOUND, Corner, Member, Stage, corner, until
from tests.kafka.test_outbox import Desk, desk, mute, noise

pytestmark = pytest.mark.kafka


class Way:
    """Where jobs go on to, and which were looked at."""

    def __init__(self, out: Desk, name: str = "wide") -> None:
        self.seen: list[str] = []
        self.stays: set[str] = set()
        self.breaks: set[str] = set()
        self.elsewhere: dict[str, str] = {}
        self._out, self._name = out, name

    def __call__(self, job: Job) -> Hop | None:
        self.seen.append(job.id)
        if job.id in self.breaks:
            raise ZeroDivisionError
        if job.id in self.stays:
            return None
        return Hop(self._out.topic(self.elsewhere.get(job.id, self._name)), job)


async def joined(
    here: Corner, out: Desk, way: Way, stage: Stage, instance: str = "host-0"
) -> Member:
    for name in ("wide", "tiny"):  # which its client would have to hear of first
        await out.built[-1].partitions_for(out.topic(name))
    return await here.join(stage, onward=way, send_all=out.outbox.send_all, instance=instance)


async def keys(out: Desk, name: str = "wide") -> Counter[str]:
    return Counter(record.key.decode() for record in await out.read(name))


async def test_no_move_is_done_before_its_next_record_is_acknowledged(kafka: str) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        heard, stage, way = mute(out.built[0]), Stage(), Way(out)
        member = await joined(here, out, way, stage)
        await here.publish_all([("a", 0), ("b", 0), ("c", 0)])
        async with asyncio.timeout(BOUND):
            while (await keys(out)).total() < 3:
                await asyncio.sleep(0)  # soon in Kafka; but nobody has said so
        was_flushed = await member.assignment.commits.flush(5.0)
        committed = await here.committed()
        running = member.feed.in_flight
        heard.set()
        await here.until_committed(Progress(3, 3))

        assert was_flushed
        assert committed == Progress(0, 3, (0, 1, 2))
        assert (running, stage.started) == (3, [])
        assert await keys(out) == Counter("abc")
        assert out.outbox.written.hops == {out.topic("wide"): 3}
        await until(lambda: not member.feed.in_flight)


async def test_more_than_a_batch_moves_once_each_from_all_partitions(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, append = Counter[str](), private.append

    async def counted(producer: Any, tp: TopicPartition, key: bytes, *rest: Any) -> Any:
        entered[key.decode()] += 1
        return await append(producer, tp, key, *rest)

    monkeypatch.setattr(private, "append", counted)
    jobs = [(f"{number}", number % 3) for number in range(3 * moves.MOST + 50)]
    async with desk(kafka) as out, corner(kafka, partitions=3) as here:
        await here.publish_all(jobs)
        stage, way = Stage(), Way(out)
        member = await joined(here, out, way, stage)
        ends = Counter(number for _, number in jobs)
        await here.until_committed(*(Progress(ends[each], ends[each]) for each in range(3)))

        assert await keys(out) == Counter(name for name, _ in jobs)
        assert entered == Counter(way.seen) == Counter(name for name, _ in jobs)
        assert (stage.started, member.set_aside) == ([], [])


async def test_what_is_refused_holds_up_no_other_and_goes_on_when_it_may(kafka: str) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        way = Way(out)
        way.elsewhere = {"b": "tiny"}
        member = await joined(here, out, way, Stage())
        await here.publish("a")
        await here.publish("b", body=noise(2_000))
        await here.publish("c")
        await here.until_committed(Progress(1, 3, (1,)))
        await until(lambda: len(out.built) == 3)  # refused twice, and each time built anew
        was_blocked = out.outbox.is_blocked
        await out.allow_large()
        await here.until_committed(Progress(3, 3))

        assert was_blocked
        assert (await keys(out), await keys(out, "tiny")) == (Counter("ac"), Counter("b"))
        assert (way.seen, member.set_aside) == (["a", "b", "c"], [])


async def test_what_one_batch_refuses_is_written_by_each_in_the_end(kafka: str) -> None:
    names = [f"{number}" for number in range(40)]
    async with desk(kafka) as out, corner(kafka) as here:
        way = Way(out, "tiny")
        for name in names:
            await here.publish(name, body=noise(2_000) if name == "20" else b"{}")
        await joined(here, out, way, Stage())
        await until(lambda: len(out.built) == 2)
        await out.allow_large()
        await here.until_committed(Progress(40, 40))

        assert await keys(out, "tiny") == Counter(names)
        assert way.seen == names


async def test_what_does_not_fit_is_set_aside_and_the_others_go_on(kafka: str) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        await here.publish("a")
        await here.publish("b", body=noise(300_000))
        await here.publish("c")
        await joined(here, out, Way(out), Stage())
        await here.until_committed(Progress(3, 3))

        assert await keys(out) == Counter("ac")
        assert [reason.value for reason in out.outbox.written.dead_letters] == ["too_large"]


async def test_a_topic_that_is_missing_holds_up_its_own_records_only(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "UNKNOWN_SECONDS", 0.5)
    async with desk(kafka) as out, corner(kafka) as here:
        way = Way(out)
        way.elsewhere = {"b": "missing"}
        await here.publish_all([("a", 0), ("b", 0), ("c", 0)])
        await joined(here, out, way, Stage())
        await here.until_committed(Progress(1, 3, (1,)))
        await until(lambda: out.outbox.is_blocked)
        await out.where.admin.create_topics([NewTopic(out.topic("missing"), 1, 1)])
        await here.until_committed(Progress(3, 3))

        assert (await keys(out), await keys(out, "missing")) == (Counter("ac"), Counter("b"))


async def test_what_goes_to_a_topic_that_the_client_does_not_know_yet_waits_for_the_news(
    kafka: str,
) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        await here.publish_all([("a", 0), ("b", 0)])
        with capture_logs() as logs:
            await here.join(Stage(), onward=Way(out), send_all=out.outbox.send_all)
            await here.until_committed(Progress(2, 2))

        assert await keys(out) == Counter("ab")
        assert [each for each in logs if each["event"].startswith("outbox.")] == []


async def test_what_the_stage_has_to_see_runs_in_it_and_the_others_pass_it(kafka: str) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        stage, way = Stage(), Way(out)
        way.stays = {"b"}
        await joined(here, out, way, stage)
        await here.publish_all([("a", 0), ("b", 0), ("c", 0)])
        await here.until_committed(Progress(1, 3, (1,)))
        assert stage.started == ["b"]
        stage.let_go()

        await here.until_committed(Progress(3, 3))
        assert await keys(out) == Counter("ac")


async def test_a_bug_in_the_quick_way_is_left_to_the_patience_with_the_stage(kafka: str) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        stage, way = Stage(open=True), Way(out)
        way.breaks = {"b"}
        await joined(here, out, way, stage)
        await here.publish_all([("a", 0), ("b", 0), ("c", 0)])

        await here.until_committed(Progress(3, 3))
        assert stage.ended == ["b"]
        assert await keys(out) == Counter("ac")


async def test_a_copy_in_the_same_batch_is_dropped_once_its_first_is_acknowledged(
    kafka: str,
) -> None:
    async with desk(kafka) as out, corner(kafka, moving=True) as here:
        heard, stage, way = mute(out.built[0]), Stage(), Way(out)
        await here.move("a", hop=1)
        await here.move("a", hop=1)
        await here.move("a", hop=2)
        member = await joined(here, out, way, stage)
        await until(lambda: member.feed.in_flight == 3)
        assert member.feed.copies.dropped == 0
        heard.set()
        await here.until_committed(Progress(3, 3))

        assert member.feed.copies.dropped == 1
        assert await keys(out) == Counter({"a": 2})
        assert stage.started == []


async def test_what_is_cut_before_its_ack_is_read_again_and_no_call_is_suspected(
    kafka: str,
) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        heard, way = mute(out.built[0]), Way(out)
        first = await joined(here, out, way, Stage())
        await here.publish_all([("a", 0), ("b", 0)])
        await until(lambda: len(way.seen) == 2)
        assert await first.leave(drain_seconds=0.1) == 1  # the batch
        heard.set()
        left = await here.committed()
        second = Way(out)
        await joined(here, out, second, Stage())
        await here.until_committed(Progress(2, 2))

        await until(lambda: not out.outbox.oldest_seconds)  # also what nobody waited for
        assert left == Progress(0, 2, (0, 1))  # idle, neither unclean nor cut
        assert second.seen == ["a", "b"]


async def test_a_batch_on_its_way_is_lent_when_its_partition_moves_and_moves_once(
    kafka: str,
) -> None:
    async with desk(kafka) as out, corner(kafka, partitions=2) as here:
        heard, one, two = mute(out.built[0]), Way(out), Way(out)
        first = await joined(here, out, one, Stage())
        await here.publish_all([("a", 0), ("b", 1), ("c", 1)])
        await until(lambda: len(one.seen) == 3)
        second = await joined(here, out, two, Stage(), "host-1")
        await until(lambda: first.borrowed + second.borrowed > 0)
        heard.set()
        await here.until_committed(Progress(1, 1), Progress(2, 2))

        assert two.seen == []
        assert await keys(out) == Counter("abc")


async def test_who_died_over_a_move_meets_it_again_in_the_stage(kafka: str) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        mute(out.built[0])
        way, stage, again = Way(out), Stage(), Way(out)
        first = await joined(here, out, way, Stage())
        await here.publish_all([("a", 0)])
        await until(lambda: way.seen == ["a"])
        assert await first.assignment.commits.flush(5.0)
        await first.die()
        second = await joined(here, out, again, stage)
        await until(lambda: stage.started == ["a"])

        assert second.start(0).unclean == 1
        assert again.seen == []
        assert TopicPartition(here.topic, 0) in second.assignment.owned
        stage.let_go()
        await here.until_committed(Progress(1, 1))


async def test_whose_stage_was_cut_off_meets_it_again_and_does_not_just_go_on(kafka: str) -> None:
    """A call of it may have been under way: what that means is for the stage to say."""
    async with desk(kafka) as out, corner(kafka) as here:
        way, stage, again = Way(out), Stage(), Way(out)
        way.stays = {"a"}
        first = await joined(here, out, way, Stage())
        await here.publish_all([("a", 0)])
        await until(lambda: way.seen == ["a"])
        assert await first.leave(drain_seconds=0.1) == 1
        second = await joined(here, out, again, stage)
        await until(lambda: again.seen or stage.started)

        assert (again.seen, stage.started) == ([], ["a"])
        assert (second.start(0).cut, second.start(0).unclean) == (True, 0)
        stage.let_go()
        await here.until_committed(Progress(1, 1))
