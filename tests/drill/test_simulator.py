"""The simulated provider itself: modes, counters, orders over HTTP, and as a process."""

import asyncio
import base64
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine

import httpx
import orjson
import pytest

from outlast.drill.simulator import Behaviour, Simulator, content_key
from outlast.edges.providers.transport import Transport


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """A transport with a pool of its own."""
    made = Transport()
    yield made
    await made.aclose()


async def until(holds: Callable[[], bool]) -> None:
    """Give way to the other tasks until it holds; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


async def send(
    transport: Transport, method: str, url: str, body: object, **headers: str
) -> httpx.Response:
    """One exchange."""
    request = httpx.Request(method, url, content=orjson.dumps(body), headers=headers)
    response = await transport.handle_async_request(request)
    await response.aread()
    await response.aclose()
    return response


Ask = Callable[[str], Coroutine[object, object, httpx.Response]]


def asks(transport: Transport, simulator: Simulator) -> Ask:
    """What sends one question to a provider of OpenAI's kind."""

    async def ask(content: str) -> httpx.Response:
        body = {"model": "m", "messages": [{"role": "user", "content": content}]}
        url = f"{simulator.base_url}/chat/completions"
        return await send(transport, "POST", url, body, authorization="Bearer some-key")

    return ask


async def test_calls_are_counted_by_content_and_answers_by_status(transport: Transport) -> None:
    async with Simulator("deepseek") as simulator:
        ask = asks(transport, simulator)
        for content in ("a", "b", "a", "please REJECT ME"):
            await ask(content)
        counters = simulator.counters

    assert counters.started == 4
    assert (counters.calls_of("a"), counters.calls_of("b"), counters.calls_of("c")) == (2, 1, 0)
    assert counters.answered == {200: 3, 400: 1}
    assert (counters.in_flight, counters.max_in_flight) == (0, 1)


async def test_more_than_a_thousand_calls_run_at_once(transport: Transport) -> None:
    async with Simulator("openai", behaviour=Behaviour(latency_seconds=1.0)) as simulator:
        ask = asks(transport, simulator)
        answers = await asyncio.gather(*(ask(f"job {number}") for number in range(1_200)))
        counters = simulator.counters

    assert {answer.status_code for answer in answers} == {200}
    assert counters.max_in_flight > 1_000


async def test_above_its_concurrency_it_throttles(transport: Transport) -> None:
    async with Simulator("openai", behaviour=Behaviour(mode="hang", concurrency=1)) as simulator:
        ask = asks(transport, simulator)
        first = asyncio.create_task(ask("first"))
        await until(lambda: simulator.counters.in_flight == 1)
        second = await ask("second")
        first.cancel()
        await until(lambda: simulator.counters.in_flight == 0)

    assert (second.status_code, second.headers["retry-after"]) == (429, "1")


async def test_a_rejected_job_is_rejected_in_every_mode_that_listens(
    transport: Transport,
) -> None:
    async with Simulator("openai", behaviour=Behaviour(mode="hang")) as simulator:
        answer = await asks(transport, simulator)("REJECT ME")

    assert answer.status_code == 400


async def test_an_outage_hangs_and_fails_in_turn(transport: Transport) -> None:
    async with Simulator("openai", behaviour=Behaviour(mode="outage")) as simulator:
        ask = asks(transport, simulator)
        hanging = asyncio.create_task(ask("first"))
        await until(lambda: simulator.counters.in_flight == 1)
        failed = await ask("second")
        hung = not hanging.done()
        hanging.cancel()

    assert (hung, failed.status_code) == (True, 503)


async def test_refusing_cuts_what_runs_and_the_same_address_opens_again(
    transport: Transport,
) -> None:
    async with Simulator("deepseek", behaviour=Behaviour(mode="hang")) as simulator:
        ask = asks(transport, simulator)
        running = asyncio.create_task(ask("running"))
        await until(lambda: simulator.counters.in_flight == 1)
        await simulator.set_mode("refuse")
        with pytest.raises(httpx.TransportError):
            await running
        with pytest.raises(httpx.ConnectError):
            await ask("refused")
        await simulator.set_mode("ok")
        answer = await ask("again")

    assert answer.status_code == 200
    assert simulator.counters.calls_of("refused") == 0


@pytest.mark.parametrize(
    ("family", "headers", "status"),
    [
        ("openai", {}, 401),
        ("openai", {"authorization": "Bearer bad-key"}, 401),
        ("anthropic", {"x-api-key": "bad-key", "anthropic-version": "2023-06-01"}, 401),
        # the version is mandatory
        ("anthropic", {"x-api-key": "k"}, 400),
        ("anthropic", {"x-api-key": "k", "anthropic-version": "2023-06-01"}, 200),
        # a local server wants no key
        ("compatible", {}, 200),
    ],
)
async def test_keys_and_headers_are_checked_as_the_family_does(
    transport: Transport, family: str, headers: dict[str, str], status: int
) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    path = "/v1/messages" if family == "anthropic" else "/chat/completions"
    async with Simulator(family) as simulator:
        answer = await send(transport, "POST", simulator.base_url + path, body, **headers)

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("family", "body", "message"),
    [
        ("openai", {"model": "gpt-6-luna", "max_tokens": 1, "messages": [{}]}, "max_completion"),
        ("deepseek", {"model": "m", "messages": []}, "messages is required"),
        ("anthropic", {"model": "m", "messages": [{"role": "user"}]}, "max_tokens: Field required"),
        (
            "anthropic",
            {"model": "m", "max_tokens": 1, "messages": [{"role": "system"}]},
            'Unexpected role "system"',
        ),
        ("anthropic", {"max_tokens": 1, "messages": ["hello"]}, 'Unexpected role "None"'),
    ],
)
async def test_a_request_not_of_the_family_is_refused(
    transport: Transport, family: str, body: object, message: str
) -> None:
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    path = "/v1/messages" if family == "anthropic" else "/chat/completions"
    async with Simulator(family) as simulator:
        answer = await send(transport, "POST", simulator.base_url + path, body, **headers)

    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


async def test_orders_over_http_change_the_mode_and_show_the_counts(transport: Transport) -> None:
    async with Simulator("deepseek", control_port=0) as simulator:
        await asks(transport, simulator)("a")
        order = {"mode": "throttle", "latency_seconds": 2}
        changed = await send(transport, "POST", simulator.control_url, order)
        shown = (await send(transport, "GET", simulator.control_url, None)).json()
        await send(transport, "POST", simulator.control_url, {"reset": True})
        behaviour, counters = simulator.behaviour, simulator.counters

    assert changed.json()["mode"] == shown["mode"] == "throttle"
    assert shown["counters"]["calls_by_content"] == {content_key("a"): 1}
    assert shown["counters"]["answered"] == {"200": 1}
    assert (behaviour.mode, behaviour.latency_seconds, counters.started) == ("throttle", 2, 0)


@pytest.mark.parametrize(
    "order", [{"mode": "sulk"}, {"moode": "ok"}, {"latency_seconds": "1"}, {"concurrency": True}, 7]
)
async def test_an_order_it_does_not_know_changes_nothing(
    transport: Transport, order: object
) -> None:
    async with Simulator("deepseek", control_port=0) as simulator:
        answer = await send(transport, "POST", simulator.control_url, order)
        behaviour = simulator.behaviour

    assert answer.status_code == 400
    assert behaviour == Behaviour()


async def test_as_a_process_it_says_where_it_is_and_ends_cleanly_on_sigterm(
    transport: Transport,
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outlast.drill.simulator", "--family", "openai"),
        *("--mode", "hang"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    where = orjson.loads(await process.stdout.readline())
    shown = await send(transport, "GET", where["control_url"], None)
    url = f"{where['base_url']}/chat/completions"
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    hanging = asyncio.create_task(send(transport, "POST", url, body, authorization="Bearer k"))
    async with asyncio.timeout(10):
        while not (await send(transport, "GET", where["control_url"], None)).json()["counters"][
            "in_flight"
        ]:
            pass
    process.send_signal(signal.SIGTERM)
    with pytest.raises(httpx.TransportError):
        await hanging
    _, errors = await process.communicate()

    assert shown.json()["base_url"] == where["base_url"]
    assert (process.returncode, errors) == (0, b"")


async def embed(transport: Transport, simulator: Simulator, body: object) -> httpx.Response:
    """One question for embeddings."""
    url = f"{simulator.base_url}/embeddings"
    return await send(transport, "POST", url, body, authorization="Bearer some-key")


@pytest.mark.parametrize("family", ["openai", "compatible"])
async def test_the_same_text_has_the_same_vector_whenever_it_is_asked(
    transport: Transport, family: str
) -> None:
    body = {"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 4}
    async with Simulator(family) as simulator:
        first = await embed(transport, simulator, body)
        again = await embed(transport, simulator, body)
        counters = simulator.counters

    answer = orjson.loads(first.content)
    vectors = [each["embedding"] for each in answer["data"]]
    assert first.content == again.content
    assert [len(vector) for vector in vectors] == [4, 4]
    assert vectors[0] != vectors[1]
    assert answer["usage"]["prompt_tokens"] > 0
    assert counters.calls_of("b") == 2


async def test_embeddings_come_as_base64_when_asked_for_so(transport: Transport) -> None:
    body = {"model": "text-embedding-3-small", "input": "a", "encoding_format": "base64"}
    async with Simulator("openai") as simulator:
        answer = orjson.loads((await embed(transport, simulator, body)).content)

    assert len(base64.b64decode(answer["data"][0]["embedding"])) == 4 * 16


async def test_an_answer_with_embeddings_is_not_what_a_json_writer_would_make_of_it(
    transport: Transport,
) -> None:
    """So that a test of the very bytes can fail."""
    body = {"model": "text-embedding-3-small", "input": "a"}
    async with Simulator("openai") as simulator:
        content = (await embed(transport, simulator, body)).content

    assert orjson.dumps(orjson.loads(content)) != content


@pytest.mark.parametrize(
    ("family", "answer"),
    [
        ("deepseek", {"error_msg": "Not Found. Please check the configuration."}),
        (
            "anthropic",
            {
                "type": "error",
                "error": {"type": "not_found_error", "message": "Not Found"},
                "request_id": "req_simulated",
            },
        ),
    ],
)
async def test_who_has_no_embeddings_says_so_in_its_own_words(
    transport: Transport, family: str, answer: dict[str, object]
) -> None:
    async with Simulator(family) as simulator:
        response = await embed(transport, simulator, {"model": "m", "input": "a"})
        counters = simulator.counters

    assert (response.status_code, orjson.loads(response.content)) == (404, answer)
    assert (counters.started, counters.answered) == (1, {404: 1})


async def test_embeddings_of_nothing_are_refused(transport: Transport) -> None:
    async with Simulator("openai") as simulator:
        response = await embed(transport, simulator, {"model": "text-embedding-3-small"})

    assert response.status_code == 400
