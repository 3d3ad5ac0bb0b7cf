"""The event loop in a thread: what it runs for others, and that nobody is left waiting for it."""

import asyncio
import signal
import sys
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress

import pytest

from outlast.client import loop as module
from outlast.client.loop import Loop, LoopStopped


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def for_ever(begun: threading.Event, ended: list[str]) -> None:
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


def threads() -> int:
    return sum(thread.name == "outlast" for thread in threading.enumerate())


def test_the_outcome_comes_back_and_so_does_an_error() -> None:
    async def fail() -> None:
        raise KeyError("x")

    loop = Loop()
    assert loop.run(answer(5)) == 5
    with pytest.raises(KeyError, match="x"):
        loop.run(fail())
    loop.stop()
    assert threads() == 0


def test_many_threads_are_served_at_the_same_time() -> None:
    loop, here = Loop(), list[int]()

    async def meet() -> None:
        here.append(1)
        async with asyncio.timeout(10):
            while len(here) < 8:
                await asyncio.sleep(0.001)

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(loop.run, meet()) for _ in range(8)]:
            each.result()
    loop.stop()


def test_stopping_lets_short_work_end_and_cancels_what_would_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.2)
    loop, begun, ended = Loop(), threading.Event(), list[str]()

    async def short() -> str:
        begun.set()
        await asyncio.sleep(0.05)
        return "whole"

    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(loop.run, short())
        assert begun.wait(10)
        begun.clear()
        cut = pool.submit(loop.run, for_ever(begun, ended))
        assert begun.wait(10)
        loop.stop()

        assert whole.result(10) == "whole"
        with pytest.raises(CancelledError):
            cut.result(10)
    assert ended == ["ended"]
    assert threads() == 0


def test_after_the_stop_nothing_is_taken_and_nobody_waits() -> None:
    loop = Loop()
    loop.stop()
    loop.stop()

    with pytest.raises(LoopStopped):
        loop.run(answer(1))


def test_whoever_comes_while_it_stops_is_answered_or_turned_away() -> None:
    for _ in range(20):
        loop, told = Loop(), list[int]()

        def use(loop: Loop = loop, told: list[int] = told) -> None:
            with suppress(LoopStopped, CancelledError):
                while True:
                    told.append(loop.run(answer(1)))

        with ThreadPoolExecutor(4) as pool:
            uses = [pool.submit(use) for _ in range(4)]
            while not told:
                pass
            loop.stop()
            for each in uses:
                each.result(10)
    assert threads() == 0


def test_an_interrupted_caller_cancels_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, begun, ended = Loop(), threading.Event(), list[str]()

    class Interrupted:
        """A future whose waiter gets Ctrl-C."""

        def __init__(self, future: Future[None]) -> None:
            self.future = future

        def done(self) -> bool:
            return False

        def result(self, timeout: float) -> None:
            assert begun.wait(10)
            raise KeyboardInterrupt

        def cancel(self) -> None:
            self.future.cancel()

    real = asyncio.run_coroutine_threadsafe
    monkeypatch.setattr(
        asyncio, "run_coroutine_threadsafe", lambda *given: Interrupted(real(*given))
    )
    with pytest.raises(KeyboardInterrupt):
        loop.run(for_ever(begun, ended))
    monkeypatch.undo()

    loop.stop()
    assert ended == ["ended"]


def test_a_ctrl_c_that_does_not_wake_the_waiting_thread_is_heard_all_the_same() -> None:
    """As one that comes just before the wait: Python knows of it, and the lock waits on."""
    ended: list[str] = []

    def waits() -> bool:
        return sys._current_frames()[threading.main_thread().ident or 0].f_code.co_name == "wait"

    async def interrupted() -> None:
        while not waits():
            await asyncio.sleep(0.001)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # to this thread, not the other
        await asyncio.sleep(20)
        ended.append("by itself")

    loop = Loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run(interrupted())
    loop.stop()

    assert ended == []
