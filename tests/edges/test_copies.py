"""Copies wait for how their first ends: none runs beside it, none is dropped too early."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiokafka import TopicPartition

from outlast.core.errors import Released
from outlast.core.progress import Progress, Start
from outlast.core.seen import Sight
from outlast.edges.kafka.copies import Copies, identity
from outlast.edges.kafka.records import Records
from outlast_schemas.job import Job, Origin
from tests.core.given import NOW, a_job
from tests.stages.fakes import turns

TP = TopicPartition("outlast.work.deepseek", 3)
LENT = Progress(0, 1, (0,), (Start(runner="them.0"),))
UNDONE = Progress(0, 1, (0,))
DONE = Progress(1, 1)


def at(offset: int, *, body: bytes = b"{}", hop: int = 1) -> Job:
    """The same job, as it is read at this offset."""
    job = a_job(body=body, hop=hop)
    return replace(job, origin=Origin(TP.topic, TP.partition, offset, NOW))


class Feed:
    """Carries records as the feed does: sight, then a stage that ends as it is told."""

    def __init__(self) -> None:
        self.copies = Copies()
        self.ran: list[int] = []
        self.ended: dict[int, str] = {}
        self._ends: dict[int, asyncio.Future[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def reads(self, *jobs: Job) -> None:
        for job in jobs:
            offset = job.origin.offset
            self._ends[offset] = asyncio.get_running_loop().create_future()
            self._tasks.append(asyncio.create_task(self._carry(job), name=str(offset)))
            await turns()

    async def _carry(self, job: Job) -> None:
        offset, who = job.origin.offset, identity(job)
        try:
            while (first := self.copies.first_of(who)) is not None:
                await asyncio.wait({first})
                self.copies.check(first)
            sight = self.copies.look(who)
            if sight is Sight.NEW:
                self.ran.append(offset)
                await self._ends[offset]
        except (Released, asyncio.CancelledError) as end:
            self.copies.gave_up(who)
            self.ended[offset] = type(end).__name__
        else:
            self.ended[offset] = "done" if sight is Sight.NEW else sight.name.lower()
        finally:
            self.copies.ended(who)

    async def ends(self, offset: int, error: BaseException | None = None) -> None:
        if error is None:
            self._ends[offset].set_result(None)
        else:
            self._ends[offset].set_exception(error)
        await turns()

    async def cuts(self, offset: int) -> None:
        [task] = [task for task in self._tasks if task.get_name() == str(offset)]
        task.cancel()
        await turns()

    async def stops(self) -> None:
        for task in self._tasks:
            task.cancel()
        await turns()

    async def review(self, *committed: Progress) -> None:
        """After a rebalance that gave the partition as it is committed, or did not give it."""
        records = Records("test", "us.0", lambda *_: None)
        for progress in committed:
            records.merge(TP, progress)
        records.own(frozenset({TP} if committed else ()))
        self.copies.review(records)
        await turns()


@pytest.fixture
async def feed() -> AsyncIterator[Feed]:
    """A feed, of which nothing runs on after the test."""
    feed = Feed()
    yield feed
    await feed.stops()


async def test_copies_are_dropped_once_their_first_is_done_and_not_before(feed: Feed) -> None:
    await feed.reads(at(0), at(1), at(2))
    assert (feed.ran, feed.ended) == ([0], {})
    await feed.ends(0)

    assert feed.ended == {0: "done", 1: "copy", 2: "copy"}
    await feed.reads(at(3))
    assert feed.ended[3] == "copy"


@pytest.mark.parametrize("is_cut", [False, True])
async def test_when_the_first_is_given_up_one_copy_runs_and_the_others_wait_for_it(
    feed: Feed, is_cut: bool
) -> None:
    await feed.reads(at(0), at(1), at(2))
    await (feed.cuts(0) if is_cut else feed.ends(0, Released()))
    assert len(feed.ran) == 2
    await feed.reads(at(0))  # which is read again
    second = feed.ran[1]
    await feed.ends(second)

    assert feed.ran == [0, second]
    assert [feed.ended[offset] for offset in (0, 1, 2)].count("done") == 1
    assert [feed.ended[offset] for offset in (0, 1, 2)].count("copy") == 2


async def test_another_job_under_the_same_id_waits_too_and_is_a_conflict_in_the_end(
    feed: Feed,
) -> None:
    await feed.reads(at(0, body=b"1", hop=0), at(1, body=b"2", hop=0))
    assert feed.ended == {}
    await feed.ends(0)

    assert feed.ended == {0: "done", 1: "conflict"}


async def test_another_job_under_the_same_id_runs_when_the_first_was_given_up(feed: Feed) -> None:
    await feed.reads(at(0, body=b"1", hop=0), at(1, body=b"2", hop=0))
    await feed.ends(0, Released())

    assert feed.ran == [0, 1]


async def test_a_copy_that_is_cut_while_it_waits_leaves_the_first_as_it_was(feed: Feed) -> None:
    await feed.reads(at(0), at(1), at(2))
    await feed.cuts(1)
    await feed.reads(at(1))
    assert feed.ran == [0]
    await feed.ends(0)

    assert feed.ended == {0: "done", 1: "copy", 2: "copy"}


async def test_what_is_remembered_as_done_makes_copies_of_what_repeats_it(feed: Feed) -> None:
    feed.copies.remember(at(0))
    await feed.reads(at(1))

    assert feed.ended == {1: "copy"}


async def test_a_record_that_is_read_again_is_no_copy_of_itself(feed: Feed) -> None:
    feed.copies.remember(at(0))
    await feed.reads(at(0))

    assert feed.ran == [0]


@pytest.mark.parametrize("is_reviewed", [False, True])
async def test_copies_of_what_is_lent_are_dropped_when_it_is_done_there(
    feed: Feed, is_reviewed: bool
) -> None:
    feed.copies.lent(TP, 0, at(0))
    await feed.reads(at(1), at(2))
    assert (feed.ran, feed.ended) == ([], {})
    if is_reviewed:
        await feed.review(DONE)
    else:
        feed.copies.returned(TP, 0, is_done=True)
        await turns()

    assert (feed.ran, feed.ended) == ([], {1: "copy", 2: "copy"})


@pytest.mark.parametrize("is_reviewed", [False, True])
async def test_one_copy_of_what_was_lent_runs_when_it_came_back_undone(
    feed: Feed, is_reviewed: bool
) -> None:
    feed.copies.lent(TP, 0, at(0))
    await feed.reads(at(1), at(2))
    if is_reviewed:
        await feed.review(UNDONE)
    else:
        feed.copies.returned(TP, 0, is_done=False)
        await turns()
    await feed.reads(at(0))  # which is read again
    [first] = feed.ran
    await feed.ends(first)

    assert feed.ran == [first]
    assert sorted(feed.ended.values()) == ["copy", "copy", "done"]


async def test_copies_of_what_is_lent_are_released_when_the_partition_is_lost(feed: Feed) -> None:
    feed.copies.lent(TP, 0, at(0))
    await feed.reads(at(1), at(2))
    await feed.review()

    assert (feed.ran, feed.ended) == ([], {1: "Released", 2: "Released"})
    await feed.reads(at(3))  # nothing is remembered of it
    assert feed.ran == [3]


async def test_a_rebalance_that_changes_nothing_leaves_all_waiting(feed: Feed) -> None:
    feed.copies.lent(TP, 0, at(0))
    await feed.reads(at(1))
    await feed.review(LENT)
    assert feed.ended == {}
    feed.copies.returned(TP, 0, is_done=True)
    await turns()

    assert feed.ended == {1: "copy"}


async def test_a_lent_record_that_is_read_again_is_waited_for_once(feed: Feed) -> None:
    for _ in range(2):
        feed.copies.lent(TP, 0, at(0))
    await feed.reads(at(1))
    for _ in range(2):
        feed.copies.returned(TP, 0, is_done=True)
    await turns()

    assert feed.ended == {1: "copy"}


async def test_what_is_lent_and_repeats_what_runs_here_changes_nothing_here(feed: Feed) -> None:
    await feed.reads(at(1))
    feed.copies.lent(TP, 0, at(0))
    feed.copies.returned(TP, 0, is_done=False)
    await feed.reads(at(2))
    assert feed.ran == [1]
    await feed.ends(1)

    assert feed.ended == {1: "done", 2: "copy"}


async def test_losing_what_nobody_waits_for_is_quiet(feed: Feed) -> None:
    feed.copies.lent(TP, 0, at(0))
    await feed.review()
    feed.copies.returned(TP, 0, is_done=True)
    await feed.reads(at(1))

    assert feed.ran == [1]
