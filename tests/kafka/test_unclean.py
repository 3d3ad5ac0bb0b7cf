"""After a process died: what it had started is known, begun warily, and condemned only alone."""

import asyncio
import time

import pytest
from aiokafka import TopicPartition

from outlast.core import quarantine as rules
from outlast.core.progress import IDLE, Progress, Start
from outlast.edges.kafka import commit as committing
from outlast.edges.kafka.quarantine import Quarantine
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job
from tests.kafka.member import Commits, Corner, Member, Stage, corner, until

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


async def history(here: Corner, unclean: dict[int, int], low: int = 0) -> None:
    """As a dead process has committed it: these records not done, with so many unclean starts."""
    starts = tuple(Start(unclean=count) for count in unclean.values())
    await here.commit(Progress(low, max(unclean) + 1, tuple(unclean), starts))


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
        commits.hang()
        member = await here.join(after)
        await here.publish("new")
        await until(lambda: member.start(1).runner == member.membership.incarnation)
        await until(lambda: commits.tried)
        assert member.assignment.is_settling
        assert after.started == []  # both are admitted, and no commit says so
        commits.go_on()

        await until(lambda: sorted(after.started) == ["new", "old"])
        said = await here.committed()
        assert said.starts == (
            Start(runner=member.membership.incarnation, unclean=1),
            Start(runner=member.membership.incarnation),
        )


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
        commits.hang()
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
        await until(lambda: here.members[0].feed._held)  # it is there, and must wait
        await other.publish("later")
        await until(lambda: other.members[0].feed._held)
        assert (one.started, two.started) == ([], ["beside"])
        two.let_go("beside")
        await until(lambda: one.started == ["suspect"])
        assert two.started == ["beside"]
        one.let_go()

        await until(lambda: two.started == ["beside", "later"])
        await here.until_committed(Progress(1, 1))


async def test_what_kills_its_process_five_times_is_poison_and_what_ran_beside_it_is_not(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        await here.publish_all((job, 0) for job in ("i0", "bad", "i2"))
        deaths = 0
        while True:
            stage = Stage()
            member = await here.join(stage)
            await until(lambda each=stage, one=member: "bad" in each.started or one.set_aside)  # type: ignore[misc]
            if member.set_aside:
                break
            await until(lambda: member.start(1).runner)  # noqa: B023
            await until_started(here, *_started(member))
            await member.die()
            deaths += 1
            await _innocents_end_once_they_are_alone(here, deaths)
        stage.let_go()

        await here.until_committed(Progress(3, 3))
        assert deaths == 5
        assert member.set_aside == [("bad", Reason.POISON)]


def _started(member: Member) -> list[int]:
    return [offset for offset in range(3) if member.start(offset).runner]


async def _innocents_end_once_they_are_alone(here: Corner, deaths: int) -> None:
    """Nothing here: innocents end by themselves when the bad one is not beside them."""
