"""Which target takes a job: the first in order that is allowed, up and not avoided."""

import pytest

from outlast.core.capability import CHAT as COMPLETION
from outlast.core.capability import EMBEDDINGS
from outlast.core.choose import Choice, Fleet, Later, NobodyUp, Refuse, Send, choose, eligible
from outlast.core.policy import Route, Target
from outlast_schemas.dead_letter import Reason
from outlast_schemas.health import EVERY_MODEL, BreakerWord
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
