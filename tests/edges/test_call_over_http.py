"""The simulated provider called over real sockets: each of its modes has its verdict."""

from collections.abc import AsyncIterator

import orjson
import pytest

from outlast.core.capability import EMBEDDINGS
from outlast.core.policy import Target
from outlast.drill.simulator import MODES, Behaviour, Mode, Simulator
from outlast.edges.providers.families import FAMILIES, probe_body
from outlast.edges.providers.transport import Transport
from outlast_schemas.attempt import VerdictWord as W
from tests.edges.given import BODY, FIRST_TOKEN, PATIENT, TARGET, Family, a_call


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """A transport with a pool of its own."""
    made = Transport()
    yield made
    await made.aclose()


EMBED = Target("p", "text-embedding-3-small")
EVERY_FAMILY: tuple[Family, ...] = ("compatible", "openai", "deepseek", "anthropic")

VERDICTS: dict[str, W] = {
    "ok": W.SUCCEEDED,
    "slow": W.SUCCEEDED,
    "hang": W.AMBIGUOUS,
    "unavailable": W.PROVIDER_DOWN,
    "throttle": W.RETRY_LATER,
    "quota": W.ACCOUNT_BLOCKED,
    "bad_key": W.ACCOUNT_BLOCKED,
    "empty": W.AMBIGUOUS,
    "cut": W.AMBIGUOUS,
    "reject": W.JOB_REJECTED,
    "too_long": W.CONTEXT_TOO_LONG,
    "refuse": W.PROVIDER_DOWN,
    "flap": W.SUCCEEDED,  # it begins up
    "outage": W.AMBIGUOUS,  # its first call hangs
}


def test_every_mode_of_the_simulator_has_a_verdict_here() -> None:
    assert set(VERDICTS) == set(MODES)


@pytest.mark.parametrize("family", EVERY_FAMILY)
@pytest.mark.parametrize("mode", MODES)
async def test_what_a_provider_does_over_http_becomes_the_verdict(
    transport: Transport, family: Family, mode: Mode
) -> None:
    clocks = FIRST_TOKEN if mode in ("hang", "outage") else PATIENT
    behaviour = Behaviour(mode=mode, slow_seconds=0.05)
    async with Simulator(family, behaviour=behaviour) as simulator:
        call = a_call(transport, family, clocks, simulator.base_url)
        verdict = await call(BODY, TARGET, 60)

    assert verdict.word is VERDICTS[mode]
    assert (verdict.served is not None) is (verdict.word is W.SUCCEEDED)


@pytest.mark.parametrize("family", ["openai", "compatible"])
@pytest.mark.parametrize("mode", MODES)
async def test_embeddings_meet_the_same_faults_with_the_same_verdicts(
    transport: Transport, family: Family, mode: Mode
) -> None:
    clocks = FIRST_TOKEN if mode in ("hang", "outage") else PATIENT
    behaviour = Behaviour(mode=mode, slow_seconds=0.05)
    async with Simulator(family, behaviour=behaviour) as simulator:
        call = a_call(transport, family, clocks, simulator.base_url)
        verdict = await call({"input": ["a", "b"]}, EMBED, 60, EMBEDDINGS)

    assert verdict.word is VERDICTS[mode]
    assert (verdict.served is not None) is (verdict.word is W.SUCCEEDED)


@pytest.mark.parametrize("family", ["openai", "compatible"])
async def test_a_model_asked_for_what_it_is_not_for_is_misrouted(
    transport: Transport, family: Family
) -> None:
    async with Simulator(family) as simulator:
        call = a_call(transport, family, base_url=simulator.base_url)
        completion = await call(BODY, EMBED, 60)
        embedding = await call({"input": "a"}, TARGET, 60, EMBEDDINGS)

    assert (completion.word, embedding.word) == (W.MISROUTED, W.MISROUTED)


@pytest.mark.parametrize("family", EVERY_FAMILY)
async def test_every_family_serves_a_chat_completion(transport: Transport, family: Family) -> None:
    async with Simulator(family) as simulator:
        verdict = await a_call(transport, family, base_url=simulator.base_url)(BODY, TARGET, 60)

    assert verdict.served is not None
    answer = orjson.loads(verdict.served.body)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "Simulated answer to: Hi"
    assert verdict.served.prompt_tokens == answer["usage"]["prompt_tokens"]


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_probe_is_a_call_like_any_other(transport: Transport, family: Family) -> None:
    async with Simulator(family) as simulator:
        call = a_call(transport, family, base_url=simulator.base_url)
        verdict = await call(probe_body("gpt-6-luna"), TARGET, 60)

    assert verdict.word is W.SUCCEEDED


@pytest.mark.parametrize("family", ["openai", "compatible"])
async def test_so_is_a_probe_for_an_embedding(transport: Transport, family: Family) -> None:
    async with Simulator(family) as simulator:
        call = a_call(transport, family, base_url=simulator.base_url)
        verdict = await call(probe_body(EMBED.model, EMBEDDINGS), EMBED, 60, EMBEDDINGS)

    assert verdict.word is W.SUCCEEDED


async def test_keep_alive_lines_do_not_keep_a_call_alive(transport: Transport) -> None:
    behaviour = Behaviour(mode="hang", blank_line_seconds=0.01)
    async with Simulator("deepseek", behaviour=behaviour) as simulator:
        call = a_call(transport, "deepseek", FIRST_TOKEN, simulator.base_url)
        verdict = await call(BODY, TARGET, 60)

    assert verdict.word is W.AMBIGUOUS
    assert verdict.note == "HTTP 200: no first token after 0.1 s"


async def test_the_providers_wait_is_in_the_verdict(transport: Transport) -> None:
    behaviour = Behaviour(mode="throttle", retry_after_seconds=2.5)
    async with Simulator("openai", behaviour=behaviour) as simulator:
        verdict = await a_call(transport, base_url=simulator.base_url)(BODY, TARGET, 60)

    assert verdict.retry_after == 2.5
