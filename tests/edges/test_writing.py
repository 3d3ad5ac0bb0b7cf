"""When the drain's time is up: calls are cut off, what is known already is still written."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, cast

import pytest

from outlast.core.lifecycle import Hop, Outgoing
from outlast.edges.kafka import writing
from outlast.edges.kafka.outbox import Outbox
from outlast.edges.kafka.writing import Writing, ended
from tests.core.given import a_job
from tests.stages.fakes import turns

RECORDS = (Hop("outlast.retry.5s", a_job()),)


class SlowOutbox:
    """Acknowledges when the test says so, or refuses."""

    def __init__(self) -> None:
        self.sent: list[Sequence[Outgoing]] = []
        self.acks: list[asyncio.Future[None]] = []

    async def send(self, records: Sequence[Outgoing]) -> None:
        self.sent.append(records)
        self.acks.append(asyncio.get_running_loop().create_future())
        await self.acks[-1]


class Scene:
    """Jobs that call and then write what came of it."""

    def __init__(self) -> None:
        self.outbox = SlowOutbox()
        self.writing = Writing(cast(Outbox, self.outbox))
        self.called = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def calls(self) -> asyncio.Task[None]:
        """Its call does not end before all do."""
        return await self._begun(self._job(self.called))

    async def writes(self) -> asyncio.Task[None]:
        """Its call has ended."""
        over = asyncio.Event()
        over.set()
        return await self._begun(self._job(over))

    async def _job(self, called: asyncio.Event) -> None:
        await called.wait()
        await self.writing.send(RECORDS)

    async def _begun(self, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(job)
        self.tasks.append(task)
        await turns()
        return task

    def drained(self, seconds: float) -> asyncio.Task[int]:
        """How many were cut off, when all have ended."""
        return asyncio.create_task(ended(self.tasks, seconds, self.writing.is_by))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Of which nothing runs on after the test."""
    scene = Scene()
    yield scene
    for task in scene.tasks:
        task.cancel()
    await turns()


async def test_what_is_being_written_when_the_time_is_up_is_not_cut_and_what_calls_is(
    scene: Scene,
) -> None:
    calling, written = await scene.calls(), await scene.writes()
    drained = scene.drained(0.01)
    await asyncio.wait({calling}, timeout=5)
    await turns()
    assert (calling.cancelled(), written.done(), drained.done()) == (True, False, False)
    scene.outbox.acks[0].set_result(None)

    async with asyncio.timeout(5):
        assert await drained == 1
    assert written.done()
    assert not written.cancelled()
    assert scene.outbox.sent == [RECORDS]


async def test_a_call_that_ends_within_the_time_is_written_and_nothing_is_cut(
    scene: Scene,
) -> None:
    task = await scene.calls()
    drained = scene.drained(60)
    await turns()
    scene.called.set()
    await turns()
    scene.outbox.acks[0].set_result(None)

    async with asyncio.timeout(5):
        assert await drained == 0
    assert not task.cancelled()


async def test_what_cannot_be_written_is_cut_in_the_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "WRITE_SECONDS", 0.05)
    unwritten, calling = await scene.writes(), await scene.calls()

    async with asyncio.timeout(5):
        assert await scene.drained(0.01) == 2
    assert unwritten.cancelled()
    assert calling.cancelled()


async def test_who_writes_is_known_only_while_it_writes(scene: Scene) -> None:
    calling, written, refused = await scene.calls(), await scene.writes(), await scene.writes()
    during = [scene.writing.is_by(task) for task in (calling, written, refused)]
    scene.outbox.acks[0].set_result(None)
    scene.outbox.acks[1].set_exception(ValueError("no such topic"))
    await asyncio.wait({written, refused}, timeout=5)

    assert during == [False, True, True]
    assert isinstance(refused.exception(), ValueError)
    assert not any(scene.writing.is_by(task) for task in (calling, written, refused))


async def test_without_anything_in_flight_the_drain_is_over_at_once(scene: Scene) -> None:
    async with asyncio.timeout(5):
        assert await scene.drained(60) == 0
