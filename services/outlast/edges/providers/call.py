"""The call of a provider: the job's body made its own, sent once, read, translated and judged."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import httpx
import orjson

from outlast.core.capability import CHAT, EMBEDDINGS, Operation
from outlast.core.classify import classify
from outlast.core.classify.answer import Judge, fault_in_answer
from outlast.core.classify.embeddings import fault_in_embeddings, inputs_in
from outlast.core.policy import Provider, Target
from outlast.core.verdict import Answered, Outcome, Verdict
from outlast.edges.providers.exchange import MAX_ANSWER_BYTES, AnswerTooLarge, Exchange
from outlast.edges.providers.families import FAMILIES, Family
from outlast.edges.providers.family import adapted
from outlast.edges.providers.served import served
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.result import Served

__all__ = ["ProviderCall"]

REMOVED: Final = "[removed]"
SECRET_LENGTH: Final = 8
"""A shorter key is a placeholder for a server that wants some key; an ``x`` is in every text."""


class ProviderCall:
    """Calls one provider, once each time: nothing here is ever sent again."""

    def __init__(
        self,
        provider: Provider,
        api_key: str | None,
        transport: httpx.AsyncBaseTransport,
        now: Callable[[], float],
    ) -> None:
        """Prepare what is the same for every call.

        Args:
            provider: whose family, base URL and clocks count.
            api_key: ``None`` for a server that needs none.
            transport: shared; closed by whoever made it.
            now: epoch seconds.

        Raises:
            ValueError: there is no base URL, or the key cannot stand in a header.
        """
        self._provider = provider
        self._family = FAMILIES[provider.family]
        self._api_key = _checked(api_key)
        self._urls = _urls(provider, self._family)
        self._headers = httpx.Headers(
            {
                "content-type": "application/json",
                "accept": "application/json",
                "accept-encoding": "identity",  # for a few KB, unpacking costs more than it saves
                "user-agent": "outlast",
                **self._family.headers(self._api_key),
            }
        )
        self._extensions = {"timeout": {"connect": provider.clocks.connect_seconds}}
        self._transport = transport
        self._now = now

    async def __call__(
        self,
        body: Mapping[str, object],
        target: Target,
        seconds_left: float,
        operation: Operation = CHAT,
    ) -> Verdict:
        """Call once; whatever the provider does becomes a verdict.

        Cancelling closes the connection, at which most servers stop generating.

        Args:
            body: the job's, in OpenAI's terms.
            target: its model counts; the provider is the one this was made for.
            seconds_left: until the job's deadline, which cuts the call.
            operation: what the body asks for; the family must have it.

        Raises:
            KeyError: the family has no such operation: such a job must not come here.
        """
        url = self._urls[operation]
        try:
            request = self._request(url, self._adapted(body, target.model, operation))
        except (TypeError, ValueError, RecursionError) as error:
            note = f"the request cannot be put into {self._family.name}'s form: {error}"[:200]
            return Verdict(word=VerdictWord.JOB_REJECTED, note=note)
        try:
            outcome = await Exchange(self._provider.clocks, seconds_left).run(
                self._transport, request
            )
        except AnswerTooLarge as error:
            return _too_large(error.status)
        try:
            return self._judged(outcome, target, operation, _judge(body, operation))
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            # The call is paid for: an answer that cannot be read must not lead to another one.
            note = f"the answer cannot be read: {type(error).__name__}"
            return Verdict(word=VerdictWord.AMBIGUOUS, note=note)

    def _judged(
        self, outcome: Outcome, target: Target, operation: Operation, judge: Judge
    ) -> Verdict:
        outcome, answer = self._translated(outcome, operation)
        verdict = classify(self._provider.family, outcome, self._now(), judge)
        if verdict.word is VerdictWord.SUCCEEDED and isinstance(outcome, Answered):
            price = self._provider.prices.get(target.model)
            body = served(target, operation, outcome.payload, answer, price)
            return _succeeded(verdict, body, outcome.first_ms)
        return self._without_key(verdict)

    def _adapted(
        self, body: Mapping[str, object], model: str, operation: Operation
    ) -> dict[str, object]:
        # What the families differ in belongs to chat completions alone.
        return self._family.request(body, model) if operation == CHAT else adapted(body, model)

    def _request(self, url: httpx.URL, body: dict[str, object]) -> httpx.Request:
        return httpx.Request(
            "POST",
            url,
            headers=self._headers,
            # Unlike content= this derives no headers. A copy, because orjson reserves eight bytes
            # for each that it writes and never shrinks them: they would be held during the call.
            stream=httpx.ByteStream(bytes(memoryview(orjson.dumps(body)))),
            extensions=self._extensions,
        )

    def _translated(self, outcome: Outcome, operation: Operation) -> tuple[Outcome, bytes]:
        if not isinstance(outcome, Answered):
            return outcome, b""
        translate = self._family.translate if operation == CHAT else None
        if translate is None or not 200 <= outcome.status < 300:
            return outcome, outcome.body
        payload = translate(outcome.payload, self._now())
        return replace(outcome, payload=payload), orjson.dumps(payload)

    def _without_key(self, verdict: Verdict) -> Verdict:
        key = self._api_key
        if verdict.note is None or key is None or len(key) < SECRET_LENGTH:
            return verdict
        return replace(verdict, note=_without(verdict.note, key))


def _checked(api_key: str | None) -> str | None:
    if api_key is None:
        return None
    key = api_key.strip()  # a file with a key in it ends with a line feed
    if not key or not (key.isascii() and key.isprintable()):
        raise ValueError("the API key is empty or has characters that no header can carry")
    return key


def _urls(provider: Provider, family: Family) -> dict[Operation, httpx.URL]:
    base = provider.base_url or family.base_url
    if not base:
        raise ValueError(f"provider {provider.name} has no base URL")
    paths: dict[Operation, str | None] = {CHAT: family.path, EMBEDDINGS: family.embeddings}
    return {
        operation: httpx.URL(base.rstrip("/") + path)
        for operation, path in paths.items()
        if path is not None
    }


def _judge(body: Mapping[str, object], operation: Operation) -> Judge:
    if operation == CHAT:
        return fault_in_answer
    return partial(fault_in_embeddings, inputs=inputs_in(body))


def _succeeded(verdict: Verdict, answer: Served, first_ms: int | None) -> Verdict:
    # Spelt out: replace() takes five times as long, and this is every job's path.
    return Verdict(
        word=verdict.word,
        status=verdict.status,
        request_id=verdict.request_id,
        served=answer,
        first_ms=first_ms,
    )


def _too_large(status: int | None) -> Verdict:
    # No fault of the provider, and the answer would be as large elsewhere: nobody can serve it.
    note = f"answer larger than {MAX_ANSWER_BYTES // 1024 // 1024} MB"
    return Verdict(word=VerdictWord.JOB_REJECTED, status=status, note=note, is_oversized=True)


def _without(note: str, key: str) -> str:
    note = note.replace(key, REMOVED)
    # The note was cut to its length, perhaps within the key.
    for size in range(len(key) - 1, SECRET_LENGTH - 1, -1):
        if note.endswith((key[:size], f"{key[:size]}…")):
            return note[: note.rindex(key[:size])] + REMOVED
    return note
