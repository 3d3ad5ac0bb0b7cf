"""The probe asks a model for what its jobs ask for, so that an embeddings model recovers too."""

from collections.abc import AsyncIterator, Mapping

import pytest

from outlast.core.breaker import ANSWERED, REACHED
from outlast.core.capability import CHAT, EMBEDDINGS, Operation
from outlast.core.policy import Provider, Target
from outlast.core.verdict import Verdict
from outlast.drill.simulator import Simulator
from outlast.edges.providers.probe import PROBE_SECONDS, ProbedCall
from outlast.edges.providers.transport import Transport
from outlast_schemas.attempt import VerdictWord as W
from outlast_schemas.result import Served
from tests.edges.given import Family, a_call

DOWN = Verdict(word=W.PROVIDER_DOWN, status=503, evidence=True)
BLOCKED = Verdict(word=W.ACCOUNT_BLOCKED, status=403)
UNREACHED = Verdict(word=W.PROVIDER_DOWN, evidence=True)
MISROUTED = Verdict(word=W.MISROUTED, status=404)
REJECTED = Verdict(word=W.JOB_REJECTED, status=400)
FINE = Verdict(word=W.SUCCEEDED, status=200, served=Served(body=b"{}", provider="p", model="m"))


class Provided:
    """A provider whose models answer each operation with one verdict; it notes who asked what."""

    def __init__(self, **verdicts: Verdict) -> None:
        self.verdicts = verdicts
        self.asked: list[tuple[str, Operation]] = []
        self.bodies: list[Mapping[str, object]] = []
        self.seconds: list[float] = []

    async def __call__(
        self,
        body: Mapping[str, object],
        target: Target,
        seconds_left: float,
        operation: Operation,
    ) -> Verdict:
        self.asked.append((target.model, operation))
        self.bodies.append(body)
        self.seconds.append(seconds_left)
        return self.verdicts["chat" if operation == CHAT else "embeddings"]


def probed(
    provided: Provided, family: Family = "compatible", models: tuple[str, ...] = ("m",)
) -> ProbedCall:
    return ProbedCall(Provider(name="p", family=family, base_url="http://p.test"), models, provided)


async def job(call: ProbedCall, operation: Operation, model: str = "m") -> Verdict:
    """One job's call."""
    return await call({"model": "x"}, Target("p", model), 60.0, operation)


async def test_a_model_that_jobs_ask_for_embeddings_is_probed_with_one() -> None:
    provided = Provided(chat=MISROUTED, embeddings=FINE)
    call = probed(provided)
    await job(call, EMBEDDINGS)
    provided.asked.clear()

    assert (await call.probe()).word is W.SUCCEEDED
    assert provided.asked == [("m", EMBEDDINGS)]
    assert provided.bodies[-1] == {"model": "m", "input": "ping"}


async def test_such_a_model_is_not_believed_well_because_it_refuses_chat() -> None:
    """Else the breaker would close and open as long as the outage lasts."""
    provided = Provided(chat=MISROUTED, embeddings=DOWN)
    call = probed(provided)
    await job(call, EMBEDDINGS)

    assert (await call.probe()).word not in ANSWERED


async def test_a_model_for_chat_is_probed_with_a_completion() -> None:
    provided = Provided(chat=DOWN, embeddings=FINE)
    call = probed(provided)
    await job(call, CHAT)
    provided.asked.clear()

    assert await call.probe() is DOWN
    assert provided.asked == [("m", CHAT)]


@pytest.mark.parametrize("chat", [DOWN, BLOCKED])
async def test_of_a_model_that_nothing_is_known_of_an_embedding_proves_health_too(
    chat: Verdict,
) -> None:
    provided = Provided(chat=chat, embeddings=FINE)
    call = probed(provided)

    assert (await call.probe()).word is W.SUCCEEDED
    assert provided.asked == [("m", CHAT), ("m", EMBEDDINGS)]
    assert 0 < provided.seconds[1] <= provided.seconds[0] <= PROBE_SECONDS


async def test_what_a_probe_found_out_is_remembered() -> None:
    provided = Provided(chat=BLOCKED, embeddings=FINE)
    call = probed(provided)
    await call.probe()
    provided.asked.clear()
    await call.probe()

    assert provided.asked == [("m", EMBEDDINGS)]


@pytest.mark.parametrize(
    ("family", "chat", "asked"),
    [
        ("compatible", FINE, [CHAT]),
        # refused for what it asks: the provider is there
        ("compatible", REJECTED, [CHAT]),
        # nobody answered: another question would hang as well
        ("compatible", UNREACHED, [CHAT]),
        ("deepseek", DOWN, [CHAT]),
        ("openai", DOWN, [CHAT, EMBEDDINGS]),
    ],
)
async def test_a_second_question_is_asked_only_where_it_can_tell_more(
    family: Family, chat: Verdict, asked: list[Operation]
) -> None:
    provided = Provided(chat=chat, embeddings=DOWN)

    assert await probed(provided, family).probe() is chat
    assert [operation for _, operation in provided.asked] == asked


@pytest.mark.parametrize(
    ("embeddings", "answered"), [(FINE, True), (MISROUTED, True), (BLOCKED, True), (DOWN, False)]
)
async def test_of_a_model_that_is_not_for_chat_the_embedding_tells_how_the_provider_is(
    embeddings: Verdict, answered: bool
) -> None:
    provided = Provided(chat=MISROUTED, embeddings=embeddings)

    assert ((await probed(provided).probe()).word in REACHED) is answered


async def test_a_failed_probe_teaches_nothing() -> None:
    provided = Provided(chat=DOWN, embeddings=DOWN)
    call = probed(provided)
    await call.probe()
    provided.verdicts["embeddings"] = FINE

    assert (await call.probe()).word is W.SUCCEEDED


async def test_one_success_counts_for_more_than_any_failure() -> None:
    provided = Provided(chat=DOWN, embeddings=FINE)
    call = probed(provided)
    await job(call, CHAT)
    await job(call, EMBEDDINGS)
    await job(call, CHAT)
    provided.asked.clear()
    await call.probe()

    assert provided.asked == [("m", EMBEDDINGS)]


async def test_a_job_that_asks_a_model_for_the_wrong_thing_teaches_nothing() -> None:
    provided = Provided(chat=DOWN, embeddings=MISROUTED)
    call = probed(provided)
    await job(call, EMBEDDINGS)
    provided.asked.clear()
    await call.probe()

    assert provided.asked[0] == ("m", CHAT)


async def test_models_take_turns_and_each_has_its_own_kind() -> None:
    provided = Provided(chat=FINE, embeddings=FINE)
    call = probed(provided, models=("talk", "embed", "talk"))
    await job(call, EMBEDDINGS, "embed")
    provided.asked.clear()
    for _ in range(3):
        await call.probe()

    assert provided.asked == [("talk", CHAT), ("embed", EMBEDDINGS), ("talk", CHAT)]


async def test_where_no_route_names_a_model_the_next_job_is_the_probe() -> None:
    provided = Provided(chat=DOWN, embeddings=DOWN)
    call = probed(provided, models=())
    await job(call, CHAT, "asked-for-by-name")

    assert (await call.probe()).word is W.SUCCEEDED
    assert provided.asked == [("asked-for-by-name", CHAT)]


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """A transport with a pool of its own."""
    made = Transport()
    yield made
    await made.aclose()


@pytest.mark.parametrize("family", ["openai", "compatible"])
@pytest.mark.parametrize("asked_before", [True, False])
async def test_a_provider_of_embeddings_alone_recovers_from_an_outage(
    transport: Transport, family: Family, asked_before: bool
) -> None:
    async with Simulator(family) as simulator:
        provider = Provider(name="p", family=family, base_url=simulator.base_url)
        made = a_call(transport, family, base_url=simulator.base_url)
        call = ProbedCall(provider, ["text-embedding-3-small"], made)
        await simulator.set_mode("unavailable")
        if asked_before:
            await call({"input": "Hi"}, Target("p", "text-embedding-3-small"), 60, EMBEDDINGS)
        during = await call.probe()
        await simulator.set_mode("ok")
        after = await call.probe()

    assert during.word not in ANSWERED
    assert after.word in ANSWERED
