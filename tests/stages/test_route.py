"""Route: every published record leaves as exactly what the decision says, in its order."""

import asyncio

import pytest

from outlast.route import goes_on, route
from outlast_schemas.headers import Headers
from tests.core.given import CATALOGUE, FLASH, NOW, a_job
from tests.stages.fakes import World, turns

ALL = ("deepseek", "openai", "anthropic")


@pytest.mark.parametrize(
    ("headers", "down", "expected"),
    [
        ((), (), ["work.deepseek"]),
        ((), ("deepseek",), ["work.openai"]),
        ((), ALL, ["parked"]),
        ((("outlast-route", b"private"),), ALL, ["work.local"]),
        ((("outlast-route", b"west"),), (), ["work.openai"]),  # deepseek is out of its scope
        ((("outlast-scope", b"anthropic"),), (), ["work.anthropic"]),
        # in scope only while it is down: it waits, whoever else is up
        ((("outlast-scope", b"anthropic"),), ("anthropic",), ["parked"]),
        ((("outlast-scope", None),), (), ["work.deepseek"]),
        (
            (("outlast-scope", b"local"),),
            (),
            ["dead letter: scope", "results: dead_lettered"],
        ),
        (
            (("outlast-route", b"nowhere"),),
            (),
            ["dead letter: unknown_route", "results: dead_lettered"],
        ),
        (
            (("outlast-ttl-seconds", b"soon"),),
            (),
            ["dead letter: bad_header", "results: dead_lettered"],
        ),
        (
            (("outlast-deadline", b"2020-01-01T00:00:00Z"),),
            ALL,  # expired before anybody is asked for
            ["dead letter: deadline", "results: expired"],
        ),
        (
            (("outlast-deadline", b"2020-01-01T00:00:00Z"), ("outlast-results", b"west")),
            (),
            ["dead letter: deadline", "results.west: expired"],
        ),
    ],
)
async def test_a_published_job_goes_where_headers_and_health_say(
    headers: Headers, down: tuple[str, ...], expected: list[str]
) -> None:
    world = World(*down)

    await route(a_job(*headers), world.ports())

    assert world.outbox.told == expected
    assert goes_on(a_job(*headers), World(*down).ports()) == world.outbox.hop


EMBED = ("outlast-operation", b"embeddings")


@pytest.mark.parametrize(
    ("headers", "down", "expected"),
    [
        # who has no embeddings is not asked for them, not even while the others are down
        ((EMBED,), (), ["work.openai"]),
        ((EMBED,), ("openai",), ["parked"]),
        (
            (EMBED, ("outlast-scope", b"deepseek,anthropic")),
            (),
            ["dead letter: no_capable_target", "results: dead_lettered"],
        ),
    ],
)
async def test_an_embeddings_job_goes_only_where_embeddings_are(
    headers: Headers, down: tuple[str, ...], expected: list[str]
) -> None:
    world = World(*down)

    await route(a_job(*headers, body=b'{"input":"hello"}'), world.ports())

    assert world.outbox.told == expected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b'"text"', "bad_request"),
        (b'{"messages":[]}', "bad_request"),
        (b'{"model":"nobody/knows","messages":[{"role":"user"}]}', "unknown_route"),
        (b" " * 1_001, "too_large"),
    ],
)
async def test_what_is_no_job_is_dead_lettered_first_and_then_answered(
    body: bytes, reason: str
) -> None:
    world = World()

    await route(a_job(body=body), world.ports())

    assert world.outbox.told == [f"dead letter: {reason}", "results: dead_lettered"]
    assert world.outbox.job.body == body


async def test_the_state_begins_with_the_target_the_deadline_and_the_first_hop() -> None:
    world = World()

    await route(a_job(("outlast-ttl-seconds", b"90"), deadline=0, route=""), world.ports())

    state = world.outbox.job.state
    assert (state.hop, state.route, state.target) == (1, "chat", str(FLASH))
    assert (state.accepted, state.deadline) == (NOW, NOW + 90_000)


async def test_parking_at_once_charges_nothing() -> None:
    world = World(*ALL)

    await route(a_job(), world.ports())

    state = world.outbox.job.state
    assert (state.hop, state.deferrals, state.charged, state.calls) == (1, 1, 0, 0)


async def test_route_is_done_only_when_each_record_is_acknowledged() -> None:
    world = World()
    world.outbox.acknowledges.clear()

    running = asyncio.create_task(route(a_job(body=b"{"), world.ports()))
    await turns()
    assert world.outbox.told == ["dead letter: not_json"]
    assert not running.done()
    world.outbox.acknowledges.set()
    await running

    assert world.outbox.told == ["dead letter: not_json", "results: dead_lettered"]


async def test_what_is_sent_is_counted_at_its_provider_and_what_is_parked_is_not() -> None:
    world = World()
    await route(a_job(), world.ports())
    assert world.fleet.counted == ["deepseek/flash"]
    world.fleet.down = tuple(CATALOGUE.providers)
    await route(a_job(), world.ports())
    assert world.fleet.counted == ["deepseek/flash"]
