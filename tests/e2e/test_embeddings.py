"""Embeddings end to end: sent to who has them, answered byte for byte, with what they cost."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from outlast.drill.simulator import Simulator
from outlast_schemas.result import Status
from tests.e2e.scene import KEYS, Ended, Scene, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

EMBED = {"outlast-operation": "embeddings"}
SMALL = "text-embedding-3-small"
LOCAL = "nomic-embed-text"
MORE = f"""
[providers.openai.prices.{SMALL}]
input = 0.02
output = 0
[providers.openai.prices."gpt-6-luna"]
input = 0.10
output = 0.50
[providers.local]
family = "compatible"
base_url = "URL"
limits = {{ concurrency = 50 }}
[routes.embed]
targets = ["deepseek/deepseek-flash", "openai/{SMALL}", "local/{LOCAL}"]
[routes.lonely]
targets = ["deepseek/deepseek-flash"]
"""


@asynccontextmanager
async def world_of_embeddings(directory: Path, kafka: str) -> AsyncIterator[Scene]:
    """Deepseek, openai and a local server; the route `embed` has all three."""
    async with scene(directory, kafka) as world:
        world.simulators["local"] = Simulator("compatible")
        await world.simulators["local"].start()
        more = MORE.replace("URL", world.simulators["local"].base_url)
        world.config.write_text(world.config.read_text() + more)
        code, out, err = await world.outlast("topics", "apply")
        assert code == 0, out + err
        await (await world.start()).ready()
        yield world


def request(*texts: str, model: str = "embed") -> bytes:
    """An embeddings request as a client writes it."""
    return json.dumps({"model": model, "input": list(texts)}).encode()


def cost(ended: Ended) -> Decimal:
    """US dollars, as the result's header has them."""
    return Decimal((ended.headers["outlast-cost"] or b"").decode())


async def answer_of(simulator: Simulator, model: str, *texts: str) -> bytes:
    """What the provider itself answers to the same request."""
    async with httpx.AsyncClient() as client:
        response = await client.post(
            f"{simulator.base_url}/embeddings",
            json={"model": model, "input": list(texts)},
            headers={"authorization": f"Bearer {KEYS['OPENAI_API_KEY']}"},
        )
    return response.content


async def test_embeddings_go_to_the_first_who_has_them_and_come_back_as_they_were_sent(
    tmp_path: Path, kafka: str
) -> None:
    async with world_of_embeddings(tmp_path, kafka) as world:
        await world.publish(body=request("hello", "world"), headers=EMBED)
        [ended] = await world.results(1)
        sent = await answer_of(world.simulators["openai"], SMALL, "hello", "world")
        asked_of_deepseek = world.simulators["deepseek"].counters.started

    assert ended.result.status is Status.SUCCEEDED
    assert (ended.result.provider, ended.result.model) == ("openai", SMALL)
    assert ended.value == sent
    assert asked_of_deepseek == 0
    tokens = ended.result.body["usage"]["prompt_tokens"]
    assert ended.headers["outlast-prompt-tokens"] == str(tokens).encode()
    assert "outlast-completion-tokens" not in ended.headers
    assert cost(ended) == tokens * Decimal("0.02") / 1_000_000


async def test_embeddings_fail_over_among_those_who_have_them(tmp_path: Path, kafka: str) -> None:
    async with world_of_embeddings(tmp_path, kafka) as world:
        await world.simulators["openai"].set_mode("unavailable")
        await world.publish(body=request("hello"), headers=EMBED)
        [ended] = await world.results(1)

    first, second = ended.state.attempts
    assert (first.provider, first.verdict) == ("openai", "provider_down")
    assert (second.provider, second.verdict) == ("local", "succeeded")
    assert ended.result.model == LOCAL
    assert "outlast-cost" not in ended.headers  # it names none, and nobody configured a price


async def test_where_nobody_has_them_the_dead_letter_says_who_would(
    tmp_path: Path, kafka: str
) -> None:
    async with world_of_embeddings(tmp_path, kafka) as world:
        await world.publish(body=request("hello", model="lonely"), headers=EMBED)
        [ended] = await world.results(1)
        called = sum(each.counters.started for each in world.simulators.values())

    assert ended.result.status is Status.DEAD_LETTERED
    error = ended.result.body["error"]
    assert error["type"] == "no_capable_target"
    assert "deepseek/deepseek-flash (family deepseek)" in error["message"]
    assert "compatible, openai" in error["message"]
    assert called == 0


async def test_embeddings_outlive_an_outage_of_all_who_have_them(
    tmp_path: Path, kafka: str
) -> None:
    """A model for embeddings refuses a completion: the probe has to ask for what it can do."""
    async with world_of_embeddings(tmp_path, kafka) as world:
        able = [world.simulators["openai"], world.simulators["local"]]
        for simulator in able:
            await simulator.set_mode("unavailable")
        for number in range(30):
            await world.publish(body=request(f"text {number}"), headers=EMBED)
        # A job that was called before the breakers opened may be backing off for up to a minute.
        await world.until_depth(world.topics.parked, 30, 120)
        for simulator in able:
            await simulator.set_mode("ok")
        ended = await world.results(30)
        report = await world.audited()

    assert {each.result.status for each in ended} == {Status.SUCCEEDED}
    assert {each.state.charged for each in ended} == {0}
    assert report["lost"] == 0


async def test_a_completion_has_its_cost_by_the_configured_price(
    tmp_path: Path, kafka: str
) -> None:
    async with world_of_embeddings(tmp_path, kafka) as world:
        await world.publish("hello", model="openai/gpt-6-luna")
        [ended] = await world.results(1)

    usage = ended.result.body["usage"]
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    assert cost(ended) == (prompt * Decimal("0.1") + completion * Decimal("0.5")) / 1_000_000
