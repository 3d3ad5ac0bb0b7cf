"""Lending on real Kafka: partitions move at once, calls in flight stay, and none is repeated."""

import asyncio
import sys
import time
from collections import Counter

import orjson
import pytest
from aiokafka import TopicPartition
from structlog.testing import capture_logs

from outlast.core.progress import Progress
from outlast.core.watermark import End
from outlast.edges.codec import Encoded
from outlast.edges.kafka import loading
from outlast.edges.pool import Share
from outlast_schemas.lent import Note
from tests.kafka.member import Commits, Corner, Member, Stage, Waits, corner, until

pytestmark = pytest.mark.kafka


def times(*stages: Stage) -> Counter[str]:
    """How often each job was started, over all stages."""
    return Counter(job for stage in stages for job in stage.started)


def once(jobs: list[str]) -> Counter[str]:
    return Counter(dict.fromkeys(jobs, 1))


async def busy(here: Corner, stage: Stage, *, each: int, partitions: int = 2) -> list[str]:
    """So many jobs in flight of each partition, in the only member there is; returns all."""
    jobs = [(f"{name}{number}", number) for number in range(partitions) for name in "abcd"[:each]]
    await here.publish_all(jobs)
    await until(lambda: len(stage.started) == len(jobs))
    return [job for job, _ in jobs]


async def test_what_runs_while_a_member_joins_is_lent_and_ends_where_it_began(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        jobs = await busy(here, one, each=3)
        second = await here.join(two, instance="host-1")
        await until(lambda: second.owned == {1} and first.owned == {0})
        assert second.borrowed == 3
        await here.publish("new", partition=1)
        await until(lambda: two.started == ["new"])  # it does not stand behind what is lent
        two.let_go()
        await here.until_committed(Progress(0, 3, (0, 1, 2)), Progress(0, 4, (0, 1, 2)))
        one.let_go()

        await here.until_committed(Progress(3, 3), Progress(4, 4))
        assert times(one, two) == once([*jobs, "new"])
        assert (await here.committed(1)).writer == second.membership.incarnation


async def test_what_the_lender_gives_up_runs_at_the_new_owner(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage(open=True)
        await here.join(one)
        await busy(here, one, each=2)
        second = await here.join(two, instance="host-1")
        await until(lambda: second.borrowed == 2)
        one.release("a1")

        await until(lambda: two.ended == ["a1"])
        await here.until_committed(Progress(0, 2, (0, 1)), Progress(1, 2, (1,)))
        assert second.start(1, 1).runner == here.members[0].membership.incarnation


async def test_a_leaver_whose_budget_is_shorter_than_its_calls_has_them_cut_and_run_once_elsewhere(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        jobs = await busy(here, one, each=2, partitions=1)
        second = await here.join(two, instance="host-1")
        leaving = asyncio.create_task(first.leave(drain_seconds=2.0))
        await until(lambda: second.borrowed == 2)  # its partition moves while its calls go on
        await here.publish("new")
        await until(lambda: two.started == ["new"])
        one.let_go("a0")
        await until(lambda: second.borrowed == 1)

        assert await leaving == 1
        await until(lambda: two.started == ["new", "b0"])
        assert second.start(1).cut
        assert second.start(1).unclean == 0
        two.let_go()
        await here.until_committed(Progress(3, 3))
        assert times(one, two) == once([*jobs, "new"]) + Counter(["b0"])


async def test_what_a_dead_lender_ran_is_run_again_at_once_and_counts_as_unclean(
    kafka: str,
) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two, again = Stage(), Stage(), Stage()
        first = await here.join(one)
        jobs = await busy(here, one, each=2)
        second = await here.join(two, instance="host-1")
        await until(lambda: second.borrowed == 2)
        one.let_go("b1")
        await until(lambda: second.borrowed == 1)
        await first.die()
        assert two.started == []  # a static member's death is not known before it returns
        returned = await here.join(again)
        await until(lambda: two.started == ["a1"] and sorted(again.started) == ["a0", "b0"])

        unclean = [returned.start(0).unclean, returned.start(1).unclean, second.start(0, 1).unclean]
        assert unclean == [1, 1, 1]
        two.let_go()
        again.let_go()
        await here.until_committed(Progress(2, 2), Progress(2, 2))
        assert times(one, two, again) == once(jobs) + Counter(["a0", "b0", "a1"])


async def test_a_call_goes_on_while_its_partition_moves_on_and_comes_back(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two, three = Stage(), Stage(), Stage()
        first = await here.join(one)
        jobs = await busy(here, one, each=2)
        second = await here.join(two, instance="host-1")
        await until(lambda: second.borrowed == 2)
        third = await here.join(three, instance="host-2")
        assert third.owned == set()
        await second.leave()
        await until(lambda: third.owned == {1} and third.borrowed == 2)
        one.let_go("a1")
        await until(lambda: third.borrowed == 1)
        await third.leave()
        await until(lambda: first.owned == {0, 1})
        assert await here.committed(1) == Progress(1, 2, (1,))
        one.let_go()

        await here.until_committed(Progress(2, 2), Progress(2, 2))
        assert times(one, two, three) == once(jobs)


async def test_who_waits_for_its_time_moves_at_once_and_is_let_go_of_where_it_waited(
    kafka: str,
) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Waits(), Waits(open=True)
        first = await here.join(one)
        await here.publish_all([("stays", 0), ("moves", 1)])
        await until(lambda: len(one.waiting) == 2)
        second = await here.join(two, instance="host-1")
        await until(lambda: two.waiting == {"moves"})
        await until(lambda: one.gave_up == ["moves"])
        assert one.waiting == {"stays"}
        assert (second.borrowed, first.assignment.records.away) == (0, 0)
        two.permit("moves")

        await here.until_committed(Progress(0, 1, (0,)), Progress(1, 1))
        assert second.start(0, 1).unclean == 0
        assert times(one, two) == once(["moves"])


async def test_what_was_once_given_up_and_runs_here_again_is_lent_like_any_other(
    kafka: str,
) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two, three = Waits(), Waits(), Waits()
        first = await here.join(one)
        await here.publish_all([("stays", 0), ("moves", 1)])
        await until(lambda: len(one.waiting) == 2)
        second = await here.join(two, instance="host-1")
        await until(lambda: two.waiting == {"moves"} and one.gave_up == ["moves"])
        await second.leave(drain_seconds=0.0)
        await until(lambda: first.owned == {0, 1} and "moves" in one.waiting)
        one.permit("moves")
        await until(lambda: one.started == ["moves"])
        three.permit("moves")
        third = await here.join(three, instance="host-2")
        await until(lambda: third.owned == {1})

        # that it was given up earlier says nothing of this call
        assert third.borrowed == 1
        one.let_go("moves")
        await here.until_committed(Progress(0, 1, (0,)), Progress(1, 1))
        assert times(one, two, three) == once(["moves"])


async def test_the_last_member_keeps_its_partitions_until_its_calls_end_and_then_nobody_owns_them(
    kafka: str,
) -> None:
    async with corner(kafka, partitions=2) as here:
        stage, after = Stage(), Stage(open=True)
        member = await here.join(stage)
        jobs = await busy(here, stage, each=1)
        leaving = asyncio.create_task(member.leave())
        await until(lambda: member.membership.is_leaving and not member.membership.owes_rejoin)
        await here.publish("late")
        stage.let_go("a0")
        await here.until_committed(Progress(1, 1), Progress(0, 1, (0,)))
        assert (await here.committed(1)).writer == member.membership.incarnation
        stage.let_go("a1")

        assert await leaving == 0
        assert [(await here.committed(number)).writer for number in range(2)] == [None, None]
        assert stage.started == jobs
        with capture_logs() as logs:
            await here.join(after)
        assert "feed.unclean_end" not in [each["event"] for each in logs]
        await here.until_committed(Progress(2, 2), Progress(1, 1))
        assert after.started == ["late"]


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_what_cannot_be_committed_does_not_move_until_it_can(
    kafka: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    commits = Commits(monkeypatch)
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        jobs = await busy(here, one, each=2)
        await here.until_committed(*[Progress(0, 2, (0, 1))] * 2)
        if how == "fails":
            commits.failing = True
        else:
            commits.hang()
        one.let_go("a0", "a1")
        await until(lambda: len(one.ended) == 2)
        second = await here.join(two, instance="host-1")
        assert second.assignment.owned == set()
        await until(lambda: {tp.partition for tp in first.membership.wanted} == {1})
        assert second.assignment.owned == set()
        await here.publish("new", partition=1)
        commits.go_on()

        await until(lambda: second.owned == {1} and two.started == ["new"])
        one.let_go()
        two.let_go()
        await here.until_committed(Progress(2, 2), Progress(3, 3))
        assert times(one, two) == once([*jobs, "new"])


async def test_what_takes_its_lender_too_long_is_taken_back_and_what_it_says_then_is_too_late(
    kafka: str,
) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        await busy(here, one, each=1)
        turn = first.start(0, 1).turn
        with capture_logs() as logs:
            second = await here.join(two, instance="host-1", most_seconds=0.5)
            await until(lambda: two.started == ["a1"])

            [called_in] = [each for each in logs if each["event"] == "lent.called_in"]
        assert (called_in["partition"], called_in["count"]) == (1, 1)
        assert (second.borrowed, second.start(0, 1).unclean) == (0, 1)
        one.let_go()
        tp, lender = TopicPartition(here.topic, 1), first.membership.incarnation
        await until(lambda: second.lending.ended(tp, 0, lender, turn) is End.DONE)
        assert second.start(0, 1).runner == second.membership.incarnation
        two.let_go()
        await here.until_committed(Progress(1, 1), Progress(1, 1))


class Loads:
    """Holds back what a member is about to load after a rebalance."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._held: Member | None = None
        self._may_load = asyncio.Event()
        self.waits = False
        self._real = loading.committed
        monkeypatch.setattr(loading, "committed", self._committed)

    async def _committed(self, consumer: object, *more: object) -> object:
        loaded = await self._real(consumer, *more)  # type: ignore[arg-type]
        if self._held is not None and consumer is self._held.assignment.consumer:
            self.waits = True
            await self._may_load.wait()
        return loaded

    def hold(self, member: Member) -> None:
        self._held = member

    def go_on(self) -> None:
        self._may_load.set()


async def test_what_ends_before_the_new_owner_has_loaded_is_not_lent_any_more(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(monkeypatch)
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        jobs = await busy(here, one, each=2)
        second = Member(here.where, here.topic, two, instance="host-1")
        here.members.append(second)
        loads.hold(second)
        joining = asyncio.create_task(second.join())
        await until(lambda: loads.waits and first.owned == {0})
        tp, lender, turn = (
            TopicPartition(here.topic, 1),
            first.membership.incarnation,
            first.start(0, 1).turn,
        )
        one.let_go("a1", "b0")
        await until(lambda: second.lending.ended(tp, 0, lender, turn))
        loads.go_on()
        await joining
        assert second.borrowed == 1

        await here.until_committed(Progress(0, 2, (0,)), Progress(1, 2, (1,)))
        one.let_go()
        await here.until_committed(Progress(2, 2), Progress(2, 2))
        assert times(one, two) == once(jobs)


async def test_what_ends_while_it_is_agreed_who_owns_what_is_committed_by_whoever_does(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(monkeypatch)
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        jobs = await busy(here, one, each=2)
        loads.hold(first)
        second = await here.join(two, instance="host-1")
        await until(lambda: loads.waits and second.owned == {1})
        assert first.assignment.records.is_between
        one.let_go("a0", "a1")
        await until(lambda: second.borrowed == 1)
        loads.go_on()

        await here.until_committed(Progress(1, 2, (1,)), Progress(1, 2, (1,)))
        one.let_go()
        await here.until_committed(Progress(2, 2), Progress(2, 2))
        assert times(one, two) == once(jobs)


async def test_what_others_write_among_the_notes_changes_nothing(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        jobs = await busy(here, one, each=2)
        second = await here.join(two, instance="host-1")
        await until(lambda: second.borrowed == 2)
        lender, owner = first.membership.incarnation, second.membership.incarnation
        await here.publish("new", partition=1)
        await until(lambda: two.started == ["new"])
        lent, own = second.start(0, 1).turn, second.start(2, 1).turn

        topic, moved = here.where.topics.lent, f"{here.topic}/1".encode()

        def note(by: str, turn: int, **ends: tuple[int, ...]) -> Encoded:
            told = Note(by=by, turn=turn, **ends)
            return Encoded(topic, moved, orjson.dumps(told.to_json()), [])

        await here.where.write(
            Encoded(topic, b"doctor", orjson.dumps({"v": 1, "check": "a"}), []),
            Encoded(topic, moved, b"no note", []),
            Encoded(topic, moved, b"", []),
            note("host-9.00000000", lent, done=(0, 1), released=(0, 1)),  # runs neither
            note(lender, lent, done=(2, 7), released=(2,), cut=(9,)),  # runs none of these
            note(lender, lent - 1, done=(0, 1)),  # has given up what it then ran
            note(lender, lent + 1, released=(0,), cut=(1,)),  # has not begun them there
            note(owner, own, done=(0,), released=(1, 2)),  # runs 2, as its own
            note(lender, lent, done=(0,)),
        )
        await until(lambda: second.borrowed == 1)
        await here.until_committed(Progress(0, 2, (0, 1)), Progress(1, 3, (1, 2)))
        assert second.start(2, 1).runner == owner
        one.let_go()
        two.let_go()
        await here.until_committed(Progress(2, 2), Progress(3, 3))
        assert times(one, two) == once([*jobs, "new"])


async def test_five_members_that_join_one_after_another_repeat_nothing(kafka: str) -> None:
    partitions, jobs = 10, 200
    async with corner(kafka, partitions=partitions) as here:
        stages = [Stage() for _ in range(5)]
        await here.join(stages[0])
        await here.publish_all((f"j{number}", number % partitions) for number in range(jobs))
        await until(lambda: len(stages[0].running) == jobs)
        for number, stage in enumerate(stages[1:], 1):
            began = time.perf_counter()
            await here.join(stage, instance=f"host-{number}")
            whole = [partitions // (number + 1), -(-partitions // (number + 1))]
            await until(lambda fair=whole: all(len(m.owned) in fair for m in here.members))  # type: ignore[misc]
            took = time.perf_counter() - began
            sys.stdout.write(f"{number + 1} members: balanced after {took:.2f} s\n")
            await here.publish_all((f"n{number}.{each}", each) for each in range(partitions))
            await until(lambda more=jobs + number * partitions: times(*stages).total() == more)  # type: ignore[misc]
        for stage in stages:
            stage.let_go()

        await here.until_committed(*[Progress(24, 24)] * partitions)
        assert times(*stages).most_common(1)[0][1] == 1
        assert all(stage.ended for stage in stages)


async def test_calls_that_are_lent_count_where_their_partition_is(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        await here.publish_all([("a0", 0), ("a1", 1), ("b1", 1), ("c1", 1)])
        await until(lambda: len(one.started) == 4)
        mine = Share(first.assignment, here.topic, limit=8, most=100)
        assert mine() == 8
        second = await here.join(two, instance="host-1")
        await until(lambda: second.borrowed == 3 and first.owned == {0})
        theirs = Share(second.assignment, here.topic, limit=8, most=100)

        assert (mine(), theirs()) == (4 + 3, 4 - 3)
        one.let_go("a1")
        await until(lambda: second.borrowed == 2)
        assert (mine(), theirs()) == (4 + 2, 4 - 2)
        one.let_go("a0")  # it was never lent
        await until(lambda: len(one.ended) == 2)
        assert (mine(), theirs()) == (4 + 2, 4 - 2)
        one.let_go()
        await until(lambda: second.borrowed == 0)
        assert (mine(), theirs()) == (4, 4)


async def test_more_calls_lent_than_a_partition_has_permits_do_not_raise_the_limit(
    kafka: str,
) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage()
        first = await here.join(one)
        await here.publish_all((f"j{number}", 1) for number in range(4))
        await until(lambda: len(one.started) == 4)
        mine = Share(first.assignment, here.topic, limit=4, most=100)
        second = await here.join(two, instance="host-1")
        await until(lambda: second.borrowed == 4 and first.owned == {0})
        theirs = Share(second.assignment, here.topic, limit=4, most=100)

        for ended in range(5):
            assert mine() + theirs() == 4
            one.let_go(f"j{ended}")
            await until(lambda left=3 - ended: second.borrowed <= max(left, 0))  # type: ignore[misc]


async def test_a_copy_of_what_is_lent_waits_for_how_that_ends(kafka: str) -> None:
    async with corner(kafka, partitions=2) as here:
        one, two = Stage(), Stage(open=True)
        await here.join(one)
        await busy(here, one, each=2)
        second = await here.join(two, instance="host-1")
        await until(lambda: second.borrowed == 2)
        for copied in ("a1", "b1", "new"):
            await here.publish(copied, partition=1)
        await until(lambda: two.ended == ["new"])
        await here.until_committed(Progress(0, 2, (0, 1)), Progress(0, 5, (0, 1, 2, 3)))
        assert two.started == ["new"]
        one.let_go("a1")  # its copy is dropped
        one.release("b1")  # its copy, or itself, runs

        await here.until_committed(Progress(0, 2, (0, 1)), Progress(5, 5))
        assert two.ended == ["new", "b1"]
