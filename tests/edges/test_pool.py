"""A process's part of a pool: permits in turn, vitals in time, a probe when it is named."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest
import structlog

from outlast.core.choose import Fleet
from outlast.core.errors import Released, WatchdogTripped
from outlast.core.limits import rotated_share
from outlast.core.policy import Clocks, Limits, Permit, Target
from outlast.core.verdict import Verdict
from outlast.edges import pool as module
from outlast.edges.pool import ProviderPool, Share
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.result import Served
from outlast_schemas.vitals import Vitals, Window
from tests.core.given import CATALOGUE, NOW, a_job
from tests.stages.fakes import FrozenClock, Starts, a_verdict, turns

V = VerdictWord
ME = "host-0.1a2b"


class Part:
    """This process's part of the pool: all twelve partitions, and what the test gives."""

    partitions = 12
    owned = tuple(range(12))
    epoch = (0, 12)

    def __init__(self, provider: "Provider") -> None:
        self._provider = provider

    def __call__(self) -> int:
        return self._provider.permits

    def of_ramp(self, permits: int, turn: int) -> int:
        return rotated_share(permits, self.partitions, self.owned, turn)


class Provider:
    """A pool, what it told, and the calls that hold its permits."""

    def __init__(self, permits: int = 2, **limits: int) -> None:
        self.permits = permits
        self.clock = FrozenClock()
        self.told: list[Vitals] = []
        self.probes: list[str | None] = []
        self.calls_at_probe: list[int] = []
        self.probe_verdict = a_verdict(V.SUCCEEDED)
        self.probe_ms = 0
        self.began: list[str] = []
        self.gave_up: list[str] = []
        self.rests: list[str] = []
        self.health: dict[str, Health] = {}
        self.starts = Starts(self.rests)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._permits: dict[str, Permit] = {}
        self.pool = ProviderPool(
            provider=replace(
                CATALOGUE.providers["deepseek"],
                limits=Limits(concurrency=permits, **limits),
                clocks=Clocks(slow_seconds=10),
            ),
            worker=ME,
            clock=self.clock,
            share=cast(Share, Part(self)),
            queued=lambda: 5,
            tokens=lambda _: 100,
            fleet=lambda: Fleet(self.health),
            tell=self._tell,
            probe=self._probe,
            resting=self.starts.resting,
        )

    async def _tell(self, vitals: Vitals) -> None:
        self.told.append(vitals)

    async def _probe(self, model: str | None) -> Verdict:
        self.probes.append(model)
        self.calls_at_probe.append(self.pool.calls)
        self.clock.advance(self.probe_ms)
        return self.probe_verdict

    async def _call(self, name: str, model: str) -> None:
        target = Target("deepseek", model)
        try:
            async with self.pool.calling(replace(a_job(), id=name), target) as permit:
                self._permits[name] = permit
                self.began.append(name)
                await asyncio.Event().wait()
        except Released:
            self.gave_up.append(name)

    async def call(self, *names: str, model: str = "flash") -> None:
        """Begin calls that last until they are ended."""
        for name in names:
            self._tasks[name] = asyncio.create_task(self._call(name, model))
            await turns()

    async def end(self, *names: str, verdict: Verdict | None = None) -> None:
        for name in names:
            if verdict is not None:
                self.pool.ended(self._permits[name], name, verdict)
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
            if not task.cancelled():
                task.result()

    def ends(self, verdict: Verdict, times: int = 1, job_id: str = "job") -> None:
        """Calls that end so, beside those that hold permits."""
        for _ in range(times):
            permit = Permit("flash")
            self.pool.outcomes.began(permit, "flash")
            self.pool.ended(permit, job_id, verdict)
            self.pool.outcomes.gone(permit)

    def fails(self, times: int = 1) -> None:
        self.ends(a_verdict(V.PROVIDER_DOWN, note="503", status=503), times)

    def serves(self, times: int = 1) -> None:
        self.ends(a_verdict(V.SUCCEEDED), times)

    def found(self, state: BreakerWord, model: str = "flash", **more: Any) -> None:
        """The fleet's verdict from now on."""
        now, epoch = self.clock.now(), more.pop("epoch", 1)
        verdict = ModelHealth(state=state, since=more.pop("since", now), **more)
        before = self.health.get("deepseek")
        models = {**(before.models if before else {}), model: verdict}
        after = Health(provider="deepseek", epoch=epoch, at=now, models=models)
        self.health["deepseek"] = after
        self.pool.saw(before, after)


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
    while provider.pool._permits.waiting == 2:
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
    permits = provider.pool._permits
    others, permits._resting = permits._resting, Starts([]).resting
    await provider.call("d")  # of a partition that stays
    permits._resting = others
    provider._tasks["a"].cancel()
    while provider.pool._permits.waiting == 3:
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
    provider.ends(a_verdict(V.RETRY_LATER, evidence=False))
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
        note="it failed",
        in_flight=2,
        limit=7,
        queued=5,
        served=3,
        failed=2,
        models={"flash": Window(succeeded=3, failures=2, throttled=1, streak=2, note="it failed")},
    )
    assert (second.succeeded, second.failures, second.streak) == (0, 5, 5)
    assert (second.served, second.failed) == (3, 7)  # since the start


async def test_jobs_that_failed_over_to_here_are_told_since_the_start() -> None:
    provider = Provider()
    provider.pool.failed_over_from("openai")
    async with provider.running():
        for name in ("openai", "local"):
            provider.pool.failed_over_from(name)
        provider.fails(5)  # which is told at once
        await turns()

    first, second = provider.told
    assert first.failed_over == {"openai": 1}
    assert second.failed_over == {"openai": 2, "local": 1}


async def test_failures_that_may_be_enough_are_told_at_once() -> None:
    """Three, for connections that fail, and five."""
    provider = Provider()
    async with provider.running():
        provider.fails(2)
        provider.serves()  # breaks the row
        provider.fails(2)
        await turns()
        assert len(provider.told) == 1
        provider.fails()
        await turns()
        provider.fails()
        await turns()
        provider.fails()
        await turns()

    assert [each.streak for each in provider.told] == [0, 3, 2]


@pytest.mark.parametrize("word", [V.ACCOUNT_BLOCKED, V.MISROUTED])
async def test_two_jobs_that_only_an_operator_can_help_are_told_at_once(word: V) -> None:
    provider = Provider()
    async with provider.running():
        provider.ends(a_verdict(word, evidence=False))
        await turns()
        assert len(provider.told) == 1
        provider.ends(a_verdict(word, evidence=False), job_id="other")
        await turns()

    window = provider.told[1].models["flash"]
    assert (window.blocked, window.misrouted) in ((2, 0), (0, 2))


async def test_a_row_after_many_successes_is_looked_at_again_as_it_grows() -> None:
    """Five are an accident among fifteen that were just served, twenty are not."""
    provider = Provider()
    async with provider.running():
        provider.serves(15)
        for _ in range(20):
            assert provider.pool.is_up(["flash"])
            provider.fails()
            await turns()

        assert not provider.pool.is_up(["flash"])


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
        provider.ends(a_verdict(word), job_id=f"other-{number}")
    provider.clock.advance(ago)
    for _ in range(50):
        provider.ends(a_verdict(V.PROVIDER_DOWN), job_id="mine")  # its own do not count

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

    assert len(provider.probes) == probes
    assert provider.calls_at_probe == [0] * probes  # hung calls may hold all the permits
    assert provider.pool.calls == 0


async def test_a_probe_is_made_once_for_each_time_it_is_asked_for() -> None:
    provider = Provider()
    for health in (named(), named(), named(epoch=2), named(at=NOW - 1), named(at=NOW - 1)):
        provider.pool.saw(None, health)
        await turns()

    assert len(provider.probes) == 2


async def test_a_probe_is_told_at_once_and_only_once() -> None:
    provider = Provider()
    provider.probe_verdict = a_verdict(V.PROVIDER_DOWN)
    async with provider.running():
        provider.pool.saw(None, named())
        await turns()
        provider.fails(5)
        await turns()

    assert [each.probe for each in provider.told] == [None, "provider_down", None]


@pytest.mark.parametrize(
    ("model", "ms", "word"),
    [
        ("flash", 9_999, "succeeded"),
        ("flash", 10_000, "provider_down"),  # as slow as the calls that make it count as down
        (EVERY_MODEL, 10_000, "succeeded"),  # somebody is there
    ],
)
async def test_a_probe_that_took_too_long_has_not_succeeded(model: str, ms: int, word: str) -> None:
    provider = Provider()
    provider.probe_ms = ms
    async with provider.running():
        provider.found(BreakerWord.HALF_OPEN, model, prober=ME, probe_at=NOW)
        await turns()

    assert [each.probe for each in provider.told] == [None, word]


async def test_a_probe_waits_for_its_time_and_is_given_up_when_the_pool_stops() -> None:
    provider = Provider()
    provider.pool.saw(None, named(at=NOW + 3_600_000))
    await turns()
    provider.pool.stop()
    await turns()

    assert provider.probes == []
    assert not [task for task in asyncio.all_tasks() if "_probe_once" in repr(task)]


async def test_what_only_an_operator_can_mend_is_said_once_a_minute() -> None:
    provider = Provider()
    with structlog.testing.capture_logs() as said:
        for number in range(3):
            provider.ends(a_verdict(V.ACCOUNT_BLOCKED), job_id=f"j{number}")
        provider.ends(a_verdict(V.MISROUTED), job_id="j3")

    assert [each["event"] for each in said] == ["work.account_blocked", "work.misrouted"]
    assert "providers.deepseek.api_key_env" in said[0]["look_at"]


async def test_a_ramp_bounds_the_calls_of_its_model_alone() -> None:
    provider = Provider(permits=20)
    provider.found(BreakerWord.RAMP, permits=12)
    await provider.call(*(f"a{number}" for number in range(14)))
    await provider.call("b", model="pro")
    assert len(provider.began) == 13
    provider.found(BreakerWord.RAMP, permits=13, since=NOW)
    await turns()

    assert len(provider.began) == 14
    provider.found(BreakerWord.CLOSED)
    await turns()
    assert len(provider.began) == 15


async def test_calls_from_before_the_ramp_do_not_take_its_permits() -> None:
    provider = Provider(permits=20)
    await provider.call("old-1", "old-2")
    provider.found(BreakerWord.RAMP, permits=12)
    await provider.call(*(f"new-{number}" for number in range(13)))

    assert len(provider.began) == 2 + 12


async def test_what_began_before_the_verdict_is_no_evidence() -> None:
    provider = Provider(permits=20)
    await provider.call("old")
    provider.clock.advance(1_000)
    provider.found(BreakerWord.RAMP, permits=12)
    await provider.call("new")
    failed = a_verdict(V.AMBIGUOUS)
    await provider.end("old", "new", verdict=failed)
    async with provider.running():
        pass

    [told] = provider.told
    assert (told.failures, told.failed) == (1, 2)


async def test_who_waits_for_a_model_that_is_found_down_looks_again_at_once() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b")
    await provider.call("c", model="pro")
    provider.found(BreakerWord.OPEN)
    await turns()

    assert provider.began == ["a", "b"]


async def test_a_wish_to_be_left_alone_is_kept_by_all() -> None:
    provider = Provider(permits=3)
    wish = a_verdict(V.RETRY_LATER, evidence=False, retry_after=2.0)
    await provider.call("a")
    await provider.end("a", verdict=wish)
    await provider.call("b")
    async with provider.running():
        pass
    assert (provider.began, provider.told[0].paused_until) == (["a"], NOW + 2_000)
    provider.clock.advance(2_000)
    provider.pool.grant()
    await turns()
    assert provider.began == ["a", "b"]

    told = Health(provider="deepseek", epoch=1, at=NOW, paused_until=NOW + 9_000)
    provider.health["deepseek"] = told
    await provider.call("c")
    assert provider.began == ["a", "b"]


REFUSED = a_verdict(V.RETRY_LATER, evidence=False)
"""A 429 that names no time."""


async def test_a_refusal_that_names_no_time_stops_this_process_and_is_told_to_nobody() -> None:
    provider = Provider(permits=3)
    await provider.call("a")
    await provider.end("a", verdict=REFUSED)
    await provider.call("b", "c")
    async with provider.running():
        pass
    assert (provider.began, provider.told[0].paused_until) == (["a"], None)

    provider.clock.advance(500)
    provider.pool.grant()
    await turns()
    assert provider.began == ["a", "b"]  # one goes first
    await provider.end("b", verdict=a_verdict(V.SUCCEEDED))
    assert provider.began == ["a", "b", "c"]


async def test_of_many_calls_under_way_that_are_refused_only_the_first_counts() -> None:
    provider = Provider(permits=9)
    names = [f"c{number}" for number in range(9)]
    await provider.call(*names)
    await provider.end(*names, verdict=REFUSED)
    provider.clock.advance(500)
    await provider.call("next")

    assert provider.began == [*names, "next"]


async def test_who_goes_first_and_is_refused_makes_all_wait_twice_as_long() -> None:
    provider = Provider(permits=3)
    await provider.call("a")
    await provider.end("a", verdict=REFUSED)
    provider.clock.advance(500)
    await provider.call("b", "c")
    await provider.end("b", verdict=REFUSED)
    provider.clock.advance(999)
    provider.pool.grant()
    await turns()
    assert provider.began == ["a", "b"]
    provider.clock.advance(1)
    provider.pool.grant()
    await turns()

    assert provider.began == ["a", "b", "c"]


async def test_a_failure_of_the_first_lets_nobody_follow_until_it_is_sure_to_be_no_refusal() -> (
    None
):
    provider = Provider(permits=3)
    await provider.call("a")
    await provider.end("a", verdict=REFUSED)
    provider.clock.advance(500)
    await provider.call("b", "c")
    await provider.end("b", verdict=a_verdict(V.PROVIDER_DOWN))
    assert provider.began == ["a", "b"]
    provider.clock.advance(2_000)
    provider.pool.grant()
    await turns()

    assert provider.began == ["a", "b", "c"]


async def test_after_a_pause_that_another_process_was_told_of_one_goes_first() -> None:
    provider = Provider(permits=3)
    told = Health(provider="deepseek", epoch=1, at=NOW, paused_until=NOW + 9_000)
    provider.health["deepseek"] = told
    await provider.call("a", "b", "c")
    provider.clock.advance(9_000)
    provider.pool.grant()
    await turns()

    assert provider.began == ["a"]


async def test_a_pause_ends_in_time_by_itself() -> None:
    provider = Provider(permits=3)
    await provider.call("a")
    await provider.end("a", verdict=REFUSED)
    provider.clock.advance(480)
    await provider.call("b")
    provider.clock.advance(20)
    async with asyncio.timeout(5):
        while provider.began != ["a", "b"]:
            await asyncio.sleep(0.01)


async def test_while_it_stands_still_no_backlog_is_fetched() -> None:
    provider = Provider(permits=500)
    await provider.call("a", "b")
    assert provider.pool.room == 500
    await provider.end("a", verdict=REFUSED)

    assert provider.pool.room == 2  # b, and who goes first


async def test_what_rejects_five_different_jobs_alike_is_suspect_until_it_serves_one() -> None:
    provider, flash = Provider(), Target("deepseek", "flash")
    rejected = a_verdict(V.JOB_REJECTED, evidence=False, words="http # no")
    for number in range(4):
        provider.ends(rejected, job_id=f"j{number}")
    provider.ends(rejected, job_id="j3")  # again
    assert not provider.pool.is_suspect(flash, rejected)
    provider.ends(rejected, job_id="j4")
    assert provider.pool.is_suspect(flash, rejected)
    assert not provider.pool.is_suspect(flash, a_verdict(V.JOB_REJECTED))
    provider.serves()

    assert not provider.pool.is_suspect(flash, rejected)


async def test_what_is_served_here_and_was_rejected_elsewhere_is_told_at_once_and_once() -> None:
    provider = Provider()
    async with provider.running():
        provider.pool.refuted(Target("openai", "luna"), "HTTP 400: no")
        await turns()
        provider.fails(5)
        await turns()

    against = [each for each in provider.told if each.provider == "openai"]
    note = "deepseek served what it rejected: HTTP 400: no"
    assert [(each.worker, each.limit) for each in against] == [(f"{ME}/deepseek", 0)]
    assert against[0].models == {"luna": Window(misrouted=1, note=note)}


async def test_requests_a_minute_are_kept_and_what_was_not_called_comes_back() -> None:
    provider = Provider(permits=50, requests_per_minute=12)
    await provider.call("a")  # from an empty bucket
    provider.clock.advance(60_000)
    provider.pool.grant()
    await turns()
    assert provider.began == ["a"]
    await provider.call("b")
    assert provider.began == ["a"]
    await provider.end("a")  # nothing was called

    assert provider.began == ["a", "b"]


async def test_tokens_that_an_answer_did_not_use_come_back() -> None:
    provider = Provider(permits=50, tokens_per_minute=12_000)
    await provider.call("a")  # from an empty bucket
    provider.clock.advance(60_000)
    provider.pool.grant()
    await turns()
    provider.clock.advance(60_000)
    await provider.call("b", "c")
    assert provider.began == ["a", "b"]
    served = Served(
        body=b"{}", provider="deepseek", model="flash", prompt_tokens=3, completion_tokens=2
    )
    await provider.end("a", verdict=a_verdict(V.SUCCEEDED, served=served))

    assert provider.began == ["a", "b", "c"]


async def test_a_call_that_takes_long_counts_as_slow_once() -> None:
    provider = Provider()
    await provider.call("a")
    provider.clock.advance(10_001)
    async with provider.running():
        await provider.end("a", verdict=a_verdict(V.SUCCEEDED))
        provider.fails(3)
        await turns()

    overdue, ended = (each.models["flash"] for each in provider.told)
    assert (overdue.overdue, ended.slow, ended.succeeded) == (1, 0, 1)


async def test_the_own_evidence_trips_at_once_until_the_fleet_has_spoken() -> None:
    provider = Provider()
    flash = Target("deepseek", "flash")
    async with provider.running():
        provider.fails(5)
        await turns()
        assert not provider.pool.fleet().is_up(flash, NOW)
        assert provider.pool.fleet().is_up(Target("deepseek", "pro"), NOW)
        provider.found(BreakerWord.OPEN)
        assert not provider.pool.fleet().is_up(flash, NOW)
        provider.found(BreakerWord.CLOSED)

        assert provider.pool.fleet().is_up(flash, NOW)


async def test_what_has_tripped_is_told_again_until_the_fleet_has_spoken() -> None:
    """It calls nobody meanwhile: an owner that comes later hears of it in no other way."""
    provider = Provider()

    async def next_window() -> None:
        provider.pool._urgent.set()
        await turns()

    async with provider.running():
        provider.fails(5)
        await turns()
        await next_window()
        await next_window()
        provider.found(BreakerWord.OPEN)
        await next_window()

    why = {"flash": "5 failures in a row; the last: 503"}
    assert [each.tripped for each in provider.told] == [{}, why, why, why, {}]
    assert [len(each.models) for each in provider.told] == [0, 1, 0, 0, 0]


async def test_who_is_alone_with_its_trouble_for_ten_seconds_ends() -> None:
    provider = Provider()
    with pytest.raises(WatchdogTripped, match="deepseek/flash fail here"):
        async with provider.running():
            provider.fails(5)
            await turns()
            provider.clock.advance(10_000)
            provider.found(BreakerWord.CLOSED, since=0)


async def test_a_new_owner_of_the_verdict_is_given_ten_seconds_to_hear_of_it() -> None:
    """It begins with the last one's: that it finds the provider well says nothing yet."""
    provider = Provider()
    with pytest.raises(WatchdogTripped):
        async with provider.running():
            provider.fails(5)
            await turns()
            provider.clock.advance(15_000)
            provider.found(BreakerWord.CLOSED, since=0, epoch=provider.clock.now())
            provider.clock.advance(9_999)
            provider.found(BreakerWord.CLOSED, since=0, epoch=provider.clock.now() - 9_999)
            assert not provider.pool.is_up(["flash"])
            provider.clock.advance(1)
            provider.pool._urgent.set()
            await turns()


@pytest.mark.parametrize("age", [None, 9_000])
async def test_without_a_verdict_that_can_know_of_it_it_tries_again(age: int | None) -> None:
    provider = Provider()
    if age is not None:
        provider.found(BreakerWord.CLOSED, since=0)  # from before the trouble
    async with provider.running():
        provider.fails(5)
        await turns()
        provider.clock.advance(10_000)
        provider.serves(1)
        provider.pool._urgent.set()
        await turns()

        assert provider.pool.fleet().is_up(Target("deepseek", "flash"), provider.clock.now())


async def test_a_stale_verdict_takes_over_nothing() -> None:
    """Its owner is dead: then every worker is on its own, and must not hammer the provider."""
    provider = Provider()
    provider.found(BreakerWord.OPEN)
    provider.clock.advance(30_001)
    assert provider.pool.is_up(["flash"])
    async with provider.running():
        provider.fails(5)
        await turns()

        assert not provider.pool.is_up(["flash"])


async def test_a_suspect_is_given_ten_seconds_and_no_less() -> None:
    provider = Provider()
    async with provider.running():
        provider.fails(5)
        await turns()
        provider.clock.advance(9_999)
        provider.found(BreakerWord.CLOSED, since=0)

        assert not provider.pool.is_up(["flash"])


async def test_after_a_trip_that_nobody_judged_it_counts_from_nothing() -> None:
    provider = Provider()
    async with provider.running():
        provider.fails(5)
        await turns()
        provider.clock.advance(10_000)
        provider.pool._urgent.set()
        await turns()
        provider.fails(4)
        provider.pool._urgent.set()
        await turns()
        assert provider.pool.is_up(["flash"])
        provider.fails(1)
        await turns()

        assert not provider.pool.is_up(["flash"])


async def test_while_a_model_ramps_its_fate_is_the_fleets() -> None:
    provider = Provider()
    provider.found(BreakerWord.RAMP, permits=1)
    async with provider.running():
        provider.fails(5)
        await turns()

        assert provider.pool.is_up(["flash"])


async def test_who_gets_nothing_of_a_limit_that_all_share_neither_trips_nor_leaves() -> None:
    provider = Provider()
    async with provider.running():
        for _ in range(90):
            provider.ends(a_verdict(V.RETRY_LATER, evidence=False))
            provider.pool._urgent.set()
            await turns()
            provider.clock.advance(1_000)
            provider.found(BreakerWord.CLOSED, since=0)

        assert provider.pool.is_up(["flash"])
    assert sum(each.models["flash"].throttled for each in provider.told if each.models) == 90


async def test_connections_that_fail_trip_all_models() -> None:
    provider = Provider()
    async with provider.running():
        provider.ends(a_verdict(V.PROVIDER_DOWN), 3)
        await turns()

        assert not provider.pool.is_up(["flash"])
        assert not provider.pool.is_up(["pro"])
        assert not provider.pool.is_up([])


async def test_connections_that_fail_beside_a_model_that_answers_trip_nothing() -> None:
    provider = Provider(permits=9)
    await provider.call("a", "b", "c", model="pro")
    await provider.end("a", "b", "c", verdict=a_verdict(V.SUCCEEDED))
    provider.ends(a_verdict(V.PROVIDER_DOWN), 3)
    async with provider.running():
        assert provider.pool.is_up(["flash"])
        assert provider.pool.is_up(["pro"])


async def test_what_trips_wakes_who_waits_for_it() -> None:
    provider = Provider(permits=1)
    await provider.call("a", "b")
    async with provider.running():
        provider.fails(5)
        await turns()

        assert provider.began == ["a", "b"]
        assert provider._permits["b"].used == 0  # to look again, and not to call
    await provider.end("a", "b")
    assert provider.pool.calls == 0


async def test_late_failures_are_no_evidence_however_many() -> None:
    provider = Provider(permits=9)
    names = [f"old-{number}" for number in range(9)]
    await provider.call(*names)
    provider.clock.advance(10)
    provider.found(BreakerWord.CLOSED)
    async with provider.running():
        await provider.end(*names, verdict=a_verdict(V.AMBIGUOUS))

        assert len(provider.told) == 1
        assert provider.pool.is_up(["flash"])
    assert provider.pool._vitals().models == {}


async def test_calls_from_before_the_ramp_that_become_overdue_are_no_evidence() -> None:
    provider = Provider(permits=9)
    await provider.call("old")
    provider.clock.advance(10)
    provider.found(BreakerWord.RAMP, permits=12)
    await provider.call("new")
    provider.clock.advance(9_990)
    assert provider.pool._vitals().models == {}
    provider.clock.advance(10)

    assert provider.pool._vitals().models == {"flash": Window(overdue=1)}
    assert provider.pool._vitals().models == {}  # once


async def test_calls_of_an_earlier_ramp_do_not_count_in_the_next() -> None:
    provider = Provider(permits=30)
    first, second = ([f"{name}{number}" for number in range(12)] for name in "ab")
    provider.found(BreakerWord.RAMP, permits=12)
    await provider.call(*first, *second)
    assert provider.began == first
    provider.clock.advance(10)
    provider.found(BreakerWord.RAMP, permits=12)
    await turns()
    assert provider.began == [*first, *second]
    await provider.end(*first, *second)

    assert provider.pool.calls == 0
    assert provider.pool._permits._ramping == {}


async def test_a_ramp_gives_no_more_than_the_share() -> None:
    provider = Provider(permits=2)
    provider.found(BreakerWord.RAMP, permits=64)
    await provider.call("a", "b", "c")

    assert provider.began == ["a", "b"]


async def test_one_of_each_model_is_let_through_in_turn() -> None:
    provider = Provider(permits=1)
    await provider.call("a")
    await provider.call("f1", "f2", "f3")
    await provider.call("p1", "p2", model="pro")
    provider.permits = 3
    provider.pool.grant()
    await turns()

    assert provider.began == ["a", "f1", "p1"]


async def test_a_shorter_wish_does_not_end_a_longer_one() -> None:
    provider = Provider()
    for seconds in (9.0, 2.0, None):
        provider.ends(a_verdict(V.RETRY_LATER, evidence=False, retry_after=seconds))

    assert provider.pool.paused_until == NOW + 9_000


async def test_a_wish_to_be_left_alone_is_told_at_once() -> None:
    provider = Provider()
    async with provider.running():
        provider.ends(a_verdict(V.RETRY_LATER, evidence=False, retry_after=7.5))
        await turns()

        assert [each.paused_until for each in provider.told] == [None, NOW + 7_500]


async def test_with_rates_no_more_jobs_are_fetched_than_can_soon_be_called() -> None:
    free, bounded = Provider(permits=500), Provider(permits=500, requests_per_minute=600)

    assert (free.pool.room, bounded.pool.room) == (500, 30)  # three seconds' worth


@pytest.mark.parametrize(
    ("word", "more", "expected"),
    [
        (V.SUCCEEDED, {}, Window(succeeded=1)),
        (V.PROVIDER_DOWN, {"status": 503}, Window(failures=1, streak=1)),
        (V.PROVIDER_DOWN, {}, Window(failures=1, unreached=1, streak=1)),
        (V.AMBIGUOUS, {}, Window(failures=1, streak=1)),
        (V.AMBIGUOUS, {"evidence": False}, Window(answered=1)),  # cut by its own deadline
        (V.RETRY_LATER, {"evidence": False}, Window(throttled=1)),
        (V.ACCOUNT_BLOCKED, {"evidence": False}, Window(blocked=1)),
        (V.MISROUTED, {"evidence": False}, Window(misrouted=1)),
        (V.JOB_REJECTED, {"evidence": False}, Window(answered=1)),
        (V.CONTENT_POLICY, {"evidence": False}, Window(answered=1)),
    ],
)
async def test_a_call_is_counted_by_what_it_says_of_the_provider(
    word: V, more: dict[str, Any], expected: Window
) -> None:
    provider = Provider()
    provider.ends(a_verdict(word, **more))

    assert replace(provider.pool._vitals().models["flash"], note=None) == expected


async def test_a_window_adds_up_how_long_calls_took() -> None:
    provider = Provider(permits=3)
    await provider.call("a", "b")
    provider.clock.advance(300)
    await provider.end("a", verdict=a_verdict(V.SUCCEEDED, first_ms=100))
    provider.clock.advance(700)
    await provider.end("b", verdict=a_verdict(V.PROVIDER_DOWN))
    found = provider.pool._vitals().models["flash"]

    assert (found.ms, found.first_ms, found.slowest_ms) == (1_300, 1_100, 1_000)


async def test_a_probe_is_of_the_model_that_the_verdict_is_on() -> None:
    provider = Provider()
    async with provider.running():
        provider.found(BreakerWord.HALF_OPEN, prober=ME, probe_at=NOW)
        await turns()

    assert provider.probes == ["flash"]
    assert [(each.probe, each.probe_of) for each in provider.told] == [
        (None, None),
        ("succeeded", "flash"),
    ]


async def test_what_a_probe_raises_is_raised() -> None:
    provider = Provider()

    async def broken(model: str | None) -> Verdict:
        raise RuntimeError(f"a bug with {model}")

    provider.pool._probing._probe = broken
    provider.found(BreakerWord.HALF_OPEN, prober=ME, probe_at=NOW)
    await turns()

    with pytest.raises(RuntimeError, match="a bug with flash"):
        await provider.pool.run()


async def test_calls_under_way_that_succeed_end_a_trip() -> None:
    provider = Provider(permits=9)
    await provider.call("a")
    async with provider.running():
        provider.fails(5)
        await turns()
        assert not provider.pool.fleet().is_up(Target("deepseek", "flash"), NOW)
        await provider.end("a", verdict=a_verdict(V.SUCCEEDED))
        provider.pool._urgent.set()
        await turns()

        assert provider.pool.fleet().is_up(Target("deepseek", "flash"), NOW)
