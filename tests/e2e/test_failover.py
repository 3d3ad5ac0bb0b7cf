"""A job outlives its provider: the main path on real Kafka, real HTTP and real processes."""

from pathlib import Path
from typing import Any

import pytest

from outlast_schemas.result import Status
from tests.e2e.scene import scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]


async def test_a_published_body_comes_back_as_a_result(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world:
        await (await world.start()).ready()
        await world.publish("hello", key=b"customer-7", headers={"x-foreign": "kept"})
        [ended] = await world.results(1)

    assert ended.result.status is Status.SUCCEEDED
    assert ended.result.provider == "deepseek"
    assert "hello" in (ended.result.text or "")
    assert ended.headers["outlast-key"] == b"customer-7"
    assert ended.headers["x-foreign"] == b"kept"
    assert ended.result.attempts == 1


@pytest.mark.parametrize(
    ("mode", "verdict"),
    [
        ("unavailable", "provider_down"),
        ("hang", "ambiguous"),  # no first token within its clock: it may have been executed
        ("refuse", "provider_down"),
        ("empty", "ambiguous"),
        ("cut", "ambiguous"),
        ("quota", "account_blocked"),
    ],
)
async def test_a_failing_provider_is_outlived_by_the_alternate(
    tmp_path: Path, kafka: str, mode: Any, verdict: str
) -> None:
    async with scene(tmp_path, kafka) as world:
        await world.simulators["deepseek"].set_mode(mode)
        await (await world.start()).ready()
        await world.publish("hello")
        [ended] = await world.results(1)

    assert ended.result.status is Status.SUCCEEDED
    assert ended.result.provider == "openai"
    first, second = ended.state.attempts
    assert (first.provider, first.verdict) == ("deepseek", verdict)
    assert (second.provider, second.verdict) == ("openai", "succeeded")


async def test_each_family_serves_and_answers_in_one_shape(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka, ("deepseek", "openai", "anthropic")) as world:
        await (await world.start()).ready()
        for target in (
            "deepseek/deepseek-flash",
            "openai/gpt-6-luna",
            "anthropic/claude-haiku-5-5",
        ):
            await world.publish(f"to {target}", model=target)
        ended = await world.results(3)

    served = {each.result.provider for each in ended}
    assert served == {"deepseek", "openai", "anthropic"}
    assert all(each.result.body["object"] == "chat.completion" for each in ended)
    assert all("to " in (each.result.text or "") for each in ended)


async def test_what_nobody_can_serve_waits_uncharged_until_somebody_can(
    tmp_path: Path, kafka: str
) -> None:
    """Both providers are down; the fleet notices, the jobs park, and leave by themselves."""
    async with scene(tmp_path, kafka) as world:
        for simulator in world.simulators.values():
            await simulator.set_mode("refuse")
        await (await world.start()).ready()
        await world.publish(*(f"job {number}" for number in range(30)))
        await world.until_depth(world.topics.parked, 30)
        for simulator in world.simulators.values():
            await simulator.set_mode("ok")
        ended = await world.results(30)
        report = await world.audited()

    assert {each.result.status for each in ended} == {Status.SUCCEEDED}
    assert {each.state.charged for each in ended} == {0}
    assert report["lost"] == 0
    assert report["succeeded"] == 30
