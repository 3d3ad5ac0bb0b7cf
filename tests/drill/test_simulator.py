"""The simulated provider itself: modes, counters, orders over HTTP, and as a process."""

import asyncio
import base64
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.classify import classify
from outlast.core.verdict import Answered
from outlast.drill.simulator import Behaviour, Counters, Simulator, __main__, content_key
from outlast.drill.simulator.counters import Tally
from outlast.drill.simulator.minute import Minute
from outlast.drill.simulator.seconds import KEPT, Seconds, SecondsTally
from outlast.edges.providers.transport import Transport
from outlast_schemas.attempt import VerdictWord


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """A transport with a pool of its own."""
    made = Transport()
    yield made
    await made.aclose()


@dataclass
class Clock:
    """Seconds that pass only when told."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


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


def asks(transport: Transport, simulator: Simulator, key: str = "some-key") -> Ask:
    """What sends one question to a provider of OpenAI's kind."""

    async def ask(content: str) -> httpx.Response:
        body = {"model": "m", "messages": [{"role": "user", "content": content}]}
        url = f"{simulator.base_url}/chat/completions"
        return await send(transport, "POST", url, body, authorization=f"Bearer {key}")

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
    assert simulator.counters.refused == {"concurrency": 1}


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
    "order",
    [
        {"mode": "sulk"},
        {"moode": "ok"},
        {"latency_seconds": "1"},
        {"concurrency": True},
        {"requests_per_minute": 1.5},
        {"error_share": 1.5},
        {"error_share": -0.1},
        {"flap_seconds": 0},
        7,
    ],
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


# --- limits by the minute -----------------------------------------------------------------------


async def statuses(ask: Ask, count: int) -> list[int]:
    """What one question after the other is answered with."""
    return [(await ask("Hello")).status_code for _ in range(count)]


async def test_above_its_requests_per_minute_it_throttles_until_the_minute_is_over(
    transport: Transport,
) -> None:
    clock = Clock()
    behaviour = Behaviour(requests_per_minute=3, retry_after_seconds=7.0)
    async with Simulator("openai", behaviour=behaviour, clock=clock) as simulator:
        ask = asks(transport, simulator)
        first = await statuses(ask, 1)
        clock.now += 30
        then = await statuses(ask, 3)
        clock.now += 29.999
        before = await statuses(ask, 1)
        clock.now += 0.001
        # the first one is a minute ago; the two of half a minute ago still count
        after = await statuses(ask, 2)
        last = await ask("Hello")
        counters = simulator.counters

    assert (first, then, before, after) == ([200], [200, 200, 429], [429], [200, 429])
    assert last.headers["retry-after"] == "7"
    assert counters.answered == {200: 4, 429: 4}
    assert counters.refused == {"requests": 4}
    assert (counters.most_requests_per_minute, counters.most_arrived_per_minute) == (3, 7)


async def test_above_its_tokens_per_minute_it_throttles(transport: Transport) -> None:
    clock = Clock()
    async with Simulator("openai", clock=clock) as simulator:
        ask = asks(transport, simulator)
        each = (await ask("Hello")).json()["usage"]["total_tokens"]
        await simulator.set_mode("ok", tokens_per_minute=3 * each)
        then = await statuses(ask, 3)
        clock.now += 60
        after = await statuses(ask, 4)
        counters = simulator.counters

    assert (then, after) == ([200, 200, 429], [200, 200, 200, 429])
    assert counters.tokens == 6 * each
    assert counters.refused == {"tokens": 2}
    assert counters.most_tokens_per_minute == 3 * each


@pytest.mark.parametrize(
    ("family", "has_retry_after"),
    [("openai", True), ("anthropic", True), ("deepseek", False), ("compatible", False)],
)
async def test_a_limit_speaks_as_its_family_does(
    transport: Transport, family: str, has_retry_after: bool
) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    path = "/v1/messages" if family == "anthropic" else "/chat/completions"
    async with Simulator(family, behaviour=Behaviour(requests_per_minute=1)) as simulator:
        await send(transport, "POST", simulator.base_url + path, body, **headers)
        refused = await send(transport, "POST", simulator.base_url + path, body, **headers)
    answered = Answered(
        status=refused.status_code,
        headers=dict(refused.headers),
        body=refused.content,
        payload=refused.json(),
    )

    assert refused.status_code == 429
    assert ("retry-after" in refused.headers) == has_retry_after
    assert classify(family, answered, 0.0).word is VerdictWord.RETRY_LATER


async def test_openai_says_which_limit_it_was_and_when_to_come_back(transport: Transport) -> None:
    async with Simulator("openai") as simulator:
        ask = asks(transport, simulator)
        await simulator.set_mode("ok", tokens_per_minute=1)
        tokens = await ask("Hello")
        await simulator.set_mode("ok", tokens_per_minute=0, requests_per_minute=1)
        await ask("Hello")
        requests = await ask("Hello")
    refused = [tokens, requests]

    assert [each.json()["error"]["type"] for each in refused] == ["tokens", "requests"]
    assert {each.json()["error"]["code"] for each in refused} == {"rate_limit_exceeded"}
    assert [each.headers["retry-after"] for each in refused] == ["1", "1"]


async def test_what_was_not_answered_has_used_no_tokens(transport: Transport) -> None:
    async with Simulator("openai", behaviour=Behaviour(mode="hang")) as simulator:
        ask = asks(transport, simulator)
        hanging = asyncio.create_task(ask("x" * 4_000))
        await until(lambda: simulator.counters.in_flight == 1)
        expected = simulator.counters.most_tokens_per_minute
        hanging.cancel()
        await until(lambda: simulator.counters.in_flight == 0)
        await simulator.set_mode("unavailable")
        await ask("x" * 4_000)
        counters = simulator.counters

    assert expected > 1_000
    assert (counters.tokens, counters.most_tokens_per_minute) == (0, 0)
    assert counters.most_requests_per_minute == 2


async def test_embeddings_count_the_tokens_of_all_their_inputs(transport: Transport) -> None:
    body = {"model": "text-embedding-3-small", "input": ["x" * 400, "y" * 800]}
    async with Simulator("openai") as simulator:
        answer = orjson.loads((await embed(transport, simulator, body)).content)
        counters = simulator.counters

    assert counters.tokens == answer["usage"]["total_tokens"] == 300


async def test_who_is_refused_for_another_reason_uses_up_no_limit(transport: Transport) -> None:
    async with Simulator("openai", behaviour=Behaviour(requests_per_minute=1)) as simulator:
        ask = asks(transport, simulator)
        for mode in ("throttle", "quota", "bad_key", "reject", "too_long"):
            await simulator.set_mode(mode)
            await ask("Hello")
        await ask("please REJECT ME")
        await simulator.set_mode("ok")
        answer = await ask("Hello")
        counters = simulator.counters

    assert answer.status_code == 200
    assert (counters.most_requests_per_minute, counters.most_arrived_per_minute) == (1, 7)


async def test_counting_anew_does_not_give_the_limit_back(transport: Transport) -> None:
    async with Simulator("openai", behaviour=Behaviour(requests_per_minute=2)) as simulator:
        ask = asks(transport, simulator)
        before = await statuses(ask, 2)
        simulator.reset_counters()
        after = await statuses(ask, 1)
        counters = simulator.counters

    assert (before, after) == ([200, 200], [429])
    assert (counters.most_requests_per_minute, counters.most_arrived_per_minute) == (0, 1)
    assert counters.tokens == 0


def test_what_is_settled_when_its_minute_is_over_changes_no_other() -> None:
    minute = Minute()
    first, second = minute.admit(0.0, 100), minute.admit(59.0, 10)
    before = minute.tokens(60.0)
    minute.settle(first, 0)
    minute.settle(second, 7)

    assert (before, minute.tokens(60.0), minute.tokens(119.0)) == (10, 7, 0)
    assert minute.most_tokens == 110


STEPS = st.sampled_from([0.0, 0.125, 1.0, 20.0, 30.0, 59.875, 60.0, 60.125])
"""Seconds that a float holds exactly."""


@settings(deadline=None)
@given(st.lists(st.tuples(STEPS, st.integers(0, 500), st.integers(0, 500)), max_size=60))
def test_the_most_of_a_sliding_minute_is_that_of_all_minutes(
    requests: list[tuple[float, int, int]],
) -> None:
    """Against every minute that begins with a request."""
    minute, now, all_ = Minute(), 0.0, list[tuple[float, int]]()
    for step, expected, used in requests:
        now += step
        minute.settle(minute.admit(now, expected), used)
        all_.append((now, used))
    windows = [[used for at, used in all_ if begin <= at < begin + 60] for begin, _ in all_]

    assert minute.most_requests == max(map(len, windows), default=0)
    assert minute.most_tokens == max(map(sum, windows), default=0)


# --- errors, slowness, flapping -----------------------------------------------------------------


async def test_a_share_of_the_calls_fails_and_with_one_seed_the_same_ones(
    transport: Transport,
) -> None:
    async def drawn(seed: int) -> list[int]:
        behaviour = Behaviour(error_share=0.3)
        async with Simulator("openai", behaviour=behaviour, seed=seed) as simulator:
            return await statuses(asks(transport, simulator), 200)

    first, again, other = await drawn(1), await drawn(1), await drawn(2)

    assert first == again != other
    assert set(first) == {200, 503}
    assert 40 <= first.count(503) <= 80


async def test_a_share_of_errors_changes_nothing_but_the_mode_ok(transport: Transport) -> None:
    behaviour = Behaviour(mode="reject", error_share=1.0)
    async with Simulator("openai", behaviour=behaviour) as simulator:
        ask = asks(transport, simulator)
        rejected = await statuses(ask, 1)
        await simulator.set_mode("empty")
        empty = await statuses(ask, 1)
        await simulator.set_mode("ok")
        failed = await statuses(ask, 2)

    assert (rejected, empty, failed) == ([400], [200], [503, 503])


async def test_a_brownout_multiplies_the_latency(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    behaviour = Behaviour(latency_seconds=0.5, slow_factor=10.0, slow_seconds=3.0)
    async with Simulator("openai", behaviour=behaviour) as simulator:
        ask = asks(transport, simulator)
        monkeypatch.setattr("outlast.drill.simulator.calls.asyncio.sleep", sleep)
        await ask("Hello")
        await simulator.set_mode("slow")
        await ask("Hello")
        await simulator.set_mode("empty")
        await ask("Hello")
        monkeypatch.undo()

    assert [seconds for seconds in slept if seconds] == [5.0, 3.0, 0.5]


async def test_flapping_it_is_up_and_down_in_turn(transport: Transport) -> None:
    clock = Clock()
    async with Simulator("openai", clock=clock) as simulator:
        ask = asks(transport, simulator)
        clock.now += 25  # it begins to flap when it is told to, not when it started
        await simulator.set_mode("flap", flap_seconds=20.0)
        seen = list[int]()
        for step in (0, 19.9, 0.1, 19.9, 0.1, 20, 20):
            clock.now += step
            seen += await statuses(ask, 1)
        counters = simulator.counters

    assert seen == [200, 200, 503, 503, 200, 503, 200]
    assert counters.calls_while_unwell == 3


async def test_another_order_does_not_begin_the_flapping_anew(transport: Transport) -> None:
    clock = Clock()
    behaviour = Behaviour(mode="flap", flap_seconds=20.0)
    async with Simulator("openai", behaviour=behaviour, clock=clock) as simulator:
        ask = asks(transport, simulator)
        clock.now += 15
        await simulator.behave(simulator.behaviour.changed({"latency_seconds": 0.0}))
        clock.now += 10
        down = await statuses(ask, 1)
        await simulator.set_mode("flap", flap_seconds=5.0)
        up = await statuses(ask, 1)

    assert (down, up) == ([503], [200])


# --- counts -------------------------------------------------------------------------------------


async def test_calls_are_counted_by_the_second(transport: Transport) -> None:
    clock = Clock()
    behaviour = Behaviour(requests_per_minute=3)
    async with Simulator("openai", behaviour=behaviour, clock=clock) as simulator:
        ask = asks(transport, simulator)
        await statuses(ask, 2)
        clock.now += 2.5
        await statuses(ask, 2)
        await ask("REJECT ME")
        clock.now += 1
        seconds = simulator.counters.seconds

    assert seconds.first == 0
    assert seconds.arrived == (2, 0, 3, 0)
    assert seconds.served == (2, 0, 1, 0)
    assert seconds.refused == (0, 0, 1, 0)
    assert seconds.failed == (0, 0, 1, 0)
    assert seconds.in_flight == (1, 0, 1, 0)


def test_calls_in_flight_are_known_for_the_seconds_in_which_nothing_happens() -> None:
    clock = Clock()
    tally = Tally(clock)
    for _ in range(3):
        tally.began("a")
    tally.ended()
    clock.now += 3
    tally.ended()
    clock.now += 1
    seconds = tally.read().seconds

    assert seconds.in_flight == (3, 2, 2, 2, 1)
    assert seconds.most_in_flight() == 3
    assert seconds.most_in_flight(1) == 2
    assert seconds.most_in_flight(4, 5) == 1
    assert seconds.most_in_flight(9) == 0


def test_call_seconds_add_up_how_many_were_in_flight_for_how_long() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.began("a")
    clock.now += 2
    tally.began("b")
    clock.now += 3
    tally.ended()
    clock.now += 1
    read = [tally.read().call_seconds, tally.read().call_seconds]
    tally.reset()
    clock.now += 4
    tally.ended()
    clock.now += 9

    assert read == [2 + 2 * 3 + 1] * 2
    assert tally.read().call_seconds == 4


def test_counted_anew_what_is_in_flight_stays_so() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.began("a")
    clock.now += 5
    tally.reset()
    clock.now += 1

    assert tally.read().seconds.in_flight == (1, 1)
    assert tally.read().seconds.arrived == (0, 0)


def test_the_seconds_of_two_hours_are_kept() -> None:
    tally = SecondsTally(0.0, 0)
    for second in (0, 1, 7_199):
        tally.count("arrived", second)
    whole = tally.read(7_199.0)
    later = tally.read(7_200.0)
    tally.flying(4, 100_000.0)
    long_after = tally.read(100_000.0)

    assert (whole.first, len(whole.arrived), whole.arrived[:2]) == (0, KEPT, (1, 1))
    assert (later.first, len(later.arrived), later.arrived[:2]) == (1, KEPT, (1, 0))
    assert later.arrived[7_199 - later.first] == 1
    assert (long_after.first, len(long_after.in_flight)) == (100_001 - KEPT, KEPT)
    assert sum(long_after.arrived) == 0
    assert long_after.most_in_flight(100_000) == 4


async def test_callers_are_told_apart_by_their_keys(transport: Transport) -> None:
    async with Simulator("openai") as simulator:
        await statuses(asks(transport, simulator, "one"), 2)
        await statuses(asks(transport, simulator, "two"), 1)
        counters = simulator.counters

    assert [counters.calls_with(key) for key in ("one", "two", "three")] == [2, 1, 0]
    # a key is a secret, even here
    assert "one" not in str(counters.to_json())


async def test_calls_that_came_while_it_was_not_well_are_counted(transport: Transport) -> None:
    async with Simulator("openai") as simulator:
        ask = asks(transport, simulator)
        await statuses(ask, 2)
        await simulator.set_mode("unavailable")
        await statuses(ask, 3)
        await simulator.set_mode("ok", error_share=1.0)
        await statuses(ask, 1)
        counters = simulator.counters

    assert (counters.started, counters.calls_while_unwell) == (6, 3)


async def test_the_control_endpoint_shows_all_counts(transport: Transport) -> None:
    async with Simulator("openai", control_port=0) as simulator:
        await asks(transport, simulator)("Hello")
        shown = (await send(transport, "GET", simulator.control_url, None)).json()["counters"]
        counters = simulator.counters

    assert shown.keys() == set(Counters.__slots__)
    assert shown["calls_by_key"] == {content_key("some-key"): 1}
    assert shown["tokens"] == counters.tokens > 0
    assert shown["most_requests_per_minute"] == shown["most_arrived_per_minute"] == 1
    assert sum(shown["seconds"]["served"]) == 1
    assert shown["seconds"].keys() == set(Seconds.__slots__)


# --- as a process -------------------------------------------------------------------------------


def test_each_number_of_the_behaviour_is_an_argument() -> None:
    given = ["--family", "openai", "--mode", "flap"]
    for name, value in (
        ("latency-seconds", "0.1"),
        ("latency-spread-seconds", "0.2"),
        ("slow-seconds", "3"),
        ("slow-factor", "10"),
        ("error-share", "0.3"),
        ("flap-seconds", "5"),
        ("retry-after-seconds", "9"),
        ("concurrency", "7"),
        ("requests-per-minute", "60"),
        ("tokens-per-minute", "1000"),
    ):
        given += [f"--{name}", value]

    assert __main__._arguments(given).behaviour == Behaviour(
        mode="flap",
        latency_seconds=0.1,
        latency_spread_seconds=0.2,
        slow_seconds=3.0,
        slow_factor=10.0,
        error_share=0.3,
        flap_seconds=5.0,
        retry_after_seconds=9.0,
        concurrency=7,
        requests_per_minute=60,
        tokens_per_minute=1_000,
    )


def test_without_arguments_a_process_behaves_as_the_object_does() -> None:
    assert __main__._arguments(["--family", "openai"]).behaviour == Behaviour()


def test_an_argument_that_makes_no_sense_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__._arguments(["--family", "openai", "--error-share", "30"])

    assert ended.value.code == 2
    assert "error_share is from 0 to 1, not 30" in capsys.readouterr().err
