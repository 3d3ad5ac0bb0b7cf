"""Health: what many workers saw becomes one verdict, written at every change and again by time."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from outlast.health import VerdictOwner
from outlast.ports import HealthPorts
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals, Window
from tests.core.given import NOW
from tests.stages.fakes import FrozenClock, turns


class Fleet:
    """The health topic, the workers that report, and the one that owns the verdicts."""

    def __init__(self, *known: Health) -> None:
        self.clock = FrozenClock()
        self.published: list[Health] = []
        self.owned = {"deepseek", "openai"}
        self._known = {each.provider: each for each in known}
        ports = HealthPorts(clock=self.clock, verdicts=self, known=self._known.get)
        self.owner = VerdictOwner(ports, self.owned.__contains__)

    async def publish(self, health: Health) -> None:
        self.published.append(health)

    async def saw(
        self,
        worker: str,
        provider: str = "deepseek",
        *,
        limit: int = 4,
        probe: str | None = None,
        probe_of: str | None = "flash",
        paused_until: int | None = None,
        **window: Any,
    ) -> None:
        vitals = Vitals(
            provider=provider,
            worker=worker,
            at=self.clock.now(),
            limit=limit,
            probe=probe,
            probe_of=probe_of if probe is not None else None,
            paused_until=paused_until,
            models={"flash": Window(**window)} if window else {},
        )
        await self.owner.saw(vitals)

    @property
    def states(self) -> list[str]:
        return [_of_flash(each).state.value for each in self.published]

    @property
    def latest(self) -> ModelHealth:
        return _of_flash(self.published[-1])


def _of_flash(health: Health) -> ModelHealth:
    return health.models.get("flash", health.models[EVERY_MODEL])


def known(state: BreakerWord, **more: Any) -> Health:
    well = ModelHealth(state=BreakerWord.CLOSED, since=0)
    verdict = ModelHealth(state=state, since=NOW - 9_000, **more)
    models = {EVERY_MODEL: well, "flash": verdict}
    return Health(provider="deepseek", epoch=7, at=NOW, models=models)


async def opened() -> Fleet:
    """A fleet of two workers that has just seen deepseek fail five times."""
    fleet = Fleet()
    await fleet.saw("a", failures=3, streak=3)
    await fleet.saw("b", failures=2, streak=2, note="503")
    return fleet


async def test_failures_of_two_workers_together_open_it() -> None:
    fleet = await opened()

    assert fleet.states == ["closed", "open"]
    assert fleet.latest.evidence == "5 failures in a row; the last: 503"
    assert fleet.latest.since == NOW


async def test_a_success_in_between_keeps_it_closed() -> None:
    fleet = Fleet()
    await fleet.saw("a", failures=3, streak=3)
    await fleet.saw("b", succeeded=1)
    await fleet.saw("a", failures=4, streak=4)

    assert set(fleet.states) == {"closed"}


async def test_each_provider_is_judged_by_its_own_calls() -> None:
    fleet = Fleet()
    await fleet.saw("a", "openai", failures=4, streak=4)
    await fleet.saw("a", "deepseek", failures=4, streak=4)

    assert [(each.provider, *each.models) for each in fleet.published] == [
        ("openai", EVERY_MODEL),
        ("deepseek", EVERY_MODEL),
    ]
    assert set(fleet.states) == {"closed"}


async def test_what_is_heard_at_once_is_folded_in_its_order_and_told_once() -> None:
    """Whoever is busy would fall behind with an acknowledgement after each."""
    fleet = Fleet()
    rows = [Window(failures=3, streak=3), Window(succeeded=1), Window(failures=5, streak=5)]
    await fleet.owner.saw(
        *(
            Vitals(provider=name, worker="a", at=NOW, limit=4, models={"flash": row})
            for row in rows
            for name in ("deepseek", "openai")
        )
    )

    assert [(each.provider, _of_flash(each).state.value) for each in fleet.published] == [
        ("deepseek", "open"),
        ("openai", "open"),
    ]
    assert fleet.latest.evidence == "5 failures in a row"


async def test_one_slow_acknowledgement_holds_up_no_other_verdict() -> None:
    fleet, written = Fleet(), list[str]()
    first = asyncio.Event()

    async def publish(health: Health) -> None:
        if health.provider == "deepseek":
            await first.wait()
        written.append(health.provider)

    fleet.publish = publish  # type: ignore[method-assign]
    for provider in ("deepseek", "openai"):
        fleet.clock.advance(1)
        task = asyncio.create_task(fleet.saw("a", provider, succeeded=1))
        await turns()
        if provider == "openai":
            await task
    assert written == ["openai"]
    fleet.clock.advance(10_000)
    ticking = asyncio.create_task(fleet.owner.tick())
    await turns()

    assert written == ["openai", "openai"]
    first.set()
    await ticking


async def test_what_has_not_changed_is_rewritten_every_ten_seconds() -> None:
    fleet = Fleet()
    await fleet.saw("a", succeeded=1)
    for _ in range(25):
        fleet.clock.advance(1_000)
        await fleet.saw("a", succeeded=1)
        await fleet.owner.tick()

    assert [each.at - NOW for each in fleet.published] == [0, 10_000, 20_000]
    assert {each.epoch for each in fleet.published} == {NOW}


async def test_after_a_failed_probe_another_worker_is_named() -> None:
    fleet = await opened()
    await fleet.owner.tick()
    first = fleet.latest
    assert first.state is BreakerWord.HALF_OPEN
    assert first.prober in {"a", "b"}
    await fleet.saw(first.prober or "", probe=VerdictWord.PROVIDER_DOWN.value)
    await fleet.owner.tick()

    assert fleet.states == ["closed", "open", "half_open", "open", "half_open"]
    assert {first.prober, fleet.latest.prober} == {"a", "b"}


async def test_a_prober_that_does_not_answer_is_replaced_by_another() -> None:
    fleet = await opened()
    await fleet.owner.tick()
    silent = fleet.latest.prober
    for _ in range(20):
        fleet.clock.advance(1_000)
        await fleet.saw("a")
        await fleet.saw("b")
        await fleet.owner.tick()

    probers = [_of_flash(each).prober for each in fleet.published]
    assert {*probers[2:]} == {"a", "b"}
    assert fleet.latest.prober != silent


@pytest.mark.parametrize(
    ("word", "ramps"),
    [
        (VerdictWord.SUCCEEDED, True),
        (VerdictWord.JOB_REJECTED, True),  # some models refuse one token
        (VerdictWord.RETRY_LATER, False),
        (VerdictWord.AMBIGUOUS, False),
    ],
)
async def test_only_a_probe_that_was_answered_begins_a_ramp(word: VerdictWord, ramps: bool) -> None:
    fleet = await opened()
    await fleet.owner.tick()
    await fleet.saw("a", succeeded=50)
    await fleet.saw("b", succeeded=50)
    assert fleet.states[-1] == "half_open"  # late answers of old calls prove nothing
    await fleet.saw(fleet.latest.prober or "", probe=word.value)

    assert fleet.states[-1] == ("ramp" if ramps else "open")


async def test_a_provider_is_trusted_again_step_by_step_and_each_is_told() -> None:
    fleet = await opened()
    await fleet.owner.tick()
    await fleet.saw(fleet.latest.prober or "", probe=VerdictWord.SUCCEEDED.value)
    while fleet.latest.state is BreakerWord.RAMP:
        assert len(fleet.published) < 9
        await fleet.saw("a", succeeded=fleet.latest.permits)

    steps = [_of_flash(each).permits for each in fleet.published]
    assert fleet.states == ["closed", "open", "half_open", "ramp", "ramp", "ramp", "closed"]
    assert steps == [None, None, None, 1, 2, 4, None]  # of two workers with four permits each


async def test_a_failure_in_the_ramp_is_told_at_once() -> None:
    fleet = Fleet(known(BreakerWord.RAMP, permits=1, setbacks=2))
    await fleet.saw("a", failures=1, streak=1, note="503")

    assert fleet.states == ["open"]
    assert fleet.latest.setbacks == 3
    assert fleet.latest.evidence == "1 of 1 calls of the ramp failed; the last: 503"


async def test_a_ramp_that_sees_no_job_goes_on_by_probes() -> None:
    fleet = Fleet(known(BreakerWord.RAMP, permits=1))
    await fleet.saw("a")
    for _ in range(12):
        fleet.clock.advance(1_000)
        await fleet.saw("a")
        await fleet.owner.tick()
        if fleet.latest.probe_at is not None:
            await fleet.saw("a", probe=VerdictWord.SUCCEEDED.value)

    assert fleet.states[-1] == "closed"
    assert "open" not in fleet.states


async def test_a_lone_suspect_opens_nothing_for_the_fleet() -> None:
    fleet = Fleet()
    await fleet.saw("b", succeeded=9)
    await fleet.saw("a", failures=9, streak=9)

    assert fleet.states == ["closed"]


async def test_a_wish_to_be_left_alone_reaches_the_fleet_at_once_and_ends_in_time() -> None:
    fleet = Fleet()
    await fleet.saw("b", succeeded=1)
    await fleet.saw("a", throttled=1, paused_until=NOW + 2_000)
    assert [each.paused_until for each in fleet.published] == [None, NOW + 2_000]
    fleet.clock.advance(2_000)
    await fleet.owner.tick()

    assert fleet.published[-1].paused_until is None


async def test_when_connections_fail_all_models_are_down() -> None:
    fleet = Fleet()
    await fleet.saw("a", failures=3, unreached=3, streak=3, note="refused")

    verdict = fleet.published[-1].models[EVERY_MODEL]
    assert {*fleet.published[-1].models} == {EVERY_MODEL}
    assert verdict.state is BreakerWord.OPEN
    assert verdict.evidence == "3 connections in a row failed; the last: refused"


async def test_a_new_owner_goes_on_from_the_verdict_that_stands() -> None:
    fleet = Fleet(known(BreakerWord.OPEN, evidence="5 failures in a row"))
    await fleet.saw("a", succeeded=9)

    assert fleet.states == ["open"]
    assert (fleet.latest.since, fleet.latest.evidence) == (NOW - 9_000, "5 failures in a row")
    assert fleet.published[-1].epoch == NOW  # above the last owner's


async def test_the_epoch_of_a_new_owner_is_above_the_last_ones_whatever_its_clock() -> None:
    ahead = replace(known(BreakerWord.CLOSED), epoch=NOW + 5_000)
    fleet = Fleet(ahead)
    await fleet.saw("a", succeeded=1)

    assert fleet.published[-1].epoch > ahead.epoch


async def test_who_has_no_permit_to_probe_with_is_not_named() -> None:
    fleet = await opened()
    fleet.clock.advance(6_000)  # who was seen then is not known any more
    await fleet.saw("idle", limit=0)
    await fleet.owner.tick()
    named = [_of_flash(each).prober for each in fleet.published]
    await fleet.saw("able")
    await fleet.owner.tick()

    assert set(named) == {None}
    assert (fleet.states[-1], fleet.latest.prober) == ("half_open", "able")


async def test_of_a_provider_that_nobody_speaks_of_the_verdict_goes_stale() -> None:
    fleet = await opened()
    for _ in range(90):
        fleet.clock.advance(1_000)
        await fleet.owner.tick()

    assert max(each.at for each in fleet.published) <= NOW + 30_000


async def test_a_new_owner_takes_the_answer_of_a_prober_the_last_one_named() -> None:
    fleet = Fleet(known(BreakerWord.HALF_OPEN, prober="a", probe_at=NOW - 1_000))
    await fleet.saw("a", probe=VerdictWord.SUCCEEDED.value)

    assert fleet.states == ["ramp"]


async def test_a_new_owner_waits_for_a_prober_it_has_not_heard_of_yet() -> None:
    fleet = Fleet(known(BreakerWord.HALF_OPEN, prober="a", probe_at=NOW - 1_000))
    await fleet.saw("b")
    await fleet.owner.tick()

    assert (fleet.latest.prober, fleet.latest.probe_at) == ("a", NOW - 1_000)


def _loses(fleet: Fleet) -> None:
    fleet.owned.discard("deepseek")


def _keeps(fleet: Fleet) -> None:
    fleet.owned.add("deepseek")


@pytest.mark.parametrize(
    ("change", "states"), [(_keeps, ["closed", "open"]), (_loses, ["closed", "closed"])]
)
async def test_what_is_owned_no_more_is_forgotten(
    change: Callable[[Fleet], None], states: list[str]
) -> None:
    fleet = Fleet()
    await fleet.saw("a", failures=4, streak=4)
    change(fleet)
    await fleet.owner.tick()
    _keeps(fleet)
    await fleet.saw("a", failures=1, streak=1)

    assert fleet.states == states


async def test_of_what_is_owned_no_more_nothing_is_written() -> None:
    fleet = await opened()
    _loses(fleet)
    fleet.clock.advance(60_000)
    await fleet.owner.tick()

    assert fleet.states == ["closed", "open"]
