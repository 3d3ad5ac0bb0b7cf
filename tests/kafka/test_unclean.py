"""After a process died: what it had started is known, begun warily, and condemned only alone."""

import asyncio
import time

import pytest
from aiokafka import TopicPartition
from structlog.testing import capture_logs

from outlast.core import quarantine as rules
from outlast.core.progress import IDLE, Progress, Start, encode
from outlast.edges.kafka import commit as committing
from outlast.edges.kafka.quarantine import Quarantine
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job
from tests.kafka.member import Commits, Corner, Stage, Waits, corner, until

pytestmark = pytest.mark.kafka


async def until_started(here: Corner, *offsets: int) -> None:
    """Wait until a commit names these, and no others, as started; fails saying what it names."""
    found: dict[int, Start] = {}
    try:
        async with asyncio.timeout(10.0):
            while {offset for offset, start in found.items() if start.runner} != set(offsets):
                said = await here.committed()
                found = dict(zip(said.incomplete, said.starts or [IDLE] * 99, strict=False))
    except TimeoutError:
        raise AssertionError(f"committed as started: {found}, not {offsets}") from None


async def history(here: Corner, unclean: dict[int, int]) -> None:
    """As a dead process has committed it: these records not done, with so many unclean starts."""
    starts = tuple(Start(unclean=count) for count in unclean.values())
    progress = Progress(min(unclean), max(unclean) + 1, tuple(unclean), starts)
    tp = TopicPartition(here.topic, 0)
    await here.where.commit(here.topic, {tp: (progress.low, encode(progress))})


async def test_after_an_unclean_end_each_record_starts_only_once_a_commit_names_it(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with corner(kafka) as here:
        before, after = Stage(), Stage()
        killed = await here.join(before)
        await here.publish("old")
        await until_started(here, 0)
        await killed.die()
        commits = Commits(monkeypatch)
        commits.hang(after=1)  # by which the new owner says that the partition is its own
        member = await here.join(after)
        await here.publish("new")
        await until(lambda: member.start(1).runner == member.membership.incarnation)
        await until(lambda: commits.tried == 2)
        assert member.assignment.is_settling
        assert after.started == []  # both are admitted, and no commit says so
        commits.go_on()

        await until(lambda: sorted(after.started) == ["new", "old"])
        said = await here.committed()
        assert said.starts == (
            Start(runner=member.membership.incarnation, unclean=1, turn=1),
            Start(runner=member.membership.incarnation, turn=1),
        )


async def test_nothing_starts_before_a_commit_names_the_owner(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what kills its process at once would do so for ever: nobody could tell that one died."""
    async with corner(kafka) as here:
        stage, commits = Stage(open=True), Commits(monkeypatch)
        commits.hang()
        await here.publish("first")
        member = await here.join(stage)
        await until(lambda: commits.tried)
        fetched = TopicPartition(here.topic, 0)
        await until(lambda: member.assignment.closed_since is None)
        assert list(member.assignment.open_partitions()) == []
        assert member.assignment.commits.unsigned == {fetched}
        assert stage.started == []
        commits.go_on()

        await until(lambda: stage.ended == ["first"])
        assert (await here.committed()).writer == member.membership.incarnation


async def test_after_a_clean_end_nothing_waits_for_a_commit(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with corner(kafka) as here:
        before, after = Stage(), Stage()
        first = await here.join(before)
        await here.publish("old")
        await until_started(here, 0)
        assert await first.leave(drain_seconds=0.0) == 1
        commits = Commits(monkeypatch)
        commits.hang(after=1)  # by which the new owner says that the partition is its own
        member = await here.join(after)
        await here.publish("new")

        await until(lambda: after.started == ["old", "new"])
        assert not member.assignment.is_settling
        assert (member.start(0).unclean, member.start(0).cut) == (0, True)
        commits.go_on()


class Holds(Stage):
    """As a ``hold`` job's stage: never called again when a call may have been made."""

    def __init__(self) -> None:
        super().__init__()
        self.doubtful: list[str] = []

    async def __call__(self, job: Job) -> None:
        if self.starts.is_doubtful(job):
            self.doubtful.append(job.id)
            return
        await self.starts.recorded(job)
        await super().__call__(job)


async def test_who_awaits_the_commit_of_its_start_is_never_called_again_after_a_death(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with corner(kafka) as here:
        before, after = Holds(), Holds()
        commits = Commits(monkeypatch)
        killed = await here.join(before)
        commits.hang()
        await here.publish("held")
        await until(lambda: commits.tried and killed.feed.in_flight)
        assert before.started == []
        commits.go_on()
        await until(lambda: before.started == ["held"])
        assert (await here.committed()).starts[0].runner == killed.membership.incarnation
        await killed.die()
        await here.join(after)

        await until(lambda: after.doubtful == ["held"])
        await here.until_committed(Progress(1, 1))
        assert after.started == []


async def test_unclean_starts_are_counted_over_deaths_and_only_of_what_was_started(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        await here.publish_all((job, 0) for job in ("a", "b", "done"))
        for death in range(1, 3):
            stage = Stage()
            member = await here.join(stage)
            await until(lambda each=stage: {"a", "b"} <= set(each.started))  # type: ignore[misc]
            stage.let_go("done")
            await until_started(here, 0, 1)
            await member.die()
            said = await here.committed()
            assert [start.unclean for start in said.starts] == [death - 1] * 2
        member = await here.join(Stage())
        await here.publish("new")
        await until_started(here, 0, 1, 3)

        assert [member.start(offset).unclean for offset in (0, 1, 3)] == [2, 2, 0]


@pytest.mark.parametrize(("unclean", "together"), [(2, 3), (3, 2), (4, 1)])
async def test_suspects_are_worked_on_in_a_company_that_shrinks(
    kafka: str, monkeypatch: pytest.MonkeyPatch, unclean: int, together: int
) -> None:
    monkeypatch.setattr(rules, "_COMPANY", {2: 3, 3: 2, 4: 1})  # 64, 8 and 1 otherwise
    async with corner(kafka) as here:
        stage, most = Stage(), 0
        await here.publish_all((f"j{number}", 0) for number in range(6))
        await history(here, dict.fromkeys(range(6), unclean))
        member = await here.join(stage)
        while len(stage.ended) < 6:
            expected = min(together, 6 - len(stage.ended))
            await until(lambda count=expected: len(stage.running) == count)  # type: ignore[misc]
            most = max(most, len(stage.running), member.feed.in_flight)
            ended = sorted(stage.running)[0]
            stage.let_go(ended)
            await until(lambda job=ended: job in stage.ended)  # type: ignore[misc]

        await here.until_committed(Progress(6, 6))
        assert most == together
        assert stage.started == [f"j{number}" for number in range(6)]
        assert member.set_aside == []


async def test_a_suspect_waits_for_what_runs_in_all_feeds_of_its_process_and_stops_what_comes(
    kafka: str,
) -> None:
    async with corner(kafka) as here, corner(kafka) as other:
        shared, one, two = Quarantine(), Stage(), Stage()
        await other.join(two, quarantine=shared)
        await other.publish("beside")
        await until(lambda: two.started == ["beside"])
        await here.publish("suspect")
        await history(here, {0: 4})
        await here.join(one, quarantine=shared)
        await until(lambda: any(here.members[0].feed.held.values()))  # it is there, and must wait
        await other.publish("later")
        await until(lambda: any(other.members[0].feed.held.values()))
        assert (one.started, two.started) == ([], ["beside"])
        two.let_go("beside")
        await until(lambda: one.started == ["suspect"])
        assert two.started == ["beside"]
        one.let_go()

        await until(lambda: two.started == ["beside", "later"])
        await here.until_committed(Progress(1, 1))


async def test_what_kills_its_process_five_times_is_poison_and_what_ran_beside_it_never_is(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        await here.publish_all((job, 0) for job in ("i0", "bad", "i2"))
        for _ in range(4):
            stage = Stage()
            member = await here.join(stage)
            await until(lambda each=stage: len(each.started) == 3)  # type: ignore[misc]
            await until_started(here, 0, 1, 2)
            await member.die()
        alone = Stage()
        member = await here.join(alone)
        await until(lambda: alone.started)
        await until_started(here, 0)
        assert alone.started == ["i0"]  # nobody is condemned for the company it was in
        alone.let_go("i0")
        await until(lambda: alone.started == ["i0", "bad"])
        await until_started(here, 1)
        await member.die()
        last = Stage(open=True)
        member = await here.join(last)

        await here.until_committed(Progress(3, 3))
        assert member.set_aside == [("bad", Reason.POISON)]
        assert last.started == ["i2"]


async def test_after_a_freeze_nothing_starts_before_a_commit_shows_that_it_is_still_a_member(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "STALE_SECONDS", 0.4)  # 5 s otherwise
    async with corner(kafka) as here:
        stage = Stage(open=True)
        member = await here.join(stage)
        await here.publish("before")
        await here.until_committed(Progress(1, 1))
        member.may_start = False
        await here.publish("after")
        fetched = TopicPartition(here.topic, 0)
        await until(lambda: member.assignment.consumer.highwater(fetched) == 2)
        commits = Commits(monkeypatch)
        commits.hang()
        with capture_logs() as logs:
            member.may_start = True
            time.sleep(0.6)  # noqa: ASYNC251  # the whole process stands, as one that was stopped
            await until(lambda: commits.tried)
            await asyncio.sleep(0.3)
            assert stage.started == ["before"]
            assert not member.assignment.is_open
            commits.go_on()

            await until(lambda: stage.ended == ["before", "after"])
        assert "feed.stood" in [each["event"] for each in logs]


async def test_after_a_freeze_what_rested_goes_on_only_after_such_a_commit(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "STALE_SECONDS", 0.4)  # 5 s otherwise
    async with corner(kafka) as here:
        stage = Waits(open=True)
        await here.join(stage)
        await here.publish_all([("a", 0), ("b", 0)])
        await until(lambda: stage.waiting == {"a", "b"})
        await here.until_committed(Progress(0, 2, (0, 1)))
        commits = Commits(monkeypatch)
        commits.hang()
        time.sleep(0.6)  # noqa: ASYNC251  # the whole process stands, as one that was stopped
        for job in ("a", "b"):  # their time came meanwhile
            stage.permit(job)
        await until(lambda: commits.tried)
        await asyncio.sleep(0.3)
        assert stage.started == []
        commits.go_on()

        await until(lambda: sorted(stage.ended) == ["a", "b"])
        await here.until_committed(Progress(2, 2))


async def test_while_commits_are_not_acknowledged_for_too_long_what_runs_goes_on_and_no_more(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "STALE_SECONDS", 0.4)  # 5 s otherwise
    async with corner(kafka) as here:
        stage = Stage()
        member = await here.join(stage)
        await here.publish_all([("ends", 0), ("runs", 0)])
        await here.until_committed(Progress(0, 2, (0, 1)))
        commits = Commits(monkeypatch)
        commits.failing = True
        stage.let_go("ends")
        await until(lambda: not member.assignment.is_open)
        await here.publish("later")
        tried = commits.tried
        await until(lambda: commits.tried > tried + 3)
        assert sorted(stage.started) == ["ends", "runs"]
        assert stage.running == {"runs"}
        commits.go_on()

        await until(lambda: "later" in stage.started)
        assert member.assignment.commits.behind_seconds < 0.4
        stage.let_go()
        await here.until_committed(Progress(3, 3))
