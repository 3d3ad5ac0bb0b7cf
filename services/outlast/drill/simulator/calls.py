"""What becomes of each call of a simulated provider."""

import asyncio
import itertools
import random
from collections.abc import Mapping
from functools import partial
from typing import Final

import orjson
from aiohttp import web

from outlast.core.capability import CHAT, EMBEDDINGS, Operation
from outlast.drill.simulator.answers import Asked, Reply, embeddings
from outlast.drill.simulator.behaviour import Behaviour
from outlast.drill.simulator.counters import Tally
from outlast.drill.simulator.dialects import Dialect

__all__ = ["Calls"]

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
ERROR_OF_MODE: Final = {
    "unavailable": "unavailable",
    "outage": "unavailable",
    "throttle": "throttle",
    "quota": "quota",
    "bad_key": "bad_key",
    "reject": "reject",
}


class Calls:
    """Answers calls as the behaviour of the moment has it, and counts them."""

    def __init__(self, dialect: Dialect, behaviour: Behaviour, seed: int) -> None:
        """Begin with this behaviour; ``seed`` is for the spread of latencies."""
        self.behaviour = behaviour
        self.tally = Tally()
        self._dialect = dialect
        self._dice = random.Random(seed)
        self._numbers = itertools.count(1)

    def app(self) -> web.Application:
        """The family's own paths; a call of any other is told so in the family's words."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        for path in self._dialect.paths:
            app.router.add_post(path, partial(self._answer, operation=CHAT))
        for path in self._dialect.embeddings:
            app.router.add_post(path, partial(self._answer, operation=EMBEDDINGS))
        app.router.add_post("/{other:.*}", self._lost)
        return app

    async def _lost(self, request: web.Request) -> web.StreamResponse:
        asked = _asked(await request.read(), request.headers, next(self._numbers), CHAT)
        self.tally.began(asked.content)
        self.tally.ended()
        response = self._sent(self._error("no_such_path"), asked)
        self.tally.answered(response.status)
        return response

    async def _answer(self, request: web.Request, operation: Operation) -> web.StreamResponse:
        asked = _asked(await request.read(), request.headers, next(self._numbers), operation)
        self.tally.began(asked.content)
        try:
            response = await self._respond(request, asked)
        finally:
            self.tally.ended()
        if request.transport is not None and not request.transport.is_closing():
            self.tally.answered(response.status)
        return response

    async def _respond(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        behaviour = self.behaviour
        refused = self._refused(asked, behaviour)
        if refused is not None:
            return self._sent(refused, asked)
        if behaviour.mode == "hang" or (behaviour.mode == "outage" and asked.number % 2):
            return await _hang(request, behaviour.blank_line_seconds)
        if (error := ERROR_OF_MODE.get(behaviour.mode)) is not None:
            return self._sent(self._error(error), asked)
        await asyncio.sleep(self._latency(behaviour))
        return await self._completed(request, asked, behaviour)

    def _refused(self, asked: Asked, behaviour: Behaviour) -> Reply | None:
        if asked.key == behaviour.bad_key or (self._dialect.needs_key and not asked.key):
            return self._error("bad_key")
        if behaviour.reject_marker and behaviour.reject_marker in asked.content:
            return self._error("reject")
        if behaviour.concurrency and self.tally.in_flight > behaviour.concurrency:
            return self._error("throttle")
        return self._dialect.fault(asked)

    async def _completed(
        self, request: web.Request, asked: Asked, behaviour: Behaviour
    ) -> web.StreamResponse:
        if behaviour.mode == "empty":
            return web.Response(status=200, content_type="application/json")
        reply = Reply(status=200, body=self._answered(asked))
        if behaviour.mode == "cut":
            return await _cut(request, _written(reply, asked))
        return self._sent(reply, asked)

    def _answered(self, asked: Asked) -> Mapping[str, object]:
        if asked.operation == EMBEDDINGS:
            return embeddings(asked)
        text = f"Simulated answer to: {asked.content[:200]}"
        return self._dialect.completion(asked, text)

    def _latency(self, behaviour: Behaviour) -> float:
        if behaviour.mode == "slow":
            return behaviour.slow_seconds
        spread = self._dice.random() * behaviour.latency_spread_seconds
        return behaviour.latency_seconds + spread

    def _error(self, kind: str) -> Reply:
        return self._dialect.errors[kind]

    def _sent(self, reply: Reply, asked: Asked) -> web.Response:
        headers = {self._dialect.request_id_header: f"req_{asked.number}"}
        if reply is self._dialect.errors["throttle"] and self._dialect.retry_after:
            headers["retry-after"] = f"{self.behaviour.retry_after_seconds:g}"
        return web.Response(
            status=reply.status,
            body=_written(reply, asked),
            headers=headers,
            content_type="application/json",
        )


def _written(reply: Reply, asked: Asked) -> bytes:
    # OpenAI writes its lists of embeddings with line breaks: parsed and written again they differ.
    return orjson.dumps(reply.body, option=orjson.OPT_INDENT_2 if asked.operation != CHAT else 0)


def _asked(raw: bytes, headers: Mapping[str, str], number: int, operation: Operation) -> Asked:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = {}
    body = body if isinstance(body, dict) else {}
    return Asked(
        operation=operation,
        body=body,
        headers=headers,
        key=headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer "),
        content=_last_text(body.get("messages")) or _last_input(body.get("input")),
        number=number,
    )


def _last_text(messages: object) -> str:
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _last_input(given: object) -> str:
    last = given[-1] if isinstance(given, list) and given else given
    return last if isinstance(last, str) else ""


async def _hang(request: web.Request, blank_line_seconds: float) -> web.StreamResponse:
    if not blank_line_seconds:
        await asyncio.Event().wait()  # ended by the connection's end, which cancels us
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b"\n")
        await asyncio.sleep(blank_line_seconds)


async def _cut(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
