"""One call of a provider: the clocks, the size, the verdict, the key kept out of it."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import httpx
import orjson
import pytest

from outlast.core.policy import Clocks
from outlast.core.verdict import Verdict
from outlast.edges.providers.call import ProviderCall
from outlast.edges.providers.clocks import Countdown, next_cut
from outlast.edges.providers.exchange import MAX_ANSWER_BYTES
from outlast_schemas.attempt import VerdictWord as W
from outlast_schemas.result import Served
from tests.edges.given import BODY, FIRST_TOKEN, KEY, PATIENT, TARGET, a_call

ANSWER = orjson.dumps(
    {
        "object": "chat.completion",
        "model": "gpt-6-luna-2026-10-01",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hello"}}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    }
)
IDLE = replace(PATIENT, idle_seconds=0.1)
TOTAL = replace(PATIENT, total_seconds=0.1)


def answering(status: int, content: bytes, headers: dict[str, str] | None = None) -> ProviderCall:
    """A call that gets this answer."""

    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=content, headers=headers)

    return a_call(httpx.MockTransport(handle))


class Trickle(httpx.AsyncByteStream):
    """A body in pieces; a number is a pause in seconds, and after the last piece it hangs."""

    def __init__(self, parts: Sequence[bytes | float]) -> None:
        self.parts = parts
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            else:
                await asyncio.sleep(part)
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed = True


def trickling(stream: Trickle, clocks: Clocks) -> ProviderCall:
    """A call whose answer comes so."""
    return a_call(httpx.MockTransport(lambda _: httpx.Response(200, stream=stream)), clocks=clocks)


async def test_a_success_carries_the_very_bytes_who_served_and_what_it_took() -> None:
    verdict = await answering(200, ANSWER, {"x-request-id": "req_1"})(BODY, TARGET, 60)

    assert verdict.first_ms is not None
    assert replace(verdict, first_ms=None) == Verdict(
        word=W.SUCCEEDED,
        status=200,
        request_id="req_1",
        served=Served(
            body=ANSWER,
            provider="p",
            model="gpt-6-luna-2026-10-01",
            prompt_tokens=12,
            completion_tokens=3,
        ),
    )


async def test_a_server_that_does_not_name_its_model_is_taken_at_its_word() -> None:
    answer = orjson.dumps(
        {"choices": [{"finish_reason": "stop", "message": {"content": "Hello"}}], "usage": None}
    )

    verdict = await answering(200, answer)(BODY, TARGET, 60)

    assert verdict.served == Served(body=answer, provider="p", model="gpt-6-luna")


async def test_an_answer_packed_unasked_is_unpacked() -> None:
    packed = answering(200, gzip.compress(ANSWER), {"content-encoding": "gzip"})

    verdict = await packed(BODY, TARGET, 60)

    assert verdict.served is not None
    assert verdict.served.body == ANSWER


async def test_blank_lines_before_an_answer_are_no_part_of_it() -> None:
    async def handle(_: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            for piece in (b"\n", b"\n\n", ANSWER[:9], ANSWER[9:]):
                yield piece

        return httpx.Response(200, content=body())

    verdict = await a_call(httpx.MockTransport(handle))(BODY, TARGET, 60)

    assert verdict.served is not None
    assert verdict.served.body == ANSWER


async def test_the_request_goes_to_the_familys_path_with_its_headers() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=ANSWER)

    await a_call(httpx.MockTransport(handle))(BODY, TARGET, 60)

    [request] = seen
    assert (request.method, str(request.url)) == (
        "POST",
        "http://provider.test/v1/chat/completions",
    )
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert orjson.loads(request.content)["max_completion_tokens"] == 20


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (httpx.ConnectError("refused"), W.PROVIDER_DOWN),
        (httpx.ConnectTimeout("slow"), W.PROVIDER_DOWN),
        (httpx.PoolTimeout("full"), W.PROVIDER_DOWN),
        (httpx.UnsupportedProtocol("ftp"), W.PROVIDER_DOWN),
        (httpx.ReadError("reset"), W.AMBIGUOUS),
        (httpx.WriteError("reset"), W.AMBIGUOUS),
        (httpx.ReadTimeout("silence"), W.AMBIGUOUS),
        (httpx.RemoteProtocolError("closed"), W.AMBIGUOUS),
        # of these nobody can tell what was sent
        (httpx.LocalProtocolError("?"), W.AMBIGUOUS),
        (httpx.ProxyError("?"), W.AMBIGUOUS),
    ],
)
async def test_an_error_of_the_transport_is_ambiguous_unless_nothing_was_sent(
    error: httpx.TransportError, word: W
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    verdict = await a_call(httpx.MockTransport(fail))(BODY, TARGET, 60)

    assert (verdict.word, verdict.note, verdict.evidence) == (word, str(error), True)


@pytest.mark.parametrize(
    ("seconds_left", "progress", "cut"),
    [
        (1000.0, None, Countdown(120.0, "first_token")),
        (1000.0, 119.0, Countdown(179.0, "idle")),
        (1000.0, 590.0, Countdown(600.0, "total")),
        (30.0, None, Countdown(30.0, "deadline")),
        (30.0, 1.0, Countdown(30.0, "deadline")),
        # on a tie the provider is not blamed
        (120.0, None, Countdown(120.0, "deadline")),
    ],
)
def test_the_clock_that_runs_out_first_cuts(
    seconds_left: float, progress: float | None, cut: Countdown
) -> None:
    clocks = Clocks(first_token_seconds=120)

    assert next_cut(clocks, seconds_left, progress) == cut


@pytest.mark.parametrize(
    ("parts", "clocks", "seconds_left", "note", "evidence"),
    [
        ([], FIRST_TOKEN, 90, "HTTP 200: no first token after 0.1 s", True),
        # blank lines are no progress, however many come
        ([b"\n", 0.01] * 99, FIRST_TOKEN, 90, "HTTP 200: no first token after 0.1 s", True),
        ([b"{"], IDLE, 90, "HTTP 200: the answer began and stood still after 0.1 s", True),
        ([b"x", 0.01] * 99, TOTAL, 90, "HTTP 200: the answer did not end after 0.1 s", True),
        ([], PATIENT, 0.1, "HTTP 200: cut by the job's deadline after 0.1 s", False),
        ([b"x", 0.01] * 99, PATIENT, 0.1, "HTTP 200: cut by the job's deadline after 0.1 s", False),
    ],
    ids=["silence", "keep-alive", "idle", "total", "deadline", "deadline-in-body"],
)
async def test_a_clock_cuts_the_call_and_says_which_it_was(
    parts: list[bytes | float], clocks: Clocks, seconds_left: float, note: str, evidence: bool
) -> None:
    stream = Trickle(parts)

    verdict = await trickling(stream, clocks)(BODY, TARGET, seconds_left)

    assert verdict == Verdict(word=W.AMBIGUOUS, note=note, evidence=evidence)
    assert stream.closed


async def test_a_job_past_its_deadline_is_not_sent() -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise AssertionError("it was sent")

    verdict = await a_call(httpx.MockTransport(fail))(BODY, TARGET, 0)

    assert (verdict.word, verdict.evidence) == (W.AMBIGUOUS, False)


async def test_an_answer_without_end_is_cut_and_nobodys_fault() -> None:
    stream = Trickle([b"x" * 1_000_000] * 17)

    verdict = await trickling(stream, PATIENT)(BODY, TARGET, 60)

    assert MAX_ANSWER_BYTES < 17_000_000
    assert (verdict.word, verdict.note) == (W.JOB_REJECTED, "answer larger than 16 MB")
    assert verdict.is_oversized
    assert stream.closed


@pytest.mark.parametrize(
    ("key", "text", "note"),
    [
        ("hunter-two", "bad key hunter-two", "HTTP 401: bad key [removed]"),
        # cut to its length within the key
        ("hunter-two-and-three", "y " * 90 + "hunter-two-and-three", None),
        # a placeholder for a local server, not a secret
        ("x", "extra", "HTTP 401: extra"),
    ],
)
async def test_no_note_holds_the_key(key: str, text: str, note: str | None) -> None:
    answer = orjson.dumps({"error": {"message": text}})
    mock = httpx.MockTransport(lambda _: httpx.Response(401, content=answer))

    said = (await a_call(mock, api_key=key)(BODY, TARGET, 60)).note or ""

    assert note is None or said == note
    assert key[:8] not in said or len(key) < 8


@pytest.mark.parametrize("key", ["", " \n", "clé", "a\nb"])
def test_a_key_that_no_header_can_carry_is_refused_at_once(key: str) -> None:
    with pytest.raises(ValueError, match="API key"):
        a_call(httpx.MockTransport(lambda _: httpx.Response(200)), api_key=key)


def test_a_compatible_provider_needs_an_address() -> None:
    with pytest.raises(ValueError, match="base URL"):
        a_call(httpx.MockTransport(lambda _: httpx.Response(200)), "compatible", base_url="")
