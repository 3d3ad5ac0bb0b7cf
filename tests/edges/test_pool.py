"""A process's part of a pool: permits in turn, vitals in time, a probe when it is named."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import structlog

from outlast.core.errors import Released
from outlast.core.verdict import Verdict
from outlast.edges import pool as module
from outlast.edges.pool import ProviderPool
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals
from tests.core.given import NOW, a_job
from tests.stages.fakes import FrozenClock, Starts, a_verdict, turns

V = VerdictWord
ME = "host-0.1a2b"


class Provider:
    """A pool, what it told, and the calls that hold its permits."""

    def __init__(self, permits: int = 2) -> None:
        self.permits = permits
        self.clock = FrozenClock()
        self.told: list[Vitals] = []
        self.probes = 0
        self.calls_at_probe: list[int] = []
        self.probe_verdict = a_verdict(V.SUCCEEDED)
        self.began: list[str] = []
        self.gave_up: list[str] = []
        self.rests: list[str] = []
        self.starts = Starts(self.rests)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.pool = ProviderPool(
            provider="deepseek",
            worker=ME,
            clock=self.clock,
            share=lambda: self.permits,
            tell=self._tell,
            probe=self._probe,
            resting=self.starts.resting,
        )

    async def _tell(self, vitals: Vitals) -> None:
        self.told.append(vitals)

    async def _probe(self) -> Verdict:
        self.probes += 1
        self.calls_at_probe.append(self.pool.calls)
        return self.probe_verdict

    async def _call(self, name: str) -> None:
        try:
            async with self.pool.calling(replace(a_job(), id=name)):
                self.began.append(name)
                await asyncio.Event().wait()
        except Released:
            self.gave_up.append(name)

    async def call(self, *names: str) -> None:
        """Begin calls that last until they are ended."""
        for name in names:
            self._tasks[name] = asyncio.create_task(self._call(name))
            await turns()

    async def end(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
            await turns()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.pool.run())
        await turns()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    def fails(self, times: int = 1) -> None:
        for _ in range(times):
            self.pool.ended("job", a_verdict(V.PROVIDER_DOWN, note="503"))

    def serves(self, times: int = 1) -> None:
        for _ in range(times):
            self.pool.ended("job", a_verdict(V.SUCCEEDED))


@pytest.fixture(autouse=True)
def _no_window_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is urgent is told, so that a test need not wait to see that nothing was."""
    monkeypatch.setattr(module, "EVERY_SECONDS", 3_600.0)


@pytest.fixture(autouse=True)
async def _no_call_outlasts_its_test() -> AsyncIterator[None]:
    """A task that the collector finds pending speaks up in the middle of another test."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def test_permits_are_given_in_the_order_they_were_asked_for() -> None:
    provider = Provider(permits=2)
    await provider.call("a", "b", "c", "d", "e")
    assert provider.began == ["a", "b"]
    await provider.end("b", "a")

    assert provider.began == ["a", "b", "c", "d"]
    assert provider.pool.calls == 2


async def test_who_gives_up_waiting_neither_holds_nor_blocks_a_permit() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b", "c")
    await provider.end("b", "a")

    assert provider.began == ["a", "c"]
    await provider.end("c")
    assert provider.pool.calls == 0


async def test_a_permit_given_to_one_who_is_cut_in_that_moment_goes_to_the_next() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b", "c")
    provider._tasks["a"].cancel()
    while len(provider.pool._waiting) == 2:
        await asyncio.sleep(0)
    assert provider.began == ["a"]  # b has its permit and has not run since
    await provider.end("b")

    assert provider.began == ["a", "c"]
    assert provider.pool.calls == 1


async def test_who_waits_for_a_permit_rests_and_who_has_one_does_not() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b")
    assert (provider.began, provider.starts.resting_now) == (["a"], ["b"])
    await provider.end("a")

    assert (provider.began, provider.starts.resting_now) == (["a", "b"], [])
    assert provider.rests == ["rests", "goes on"]  # a took its permit without a rest


async def test_who_waits_is_let_go_of_when_the_process_drains_and_calls_go_on() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b", "c")
    provider.pool.let_go()
    await turns()
    assert (provider.gave_up, provider.pool.calls) == (["b", "c"], 1)
    await provider.end("a")

    assert (provider.began, provider.starts.resting_now) == (["a"], [])
    assert provider.pool.calls == 0


async def test_while_the_process_drains_nobody_begins_to_wait_and_a_free_permit_is_used() -> None:
    provider = Provider(permits=2)
    await provider.call("a")
    provider.pool.let_go()
    await provider.call("b", "c")

    assert (provider.began, provider.gave_up) == (["a", "b"], ["c"])
    assert provider.pool.calls == 2


async def test_letting_go_of_one_who_is_cut_in_that_moment_is_quiet() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b")
    provider.pool.let_go()
    await provider.end("b", "a")

    assert (provider.pool.calls, provider.starts.resting_now) == (0, [])


async def test_a_partition_that_moves_takes_who_waits_along_and_no_permit() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b")
    provider.starts.move()
    await turns()
    assert provider.gave_up == ["b"]
    await provider.end("a")

    assert provider.pool.calls == 0


async def test_a_permit_granted_in_the_moment_its_partition_moves_goes_to_the_next() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b", "c")
    others, provider.pool._resting = provider.pool._resting, Starts([]).resting
    await provider.call("d")  # of a partition that stays
    provider.pool._resting = others
    provider._tasks["a"].cancel()
    while len(provider.pool._waiting) == 3:
        await asyncio.sleep(0)
    assert provider.began == ["a"]  # b has its permit and has not run since
    provider.starts.move()
    await turns()

    assert (provider.gave_up, provider.began) == (["b", "c"], ["a", "d"])
    assert provider.pool.calls == 1


async def test_a_smaller_share_lets_calls_end_and_begins_none_above_it() -> None:
    provider = Provider(permits=3)
    await provider.call("a", "b", "c", "d")
    provider.permits = 1
    await provider.end("a", "b")
    assert provider.began == ["a", "b", "c"]
    await provider.end("c")

    assert provider.began == ["a", "b", "c", "d"]


async def test_a_larger_share_is_used_by_who_waits_already() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b", "c", "d")
    provider.permits = 3
    async with provider.running():
        assert provider.began == ["a", "b", "c"]


async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b")
    provider.permits = 2
    await provider.call("c")

    assert provider.began == ["a", "b"]


async def test_with_no_share_no_call_begins() -> None:
    provider = Provider(permits=0)
    await provider.call("a")

    assert (provider.began, provider.pool.calls) == ([], 0)


async def test_a_window_tells_what_was_seen_since_the_last() -> None:
    provider = Provider(permits=7)
    await provider.call("a", "b")
    provider.serves(3)
    provider.fails(2)
    provider.pool.ended("job", a_verdict(V.RETRY_LATER, evidence=False))
    async with provider.running():
        provider.fails(5)
        await turns()

    first, second = provider.told
    assert first == Vitals(
        provider="deepseek",
        worker=ME,
        at=NOW,
        succeeded=3,
        failures=2,
        streak=2,
        note="503",
        in_flight=2,
        limit=7,
        served=3,
        failed=2,
    )
    assert (second.succeeded, second.failures, second.streak) == (0, 5, 5)
    assert (second.served, second.failed) == (3, 7)  # since the start


async def test_five_failures_in_a_row_are_told_at_once() -> None:
    provider = Provider()
    async with provider.running():
        provider.fails(4)
        provider.serves()  # breaks the row
        provider.fails(4)
        await turns()
        assert len(provider.told) == 1
        provider.fails()
        await turns()

        assert [each.streak for each in provider.told] == [0, 5]


@pytest.mark.parametrize(
    ("others", "ago", "well"),
    [
        ([], 0, False),  # nothing known of others proves nothing
        ([True] * 10, 0, True),
        ([True] * 9 + [False], 0, False),  # one in ten is too much
        ([True] * 10 + [False], 0, True),
        ([False] * 3, 0, False),
        ([True] * 10, 30_000, True),
        ([True] * 10, 30_001, False),  # too long ago
    ],
)
async def test_it_does_well_while_few_of_the_others_failed_lately(
    others: list[bool], ago: int, well: bool
) -> None:
    provider = Provider()
    for number, served in enumerate(others):
        word = V.SUCCEEDED if served else V.PROVIDER_DOWN
        provider.pool.ended(f"other-{number}", a_verdict(word))
    provider.clock.advance(ago)
    for _ in range(50):
        provider.pool.ended("mine", a_verdict(V.PROVIDER_DOWN))  # its own do not count

    assert provider.pool.does_well("mine") is well


def named(
    prober: str | None = ME, *, at: int | None = NOW, provider: str = "deepseek", epoch: int = 1
) -> Health:
    verdict = ModelHealth(state=BreakerWord.HALF_OPEN, since=NOW, prober=prober, probe_at=at)
    return Health(provider=provider, epoch=epoch, at=NOW, models={EVERY_MODEL: verdict})


@pytest.mark.parametrize(
    ("health", "probes"),
    [
        (named(), 1),
        (named(at=NOW - 5_000), 1),  # the time it says is past: at once
        (named("host-1.3c4d"), 0),
        (named(None, at=None), 0),
        (named(provider="openai"), 0),
        (named(at=None), 0),
        (Health(provider="deepseek", epoch=1, at=NOW), 0),
    ],
)
async def test_who_is_named_probes(health: Health, probes: int) -> None:
    provider = Provider()
    provider.pool.saw(None, health)
    await turns()

    assert provider.probes == probes
    assert provider.calls_at_probe == [0] * probes  # hung calls may hold all the permits
    assert provider.pool.calls == 0


async def test_a_probe_is_made_once_for_each_time_it_is_asked_for() -> None:
    provider = Provider()
    for health in (named(), named(), named(epoch=2), named(at=NOW - 1), named(at=NOW - 1)):
        provider.pool.saw(None, health)
        await turns()

    assert provider.probes == 2


async def test_a_probe_is_told_at_once_and_only_once() -> None:
    provider = Provider()
    provider.probe_verdict = a_verdict(V.PROVIDER_DOWN)
    async with provider.running():
        provider.pool.saw(None, named())
        await turns()
        provider.fails(5)
        await turns()

    assert [each.probe for each in provider.told] == [None, "provider_down", None]


async def test_a_probe_waits_for_its_time_and_is_given_up_when_the_pool_stops() -> None:
    provider = Provider()
    provider.pool.saw(None, named(at=NOW + 3_600_000))
    await turns()
    provider.pool.stop()
    await turns()

    assert provider.probes == 0
    assert not [task for task in asyncio.all_tasks() if "_probe_once" in repr(task)]


async def test_what_only_an_operator_can_mend_is_said_once_a_minute() -> None:
    provider = Provider()
    with structlog.testing.capture_logs() as said:
        for number in range(3):
            provider.pool.ended(f"j{number}", a_verdict(V.ACCOUNT_BLOCKED))
        provider.pool.ended("j3", a_verdict(V.MISROUTED))

    assert [each["event"] for each in said] == ["work.account_blocked", "work.misrouted"]
    assert "providers.deepseek.api_key_env" in said[0]["look_at"]
