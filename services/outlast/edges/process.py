"""A process's life: start what was wired, run until a signal or a failure, drain, stop."""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from outlast.edges.kafka import private
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.feed import Feed
from outlast.edges.kafka.subscribers import Subscriber
from outlast.edges.kafka.watchdog import Watchdog

__all__ = ["Moving", "Process"]

log = structlog.get_logger()

FLUSH_SECONDS: Final = 5.0
AFTER_FAILURE_SECONDS: Final = 5.0
"""How long calls in flight may still end when the process has to leave because of a failure."""


@dataclass(frozen=True, slots=True)
class Moving:
    """One feed with its partitions and its consumer."""

    feed: Feed
    assignment: Assignment
    subscriber: Subscriber

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What runs for it side by side."""
        return [
            self.feed.run(),
            self.assignment.commits.run(),
            Watchdog(self.assignment).run(),
        ]

    async def leave(self) -> None:
        """Commit what is done, leave the group so that its partitions move at once."""
        if not await self.assignment.commits.flush(FLUSH_SECONDS):
            log.warning("feed.not_flushed", feed=self.feed.name)
        self.assignment.commits.closed()
        private.forget_instance(self.subscriber.consumer)
        await self.subscriber.stop()


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
        drain_seconds: float,
    ) -> None:
        """Wire a process.

        Args:
            moving: the feeds.
            others: subscribers with a handler of their own.
            background: what runs beside the feeds, to the very end.
            let_go: told first when draining, so that nothing waits for a time that is not waited.
            close: connections, closed last, in this order.
            drain_seconds: how long calls in flight may still take.
        """
        self._moving = moving
        self._others = others
        self._background = background
        self._let_go = let_go
        self._close = close
        self._drain_seconds = drain_seconds
        self._asked_to_stop = asyncio.Event()

    def stop(self) -> None:
        """Drain and end; asked a second time, leave at once."""
        if self._asked_to_stop.is_set():
            os._exit(1)
        log.info("process.draining", seconds=self._drain_seconds)
        self._asked_to_stop.set()

    async def run(self) -> None:
        """Run until asked to stop. Raises what made going on pointless, after draining."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self.stop)
        tasks: list[asyncio.Future[None]] = [
            asyncio.ensure_future(each()) for each in self._background
        ]
        failure: BaseException | None = None
        try:
            failure = await self._started(tasks)
            if failure is None and not self._asked_to_stop.is_set():
                self._tune()
                log.info("process.ready")
                failure = await self._until_done(tasks)
            await self._drain(failure)
        finally:
            await _cancelled(tasks)
            for close in self._close:
                await close()
        if failure is not None:
            raise failure

    async def _started(self, tasks: "list[asyncio.Future[None]]") -> BaseException | None:
        """Join all groups side by side; give up on a failure or when asked to stop."""
        subscribers = [*(each.subscriber for each in self._moving), *self._others]
        joining = asyncio.gather(*(each.start() for each in subscribers))
        failure = await self._until_done([joining, *tasks], first=joining)
        if not joining.done():
            joining.cancel()
            await asyncio.gather(joining, return_exceptions=True)
        elif failure is None:
            tasks += [asyncio.ensure_future(each) for one in self._moving for each in one.tasks()]
        return failure

    async def _until_done(
        self, tasks: "Sequence[asyncio.Future[Any]]", first: "asyncio.Future[Any] | None" = None
    ) -> BaseException | None:
        """Until asked to stop, or ``first`` has ended, or any of them failed."""
        asked = asyncio.ensure_future(self._asked_to_stop.wait())
        try:
            done, _ = await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        for task in done:
            if task is not asked and task is not first and not task.cancelled():
                return task.exception() or RuntimeError("a part of the process ended by itself")
        return first.exception() if first is not None and first in done else None

    async def _drain(self, failure: BaseException | None) -> None:
        seconds = self._drain_seconds if failure is None else AFTER_FAILURE_SECONDS
        for each in self._let_go:
            each()
        cut = sum(await asyncio.gather(*(one.feed.drain(seconds) for one in self._moving)))
        if cut:
            log.warning("process.calls_cut", calls=cut)
        started = [one for one in self._moving if one.subscriber.is_started]
        await asyncio.gather(*(one.leave() for one in started))
        await asyncio.gather(*(one.stop() for one in self._others if one.is_started))
        log.info("process.drained")

    @staticmethod
    def _tune() -> None:
        """Thousands of live tasks make the default collector take a fifth of the CPU (measured)."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 1000)


async def _cancelled(tasks: "Sequence[asyncio.Future[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
