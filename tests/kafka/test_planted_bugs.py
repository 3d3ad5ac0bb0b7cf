"""Tests and the checker find the bugs they are for: each is planted, and something has to fail."""

import os
from pathlib import Path
from typing import Final

import pytest

from outlast.drill.conservation import Account, Rule
from tests.kafka.chaos.fleet import Fleet, fleet
from tests.kafka.chaos.worker import Worker
from tests.kafka.planted import (
    BEFORE_ACK,
    BUGS,
    LENT_AT_ONCE,
    Bug,
    Patch,
    copied,
    planted,
    ran,
)

pytestmark = pytest.mark.kafka

POOL: Final = ("work", "--provider", "deepseek", "--max-in-flight", "10")


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_makes_its_test_fail(bug: Bug, kafka: str, tmp_path: Path) -> None:
    sources = planted(bug, tmp_path / "sources")
    code, output = ran(sources, [bug.caught_by], kafka, bound=4.0)

    assert code == 1, output
    assert f"FAILED {bug.caught_by}" in output, output
    assert bug.says in output, output


def test_without_a_bug_the_same_tests_pass(kafka: str, tmp_path: Path) -> None:
    tests = dict.fromkeys(bug.caught_by for bug in BUGS)
    code, output = ran(copied(tmp_path / "sources"), [*tests], kafka, bound=30.0)

    assert code == 0, output
    assert f"{len(tests)} passed" in output


@pytest.mark.parametrize("old", ["no such line of it", "self"])
def test_a_patch_that_does_not_fit_the_sources_says_so(old: str, tmp_path: Path) -> None:
    [patch] = BEFORE_ACK.patches
    stale = Bug("stale", (Patch(patch.file, old, ""),), "", "")

    with pytest.raises(AssertionError, match="the patch is stale"):
        planted(stale, tmp_path / "sources")


def either(bug: Bug) -> pytest.MarkDecorator:
    """Once with the sources as they are, once with the bug."""
    return pytest.mark.parametrize("bug", [None, bug], ids=["no bug", bug.name])


def paths(bug: Bug | None, directory: Path) -> str:
    """Where a process finds the sources, with the bug if there is one."""
    sources = copied(directory) if bug is None else planted(bug, directory)
    return os.pathsep.join((str(sources / "services"), str(sources / "schemas")))


async def busy(here: Fleet, jobs: int, sources: str) -> Worker:
    """A worker with so many calls in flight; the jobs came to it by a route process."""
    router = await here.launch("route", "route")
    worker = await here.launch("w0", *POOL, PYTHONPATH=sources)
    for each in (router, worker):
        await each.ready()
    await here.publisher.some(jobs)
    await here.until_in_flight(worker, jobs)
    return worker


def named(account: Account, rule: Rule) -> set[str]:
    """Who is said to break the rule."""
    return {each.job_id for each in account.offenders if each.rule is rule}


@either(BEFORE_ACK)
async def test_the_checker_names_every_job_that_a_worker_lost(
    kafka: str, tmp_path: Path, bug: Bug | None
) -> None:
    async with fleet(tmp_path, kafka, latency=(60.0, 0.0), partitions=2) as here:
        worker = await busy(here, 5, paths(bug, tmp_path / "sources"))
        await here.until_depth(here.topics.work("deepseek"), 5 if bug is None else 0)
        await here.kill(worker)
        account = await here.account((await here.allowed()).total())

    assert named(account, Rule.LOST) == (set() if bug is None else set(here.acked))
    assert account.holds is (bug is None), account.lines()
    assert (account.open, account.lost) == ((5, 0) if bug is None else (0, 5))


@pytest.mark.chaos
@either(LENT_AT_ONCE)
async def test_the_checker_names_every_job_that_was_called_twice(
    kafka: str, tmp_path: Path, bug: Bug | None
) -> None:
    async with fleet(tmp_path, kafka, latency=(8.0, 0.0), partitions=2) as here:
        sources = paths(bug, tmp_path / "sources")
        await busy(here, 6, sources)
        await (await here.launch("w1", *POOL, PYTHONPATH=sources)).ready()
        lost = await here.settle(60)
        account = await here.account((await here.allowed()).total())
        twice = {job for job, count in here.extra_calls().items() if count}

    assert not lost
    assert bool(twice) is (bug is not None)
    assert named(account, Rule.EXTRA_CALLS) == twice
    assert account.holds is (bug is None), account.lines()
