"""A process's life: start what was wired, run until a signal or a failure, drain, stop."""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError

from outlast.edges.condition import Condition, Phase
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.feed import Feed
from outlast.edges.kafka.subscribers import Subscriber
from outlast.edges.kafka.watchdog import Watchdog
from outlast.edges.stall import Stall

__all__ = ["Moving", "Process"]

log = structlog.get_logger()

FLUSH_SECONDS: Final = 5.0
LEAVE_SECONDS: Final = 10.0
AFTER_FAILURE_SECONDS: Final = 5.0
"""How long calls in flight may still end when the process has to leave because of a failure."""


@dataclass(frozen=True, slots=True)
class Moving:
    """One feed with its partitions and its consumer."""

    feed: Feed
    assignment: Assignment
    subscriber: Subscriber
    joined: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Join the group, then read, commit and watch until cancelled."""
        await self.subscriber.start()
        parts = [
            asyncio.ensure_future(each)
            for each in (
                self.feed.run(),
                self.assignment.commits.run(),
                self.assignment.lent.run(lambda: self.assignment.consumer),
                self._watchdog().run(),
            )
        ]
        self.joined.set()
        try:
            await asyncio.gather(*parts)
        finally:
            await _cancelled(parts)

    def _watchdog(self) -> Watchdog:
        return Watchdog(
            self.assignment,
            instance=self.assignment.lent.slot,
            generations=self.assignment.generations,
            idle_since=lambda: self.feed.idle_since,
        )

    def unready(self) -> str | None:
        """Why it takes no jobs just now, in a line; ``None`` when it may."""
        if self.assignment.records.is_between:
            return f"{self.feed.name} waits for its group to give it partitions"
        if not self.assignment.commits.is_current:
            return f"{self.feed.name} waits for a commit to be acknowledged"
        return None

    async def drain(self, seconds: float) -> int:
        """Give the partitions away, let here end what runs; returns how many calls were cut off."""
        self.feed.stop()
        if self.feed.in_flight:
            self.assignment.lent.leave()
        return await self.feed.drain(seconds)

    async def leave(self) -> None:
        """Commit what is done, leave the group so that its partitions move at once."""
        if not await self.assignment.commits.finish(FLUSH_SECONDS):
            log.warning("feed.not_flushed", feed=self.feed.name)
        self.assignment.commits.closed()
        await self.subscriber.leave()


class Process:
    """Everything one process runs."""

    def __init__(
        self,
        *,
        moving: Sequence[Moving],
        others: Sequence[Subscriber],
        background: Sequence[Callable[[], Coroutine[Any, Any, None]]],
        let_go: Sequence[Callable[[], None]],
        close: Sequence[Callable[[], Awaitable[None]]],
        told: Callable[[float], Awaitable[bool]],
        drain_seconds: float,
    ) -> None:
        """Wire a process.

        Args:
            moving: the feeds.
            others: subscribers with a handler of their own.
            background: what runs beside the feeds, to the very end.
            let_go: told first when draining, so that nothing waits for a time that is not waited.
            close: connections, closed last, in this order.
            told: whether others are told, in so many seconds, what was ended for them.
            drain_seconds: how long calls in flight may still take.
        """
        self._moving = moving
        self._others = others
        self._background = background
        self._let_go = let_go
        self._close = close
        self._told = told
        self._drain_seconds = drain_seconds
        self._asked_to_stop = asyncio.Event()
        self._condition = Condition()

    def stop(self) -> None:
        """Drain and end; asked a second time, leave at once."""
        if self._asked_to_stop.is_set():
            os._exit(1)
        log.info("process.draining", seconds=self._drain_seconds)
        self._condition.phase = Phase.DRAINING
        self._asked_to_stop.set()

    async def run(self, condition: Condition | None = None) -> None:
        """Run until asked to stop. Raises what made going on pointless, after draining.

        ``condition`` is told how the process is.
        """
        self._condition = condition or self._condition
        self._condition.watch(*(one.unready for one in self._moving))
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self.stop)
        stall = Stall()
        stall.start()
        asked = asyncio.ensure_future(self._asked_to_stop.wait())
        tasks = [
            *(asyncio.ensure_future(each()) for each in self._background),
            *(asyncio.ensure_future(one.run()) for one in self._moving),
            asyncio.ensure_future(self._join_others()),
        ]
        try:
            await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
            failure = _failure(tasks)
            if failure is not None:
                self._condition.failed(failure)
            await self._drain(failure)
            self._condition.phase = Phase.ENDING
        finally:
            asked.cancel()
            await _cancelled(tasks)
            for close in self._close:
                await _bounded(close())
            stall.stop()
        if failure is not None:
            raise failure

    async def _join_others(self) -> None:
        """Join the rest, say when everybody has, and stay."""
        await asyncio.gather(
            *(each.start() for each in self._others), *(one.joined.wait() for one in self._moving)
        )
        self._tune()
        if self._condition.phase is Phase.STARTING:
            self._condition.phase = Phase.RUNNING
        log.info("process.ready")
        await asyncio.Event().wait()

    async def _drain(self, failure: BaseException | None) -> None:
        seconds = self._drain_seconds if failure is None else AFTER_FAILURE_SECONDS
        for each in self._let_go:
            each()
        cut = sum(await asyncio.gather(*(one.drain(seconds) for one in self._moving)))
        if cut:
            log.warning("process.calls_cut", calls=cut)
        if not await self._told(FLUSH_SECONDS):
            log.warning("process.notes_not_written")
        leaving = [one.leave() for one in self._moving if one.subscriber.is_started]
        leaving += [one.leave() for one in self._others if one.is_started]
        await asyncio.gather(*(_bounded(each) for each in leaving))
        log.info("process.drained")

    @staticmethod
    def _tune() -> None:
        """Thousands of live tasks make the default collector take a fifth of the CPU (measured)."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(400_000, 50, 1000)


def _failure(tasks: "Sequence[asyncio.Future[None]]") -> BaseException | None:
    """Why the first of them has ended; none may end by itself."""
    for task in tasks:
        if task.done():
            return task.exception() or RuntimeError("a part of the process ended by itself")
    return None


async def _bounded(leaving: Awaitable[None]) -> None:
    """Leave or close, as far as that goes: what fails here must not hide why we leave."""
    try:
        async with asyncio.timeout(LEAVE_SECONDS):
            await leaving
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("process.not_closed", error=type(error).__name__)


async def _cancelled(tasks: "Sequence[asyncio.Future[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
