"""A pool's limits, kept by all of its workers together; the provider enforces and counts."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from outlast.drill.simulator import Behaviour, Counters, Simulator
from tests.e2e.scene import Process, Scene, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.drill]

MINUTE: Final = 60.0
TO_FILL: Final = 90.0
"""Within this time a pool that has a backlog is at work; it may have to learn about its jobs."""
OF_LATE: Final = 5
"""The seconds by which it is told whether it is."""
TOLERATED: Final = 1.02
REACHED: Final = 0.95
WHILE_ONE_LEARNS: Final = 0.90
"""What a worker joins for in the middle of it is not done by it at once where requests may use far
more tokens than they do: it makes a few calls first, one after the other, to see what they use."""
WORK: Final = ("work", "--provider", "openai")


def a_body(number: int, *, most: int) -> bytes:
    """A request whose answer uses some sixty tokens with the prompt, and might use `most`."""
    messages = [{"role": "user", "content": f"job {number:05} " + 12 * "and more"}]
    return json.dumps({"model": "chat", "messages": messages, "max_tokens": most}).encode()


def enforced(*, requests: int = 0, tokens: int = 0, concurrency: int = 0) -> Behaviour:
    """A provider with these limits, that refuses whatever is more than 2 % above them.

    A call counts when it arrives, by what it will have used.
    """
    return Behaviour(
        latency_seconds=0.5,
        latency_spread_seconds=0.5,
        requests_per_minute=int(requests * TOLERATED),
        tokens_per_minute=int(tokens * TOLERATED),
        concurrency=concurrency,
    )


async def until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait for a state."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.2)


async def after(seconds: float) -> None:
    """Time has to pass: it is the unit of what is tested."""
    await asyncio.sleep(seconds)


class Pool:
    """Three workers, and what the provider has seen of them."""

    def __init__(self, world: Scene) -> None:
        self.world = world
        self.workers: list[Process] = []

    @property
    def provider(self) -> Simulator:
        return self.world.simulators["openai"]

    @property
    def counters(self) -> Counters:
        return self.provider.counters

    async def start(self, jobs: int, *, most: int = 64) -> None:
        """Begin with three workers and a backlog."""
        for arguments in (("route",), ("retry",)):
            await (await self.world.start(*arguments)).ready()
        for _ in range(3):
            await self.join()
        bodies = [a_body(number, most=most) for number in range(jobs)]
        for begin in range(0, jobs, 200):
            batch = bodies[begin : begin + 200]
            await asyncio.gather(*(self.world.publish(body=body) for body in batch))

    async def join(self) -> Process:
        worker = await (await self.world.start(*WORK)).ready()
        self.workers.append(worker)
        return worker

    async def leave(self) -> None:
        assert await self.workers.pop().stop() == 0

    async def crash(self) -> None:
        """One dies at once, and another takes its place, as a supervisor has it."""
        await self.workers.pop(0).kill()
        await self.join()

    async def is_at_work(self, per_second: float) -> None:
        """Wait until it does what it can."""

        def is_busy() -> bool:
            served = self.counters.seconds.served[-OF_LATE - 1 : -1]
            return sum(served) >= 0.9 * per_second * OF_LATE

        await until(is_busy, TO_FILL)


class Span:
    """What the provider saw from some moment on, as shares of what is allowed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._at = asyncio.get_running_loop().time()
        self._began = pool.counters

    def _share(self, amount: float, allowed: float) -> float:
        seconds = asyncio.get_running_loop().time() - self._at
        return amount / (allowed * seconds)

    def of_requests(self, per_minute: int) -> float:
        amount = self._pool.counters.started - self._began.started
        return self._share(amount, per_minute / MINUTE)

    def of_tokens(self, per_minute: int) -> float:
        amount = self._pool.counters.tokens - self._began.tokens
        return self._share(amount, per_minute / MINUTE)

    def of_permits(self, concurrency: int) -> float:
        amount = self._pool.counters.call_seconds - self._began.call_seconds
        return self._share(amount, concurrency)


async def a_minute(pool: Pool, *, grows: bool) -> Span:
    """A minute of work, in which one worker joins and one leaves, or none does."""
    span = Span(pool)
    if grows:
        await after(MINUTE / 4)
        await pool.join()
        await after(MINUTE / 4)
        await pool.leave()
        await after(MINUTE / 2)
    else:
        await after(MINUTE)
    return span


def say(**figures: float) -> None:
    """For whoever runs it with `-s`."""
    print(", ".join(f"{name} {figure:.3f}" for name, figure in figures.items()))  # noqa: T201


GROWS: Final = pytest.mark.parametrize(
    "grows", [False, True], ids=["three workers", "one joins and leaves"]
)


@GROWS
async def test_requests_a_minute_are_kept_and_used(tmp_path: Path, kafka: str, grows: bool) -> None:
    limit = 600
    behaviour, rates = enforced(requests=limit), f", requests_per_minute = {limit}"
    async with scene(tmp_path, kafka, ("openai",), behaviour=behaviour, rates=rates) as world:
        pool = Pool(world)
        await pool.start(3 * limit)
        await pool.is_at_work(limit / MINUTE)
        span = await a_minute(pool, grows=grows)
        reached, counters = span.of_requests(limit), pool.counters
    most = counters.most_arrived_per_minute / limit
    say(requests_reached=reached, most=most)

    assert counters.refused == {}
    assert most <= TOLERATED
    assert reached >= REACHED


@pytest.mark.parametrize("most", [64, 4_096], ids=["near the use", "far above the use"])
@GROWS
async def test_tokens_a_minute_are_kept_and_used(
    tmp_path: Path, kafka: str, most: int, grows: bool
) -> None:
    """However many tokens a request might use beyond those that it does use."""
    limit = 60_000
    behaviour, rates = enforced(tokens=limit), f", tokens_per_minute = {limit}"
    async with scene(tmp_path, kafka, ("openai",), behaviour=behaviour, rates=rates) as world:
        pool = Pool(world)
        await pool.start(4 * limit // 60, most=most)
        await pool.is_at_work(limit / 60 / MINUTE)
        span = await a_minute(pool, grows=grows)
        reached, counters = span.of_tokens(limit), pool.counters
    seen = counters.most_tokens_per_minute / limit
    say(tokens_reached=reached, most=seen)

    assert counters.refused == {}
    assert seen <= TOLERATED
    assert reached >= (WHILE_ONE_LEARNS if grows and most > 64 else REACHED)


async def test_calls_at_a_time_are_kept_and_used_while_workers_come_and_go(
    tmp_path: Path, kafka: str
) -> None:
    limit, behaviour = 30, enforced()
    async with scene(tmp_path, kafka, ("openai",), behaviour=behaviour, concurrency=limit) as world:
        pool = Pool(world)
        await pool.start(8_000)
        await pool.is_at_work(limit / 0.75)
        steady = Span(pool)
        await after(MINUTE / 3)
        reached = steady.of_permits(limit)
        span = await a_minute(pool, grows=True)
        grown = span.of_permits(limit)
        await pool.crash()
        await pool.is_at_work(limit / 0.75)
        again = Span(pool)
        await after(MINUTE / 3)
        returned, counters = again.of_permits(limit), pool.counters
    most = counters.max_in_flight / limit
    say(permits_reached=reached, grown=grown, returned=returned, most=most)

    assert counters.max_in_flight <= limit
    assert reached >= REACHED
    assert returned >= REACHED
    assert grown >= REACHED


async def test_all_limits_are_kept_together_and_the_tightest_is_used(
    tmp_path: Path, kafka: str
) -> None:
    requests, tokens, concurrency = 600, 60_000, 30
    behaviour = enforced(requests=requests, tokens=tokens, concurrency=concurrency)
    rates = f", requests_per_minute = {requests}, tokens_per_minute = {tokens}"
    async with scene(
        tmp_path, kafka, ("openai",), behaviour=behaviour, rates=rates, concurrency=concurrency
    ) as world:
        pool = Pool(world)
        await pool.start(4 * requests, most=4_096)
        await pool.is_at_work(requests / MINUTE)
        span = await a_minute(pool, grows=True)
        reached, counters = span.of_requests(requests), pool.counters
    say(requests_reached=reached, most=counters.most_arrived_per_minute / requests)

    assert counters.refused == {}
    assert counters.most_arrived_per_minute <= requests * TOLERATED
    assert counters.most_tokens_per_minute <= tokens
    assert counters.max_in_flight <= concurrency
    assert reached >= WHILE_ONE_LEARNS
