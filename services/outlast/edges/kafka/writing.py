"""Which jobs are being written right now: what they came to is known, so they are not cut off."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from outlast.core.lifecycle import Hop, Outgoing
from outlast.edges.kafka.outbox import Outbox

__all__ = ["Task", "Writing", "ended"]

WRITE_SECONDS: Final = 5.0
"""How long what has ended may still take to be written when the drain's time is up."""

Task = asyncio.Task[None]


class Writing:
    """The way out as the stages see it."""

    def __init__(self, outbox: Outbox) -> None:
        """Write through this one."""
        self._outbox = outbox
        self._tasks: set[asyncio.Task[object] | None] = set()

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return when all are acknowledged, in order; never gives up."""
        with self._by_this_task():
            await self._outbox.send(records)

    async def send_all(self, hops: Sequence[Hop], acked: Callable[[int], None]) -> None:
        """Return when all are acknowledged; ``acked(n)`` when the nth is."""
        with self._by_this_task():
            await self._outbox.send_all(hops, acked)

    @contextmanager
    def _by_this_task(self) -> Iterator[None]:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    def is_by(self, task: Task) -> bool:
        """Whether that task is writing."""
        return task in self._tasks


async def ended(tasks: Collection[Task], seconds: float, is_writing: Callable[[Task], bool]) -> int:
    """Let the tasks end in so many seconds; returns how many had to be cut off.

    A call that has ended is never made again, so what is being written gets its own time.
    """
    left = await _within(set(tasks), seconds)
    cut = {task for task in left if not is_writing(task)}
    _cancel(cut)
    unwritten = await _within(left - cut, WRITE_SECONDS)
    _cancel(unwritten)
    await _within(cut | unwritten, None)
    return len(cut | unwritten)


async def _within(tasks: set[Task], seconds: float | None) -> set[Task]:
    """Wait for them; returns those that did not end in time."""
    return (await asyncio.wait(tasks, timeout=seconds))[1] if tasks else set()


def _cancel(tasks: set[Task]) -> None:
    for task in tasks:
        task.cancel()
