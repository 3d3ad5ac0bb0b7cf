"""Embeddings of a provider: asked in OpenAI's form, judged for themselves, passed on as bytes."""

import httpx
import orjson
import pytest

from outlast.core.capability import EMBEDDINGS
from outlast.core.policy import Price, Provider, Target
from outlast.core.verdict import Verdict
from outlast.edges.providers.call import ProviderCall
from outlast_schemas.attempt import VerdictWord as W
from outlast_schemas.result import Served
from tests.edges.given import NOW, Family, a_call

TARGET = Target("p", "text-embedding-3-small")
BODY: dict[str, object] = {"model": "embed", "input": ["Hi", "there"], "encoding_format": "float"}
# Numbers that no JSON writer of ours would write so: what comes out is what came in.
ANSWER = b"""{
  "object": "list",
  "data": [
    {"object": "embedding", "index": 0, "embedding": [-0.00692928350, 1.0e-05, 2E2]},
    {"object": "embedding", "index": 1, "embedding": [0.1000, -0, 5e-324]}
  ],
  "model": "text-embedding-3-small",
  "usage": {"prompt_tokens": 7, "total_tokens": 7}
}"""


async def asked(
    family: Family, body: dict[str, object], answer: bytes = ANSWER
) -> tuple[httpx.Request, Verdict]:
    """What is sent for this body, and what this answer comes to."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=answer)

    call = a_call(httpx.MockTransport(handle), family)
    verdict = await call(body, TARGET, 60, EMBEDDINGS)
    [request] = seen
    return request, verdict


@pytest.mark.parametrize("family", ["openai", "compatible"])
async def test_the_body_goes_to_the_path_of_embeddings_with_the_targets_model(
    family: Family,
) -> None:
    more = {"dimensions": 256, "user": "u", "encoding_format": "base64"}
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    request, _ = await asked(family, {**BODY, **more, **streamed})

    assert str(request.url) == "http://provider.test/v1/embeddings"
    assert orjson.loads(request.content) == {**BODY, **more, "model": "text-embedding-3-small"}


async def test_nothing_that_belongs_to_chat_is_done_to_the_body() -> None:
    request, _ = await asked("openai", {**BODY, "max_tokens": 5})

    assert orjson.loads(request.content)["max_tokens"] == 5


async def test_the_vectors_are_passed_on_byte_for_byte() -> None:
    _, verdict = await asked("openai", BODY)

    assert verdict.served == Served(
        body=ANSWER, provider="p", model="text-embedding-3-small", prompt_tokens=7
    )


@pytest.mark.parametrize(
    "answer",
    [
        b'{"object":"list","data":[]}',
        b'{"object":"list","data":[{"index":0,"embedding":[0.5]}]}',
        b'{"choices":[{"finish_reason":"stop","message":{"content":"Hi"}}]}',
    ],
)
async def test_an_answer_without_a_vector_for_each_input_is_none(answer: bytes) -> None:
    _, verdict = await asked("openai", BODY, answer)

    assert (verdict.word, verdict.evidence) == (W.PROVIDER_DOWN, True)


@pytest.mark.parametrize("family", ["deepseek", "anthropic"])
async def test_a_family_without_embeddings_is_not_asked_for_them(family: Family) -> None:
    call = a_call(httpx.MockTransport(lambda _: httpx.Response(200)), family)

    with pytest.raises(KeyError):
        await call(BODY, TARGET, 60, EMBEDDINGS)


async def test_embeddings_cost_what_their_prompt_costs() -> None:
    provider = Provider(
        name="p",
        family="openai",
        base_url="http://provider.test/v1",
        prices={TARGET.model: Price(input=0.02, output=9.0)},
    )
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=ANSWER))
    call = ProviderCall(provider, "some-key", transport, lambda: NOW)
    verdict = await call(BODY, TARGET, 60, EMBEDDINGS)

    assert verdict.served is not None
    assert verdict.served.cost == pytest.approx(7 * 0.02 / 1_000_000)
