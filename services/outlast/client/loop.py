"""An event loop in a thread of its own, for callers who have none."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeVar

__all__ = ["Loop", "LoopStopped"]

T = TypeVar("T")

GRACE_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.5
"""A Ctrl-C that comes as a wait begins, or to another thread, does not end it: one must look."""


class LoopStopped(Exception):
    """It was stopped by another thread meanwhile: nothing of the work was done."""


class Loop:
    """Runs coroutines for other threads."""

    def __init__(self) -> None:
        """Start the thread; it keeps no process alive."""
        self._loop = asyncio.new_event_loop()
        self._gate = threading.Lock()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._serve, name="outlast", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of the coroutine; interrupted (Ctrl-C), it is cancelled.

        Raises ``LoopStopped``, and ``CancelledError`` when it is stopped before the end.
        """
        with self._gate:  # what is taken before the stop is ended by it; nothing is taken after
            if self._is_stopped:
                work.close()
                raise LoopStopped
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return _outcome(future)
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Let what still runs end within a second, cancel the rest, and end the thread."""
        with self._gate:
            if self._is_stopped:
                return
            self._is_stopped = True
            ending = asyncio.run_coroutine_threadsafe(_end_the_others(), self._loop)
        ending.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()


def _outcome(future: Future[T]) -> T:
    while not future.done():
        with suppress(TimeoutError):  # the work's own is raised below
            future.result(LOOK_SECONDS)
    return future.result()


async def _end_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        # Connections that are cut off while they are made would stay open.
        await asyncio.wait(others, timeout=GRACE_SECONDS)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
