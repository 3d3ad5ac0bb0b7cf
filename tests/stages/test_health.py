"""Health: what many workers saw becomes one verdict, written at every change and again by time."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from outlast.health import VerdictOwner
from outlast.ports import HealthPorts
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals
from tests.core.given import NOW
from tests.stages.fakes import FrozenClock


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

    async def saw(self, worker: str, provider: str = "deepseek", **window: object) -> None:
        window = {"limit": 1, **window}
        vitals = Vitals(
            provider=provider,
            worker=worker,
            at=self.clock.now(),
            **{"limit": 1, **window},  # type: ignore[arg-type]
        )
        await self.owner.saw(vitals)

    @property
    def states(self) -> list[str]:
        return [each.models[EVERY_MODEL].state.value for each in self.published]

    @property
    def latest(self) -> ModelHealth:
        return self.published[-1].models[EVERY_MODEL]


def known(state: BreakerWord, **more: object) -> Health:
    verdict = ModelHealth(state=state, since=NOW - 9_000, **more)  # type: ignore[arg-type]
    return Health(provider="deepseek", epoch=7, at=NOW, models={EVERY_MODEL: verdict})


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

    probers = [each.models[EVERY_MODEL].prober for each in fleet.published]
    assert {*probers[2:]} == {"a", "b"}
    assert fleet.latest.prober != silent


@pytest.mark.parametrize(
    ("word", "closes"),
    [
        (VerdictWord.SUCCEEDED, True),
        (VerdictWord.JOB_REJECTED, True),  # some models refuse one token
        (VerdictWord.RETRY_LATER, False),
        (VerdictWord.AMBIGUOUS, False),
    ],
)
async def test_only_a_probe_that_was_answered_closes(word: VerdictWord, closes: bool) -> None:
    fleet = await opened()
    await fleet.owner.tick()
    await fleet.saw("a", succeeded=50)
    await fleet.saw("b", succeeded=50)
    assert fleet.states[-1] == "half_open"  # late answers of old calls prove nothing
    await fleet.saw(fleet.latest.prober or "", probe=word.value)

    assert (fleet.states[-1] == "closed") is closes


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
    named = [each.models[EVERY_MODEL].prober for each in fleet.published]
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

    assert fleet.states == ["closed"]


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
