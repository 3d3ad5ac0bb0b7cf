"""Which target takes a job: the first in order that is allowed, up and not avoided."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from outlast.core.capability import CHAT as COMPLETION
from outlast.core.capability import EMBEDDINGS
from outlast.core.choose import (
    Choice,
    Fleet,
    Later,
    NobodyUp,
    Ramp,
    Refuse,
    Send,
    choose,
    eligible,
)
from outlast.core.policy import Route, Target
from outlast_schemas.dead_letter import Reason
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from tests.core.given import CATALOGUE, CHAT, FLASH, HAIKU, LUNA, NOW, TINY, WEST, a_fleet

ALL_UP = Fleet({})
MINI = Target("openai", "mini")
TWO_MODELS = Route(name="two", targets=(LUNA, MINI))


@pytest.mark.parametrize(
    ("fleet", "avoid", "expected"),
    [
        # nothing known of anybody counts as up
        (ALL_UP, {}, Send(FLASH)),
        (a_fleet("deepseek"), {}, Send(LUNA)),
        (a_fleet("deepseek", "openai"), {}, Send(HAIKU)),
        # half-open lets the probe through, no jobs
        (a_fleet("deepseek", state=BreakerWord.HALF_OPEN), {}, Send(LUNA)),
        (a_fleet("deepseek", state=BreakerWord.CLOSED), {}, Send(FLASH)),
        (a_fleet("deepseek", "openai", "anthropic"), {}, NobodyUp()),
        # a verdict counts for 30 s, then it is unknown
        (a_fleet("deepseek", at=NOW - 30_000), {}, Send(LUNA)),
        (a_fleet("deepseek", at=NOW - 30_001), {}, Send(FLASH)),
        # a verdict on models nobody asks for says nothing
        (a_fleet(models={"deepseek": []}), {}, Send(FLASH)),
        (a_fleet(models={"deepseek": [("pro", BreakerWord.OPEN)]}), {}, Send(FLASH)),
        (a_fleet(models={"deepseek": [("flash", BreakerWord.OPEN)]}), {}, Send(LUNA)),
        (ALL_UP, {"deepseek": NOW + 1}, Send(LUNA)),
        (ALL_UP, {"deepseek/flash": NOW + 1}, Send(LUNA)),
        # avoided until now means: no more
        (ALL_UP, {"deepseek": NOW}, Send(FLASH)),
        (ALL_UP, {"deepseek/pro": NOW + 1}, Send(FLASH)),
        (ALL_UP, {"deepseek": NOW + 9, "openai": NOW + 5, "anthropic": NOW + 7}, Later(NOW + 5)),
        # the longer of provider and target holds
        (
            ALL_UP,
            {"deepseek": NOW + 9, "openai": NOW + 5, "openai/luna": NOW + 8, "anthropic": NOW + 8},
            Later(NOW + 8),
        ),
        # one who is down is not waited for, however soon it is avoided no more
        (
            a_fleet("openai"),
            {"deepseek": NOW + 9, "openai": NOW + 5, "anthropic": NOW + 7},
            Later(NOW + 7),
        ),
        (a_fleet("openai", "anthropic"), {"deepseek": NOW + 9}, Later(NOW + 9)),
    ],
)
def test_the_first_target_that_is_up_and_not_avoided_is_chosen(
    fleet: Fleet, avoid: dict[str, int], expected: Choice
) -> None:
    assert choose(CHAT, COMPLETION, None, avoid, fleet, CATALOGUE, NOW) == expected


@pytest.mark.parametrize(
    ("route", "scope", "expected"),
    [
        (CHAT, None, (FLASH, LUNA, HAIKU)),
        (CHAT, {"openai"}, (LUNA,)),
        # a scope is a union, and the route's order stays
        (CHAT, {"anthropic", "openai"}, (LUNA, HAIKU)),
        (CHAT, {"jurisdiction:us"}, (LUNA, HAIKU)),
        (CHAT, {"jurisdiction:us", "deepseek"}, (FLASH, LUNA, HAIKU)),
        (CHAT, {"jurisdiction:eu"}, ()),
        # a scope only narrows: it does not add a provider that the route does not have
        (CHAT, {"local"}, ()),
        (WEST, None, (LUNA,)),
        (WEST, {"deepseek"}, ()),
        (WEST, {"deepseek", "openai"}, (LUNA,)),
        # no jurisdiction is within none
        (Route(name="r", targets=(TINY,)), {"jurisdiction:"}, ()),
        (Route(name="r", targets=(TINY,)), {"jurisdiction:None"}, ()),
        # a provider that left the configuration
        (Route(name="r", targets=(Target("gone", "x"), LUNA)), None, (LUNA,)),
    ],
)
def test_a_target_must_lie_within_the_scope_of_the_job_and_of_the_route(
    route: Route, scope: set[str] | None, expected: tuple[Target, ...]
) -> None:
    allowed = None if scope is None else frozenset(scope)

    assert eligible(route, COMPLETION, allowed, CATALOGUE) == expected


def test_a_scope_that_leaves_nobody_is_refused_even_while_all_are_down() -> None:
    fleet = a_fleet("deepseek", "openai", "anthropic")
    choice = choose(CHAT, COMPLETION, frozenset({"local"}), {}, fleet, CATALOGUE, NOW)

    assert isinstance(choice, Refuse)
    assert choice.reason is Reason.SCOPE
    assert "chat" in choice.detail


def test_a_job_within_a_scope_waits_rather_than_leave_it() -> None:
    choice = choose(CHAT, COMPLETION, frozenset({"openai"}), {}, a_fleet("openai"), CATALOGUE, NOW)

    assert choice == NobodyUp()


def test_one_model_of_a_provider_can_be_down_alone() -> None:
    fleet = a_fleet(models={"openai": [("luna", BreakerWord.OPEN)]})

    assert choose(TWO_MODELS, COMPLETION, None, {}, fleet, CATALOGUE, NOW) == Send(MINI)


def test_a_verdict_for_every_model_holds_beside_a_better_one_for_a_single_model() -> None:
    fleet = a_fleet(
        models={"openai": [(EVERY_MODEL, BreakerWord.OPEN), ("luna", BreakerWord.CLOSED)]}
    )

    assert choose(TWO_MODELS, COMPLETION, None, {}, fleet, CATALOGUE, NOW) == NobodyUp()


EMBED = Route(name="embed", targets=(FLASH, LUNA, HAIKU, TINY))


def test_a_job_goes_only_to_providers_whose_family_has_its_operation() -> None:
    assert eligible(EMBED, EMBEDDINGS, None, CATALOGUE) == (LUNA, TINY)
    assert eligible(EMBED, COMPLETION, None, CATALOGUE) == EMBED.targets
    assert choose(EMBED, EMBEDDINGS, None, {}, ALL_UP, CATALOGUE, NOW) == Send(LUNA)
    assert choose(EMBED, EMBEDDINGS, None, {}, a_fleet("openai"), CATALOGUE, NOW) == Send(TINY)


def test_while_all_who_can_are_down_a_job_waits_though_others_are_up() -> None:
    fleet = a_fleet("openai", "local")

    assert choose(EMBED, EMBEDDINGS, None, {}, fleet, CATALOGUE, NOW) == NobodyUp()


@pytest.mark.parametrize(
    ("targets", "scope"),
    [
        ((FLASH, HAIKU), None),
        # one could, and the job may not go there
        ((FLASH, LUNA, HAIKU), {"deepseek", "anthropic"}),
    ],
)
def test_where_nobody_can_it_is_said_who_was_asked_and_which_families_can(
    targets: tuple[Target, ...], scope: set[str] | None
) -> None:
    allowed = None if scope is None else frozenset(scope)
    route = Route(name="embed", targets=targets)

    assert choose(route, EMBEDDINGS, allowed, {}, ALL_UP, CATALOGUE, NOW) == Refuse(
        Reason.NO_CAPABLE_TARGET,
        "no target of route embed that the job may go to serves embeddings: deepseek/flash "
        "(family deepseek), anthropic/haiku (family anthropic); families that serve it: "
        "compatible, openai",
    )


def test_a_scope_that_leaves_nobody_is_the_reason_before_what_they_could_do() -> None:
    choice = choose(EMBED, EMBEDDINGS, frozenset(), {}, ALL_UP, CATALOGUE, NOW)

    assert isinstance(choice, Refuse)
    assert choice.reason is Reason.SCOPE


# --- what is known of the fleet -------------------------------------------------------------


def verdicts(
    *, at: int = NOW, paused_until: int | None = None, **models: ModelHealth
) -> dict[str, Health]:
    """What was said of deepseek's models; ``every`` stands for all of them."""
    named = {EVERY_MODEL if name == "every" else name: each for name, each in models.items()}
    health = Health(provider="deepseek", epoch=1, at=at, models=named, paused_until=paused_until)
    return {"deepseek": health}


def a_verdict(state: BreakerWord, permits: int | None = None) -> ModelHealth:
    return ModelHealth(state=state, since=NOW - 5, permits=permits)


W = BreakerWord


@pytest.mark.parametrize(
    ("own", "every", "is_up"),
    [
        (W.CLOSED, W.CLOSED, True),
        (W.RAMP, W.CLOSED, True),
        (W.CLOSED, W.RAMP, True),
        (W.HALF_OPEN, W.CLOSED, False),
        (W.OPEN, W.CLOSED, False),
        (W.OPEN, W.RAMP, False),
        (W.CLOSED, W.OPEN, False),
        (W.RAMP, W.HALF_OPEN, False),
    ],
)
def test_a_model_is_up_when_its_own_verdict_and_the_provider_s_let_jobs_through(
    own: BreakerWord, every: BreakerWord, is_up: bool
) -> None:
    fleet = Fleet(verdicts(flash=a_verdict(own), every=a_verdict(every)))

    assert fleet.is_up(FLASH, NOW) is is_up
    # a stale verdict is none
    assert Fleet(verdicts(flash=a_verdict(own), at=NOW - 30_001)).is_up(FLASH, NOW)


@pytest.mark.parametrize(
    ("tripped", "is_up"),
    [
        ((), True),
        (("deepseek",), False),
        (("deepseek/flash",), False),
        (("deepseek/pro",), True),
        (("openai",), True),
    ],
)
def test_what_this_process_has_tripped_is_down_whatever_the_fleet_says(
    tripped: Collection[str], is_up: bool
) -> None:
    for health in ({}, verdicts(every=a_verdict(W.CLOSED))):
        assert Fleet(health, tripped=tripped).is_up(FLASH, NOW) is is_up
        assert Fleet(health, tripped=tripped).may_send(FLASH, NOW) is is_up


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ({}, None),
        (verdicts(flash=a_verdict(W.CLOSED)), None),
        (verdicts(flash=a_verdict(W.OPEN)), None),
        (verdicts(pro=a_verdict(W.RAMP, 4)), None),
        (verdicts(flash=a_verdict(W.RAMP, 4)), Ramp("flash", NOW - 5, 4)),
        (verdicts(every=a_verdict(W.RAMP, 2)), Ramp(EVERY_MODEL, NOW - 5, 2)),
        # of an owner that does not say how many: one
        (verdicts(flash=a_verdict(W.RAMP)), Ramp("flash", NOW - 5, 1)),
        (
            verdicts(every=a_verdict(W.RAMP, 2), flash=a_verdict(W.RAMP, 4)),
            Ramp(EVERY_MODEL, NOW - 5, 2),
        ),
        (verdicts(flash=a_verdict(W.RAMP, 4), at=NOW - 30_000), Ramp("flash", NOW - 5, 4)),
        (verdicts(flash=a_verdict(W.RAMP, 4), at=NOW - 30_001), None),
    ],
)
def test_a_ramp_is_the_provider_s_or_the_model_s(
    health: dict[str, Health], expected: Ramp | None
) -> None:
    assert Fleet(health).ramp(FLASH, NOW) == expected


@pytest.mark.parametrize(
    ("state", "full", "expected"),
    [
        (W.RAMP, (), Send(FLASH)),
        (W.RAMP, ("openai",), Send(FLASH)),
        # enough is there already: what else comes goes elsewhere
        (W.RAMP, ("deepseek",), Send(LUNA)),
        (W.CLOSED, ("deepseek",), Send(FLASH)),
        (W.OPEN, (), Send(LUNA)),
    ],
)
def test_no_more_jobs_are_sent_to_a_ramp_than_it_has_room_for(
    state: BreakerWord, full: Collection[str], expected: Choice
) -> None:
    fleet = Fleet(verdicts(every=a_verdict(state, 1)), full=full)

    assert choose(CHAT, COMPLETION, None, {}, fleet, CATALOGUE, NOW) == expected


def test_a_job_that_may_only_go_where_a_full_ramp_is_waits_in_the_parking() -> None:
    fleet = Fleet(verdicts(every=a_verdict(W.RAMP, 1)), full={"deepseek"})
    choice = choose(CHAT, COMPLETION, frozenset({"deepseek"}), {}, fleet, CATALOGUE, NOW)

    assert choice == NobodyUp()


@pytest.mark.parametrize(
    ("wait", "patience", "expected"),
    [
        (0, 30.0, Send(FLASH)),
        (-5_000, 30.0, Send(FLASH)),
        # short enough to be waited for there
        (30_000, 30.0, Send(FLASH)),
        (30_001, 30.0, Send(LUNA)),
        (1, 0.0, Send(LUNA)),
    ],
)
def test_who_wishes_to_be_left_alone_for_longer_than_the_route_waits_is_left_alone(
    wait: int, patience: float, expected: Choice
) -> None:
    fleet = Fleet(verdicts(paused_until=NOW + wait))
    route = replace(CHAT, throttle_wait_seconds=patience)

    assert fleet.paused_until("deepseek") == NOW + wait
    assert fleet.paused_until("openai") == 0
    assert choose(route, COMPLETION, None, {}, fleet, CATALOGUE, NOW) == expected


def test_a_job_that_may_only_go_to_who_is_left_alone_waits_until_that_is_over() -> None:
    fleet = Fleet(verdicts(paused_until=NOW + 90_000))
    choice = choose(CHAT, COMPLETION, frozenset({"deepseek"}), {}, fleet, CATALOGUE, NOW)
    longer = {"deepseek": NOW + 99_000}

    assert choice == Later(NOW + 90_000)
    assert choose(
        CHAT, COMPLETION, frozenset({"deepseek"}), longer, fleet, CATALOGUE, NOW
    ) == Later(NOW + 99_000)
