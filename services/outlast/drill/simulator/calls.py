"""What becomes of each call of a simulated provider."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import orjson
from aiohttp import web

from outlast.core.capability import CHAT, EMBEDDINGS, Operation
from outlast.drill.simulator.answers import Asked, Reply, embeddings, text_for, tokens_for
from outlast.drill.simulator.behaviour import Behaviour, Mode
from outlast.drill.simulator.counters import Tally
from outlast.drill.simulator.dialects import Dialect
from outlast.drill.simulator.minute import Minute

__all__ = ["Calls"]

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
REFUSING: Final = frozenset({"throttle", "quota", "bad_key", "reject", "too_long"})
"""The modes in which nobody is let in; each has the name of its error."""
FAILING: Final = frozenset({"unavailable", "outage"})


class Calls:
    """Answers calls as the behaviour of the moment has it, and counts them."""

    def __init__(
        self,
        dialect: Dialect,
        behaviour: Behaviour,
        seed: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with this behaviour.

        Args:
            dialect: the family's server.
            behaviour: to begin with.
            seed: for the spread of latencies and the share of errors.
            clock: seconds.
        """
        self.behaviour = behaviour
        self.tally = Tally(clock)
        self._dialect = dialect
        self._dice = random.Random(seed)
        self._clock = clock
        self._began = clock()
        self._minute = Minute()
        self._numbers = itertools.count(1)

    def behave(self, behaviour: Behaviour) -> None:
        """Take on a behaviour; ``flap`` begins anew, up, when it was not there before."""
        before = (self.behaviour.mode, self.behaviour.flap_seconds)
        if before != (behaviour.mode, behaviour.flap_seconds):
            self._began = self._clock()
        self.behaviour = behaviour

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
        self._count(asked)
        self.tally.ended()
        response = self._sent(self._error("no_such_path"), asked)
        self.tally.answered(response.status)
        return response

    async def _answer(self, request: web.Request, operation: Operation) -> web.StreamResponse:
        asked = _asked(await request.read(), request.headers, next(self._numbers), operation)
        self._count(asked)
        try:
            response = await self._respond(request, asked)
        finally:
            self.tally.ended()
        if request.transport is not None and not request.transport.is_closing():
            self.tally.answered(response.status)
        return response

    def _count(self, asked: Asked) -> None:
        self.tally.began(asked.content, key=asked.key, is_well=self._mode(self.behaviour) == "ok")

    def _mode(self, behaviour: Behaviour) -> Mode:
        return behaviour.mode_after(self._clock() - self._began)

    async def _respond(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        behaviour = self.behaviour
        refused = self._refused(asked, behaviour)
        if refused is not None:
            return self._sent(refused, asked)
        tokens, now = tokens_for(asked), self._clock()
        if (limit := self._above(behaviour, tokens, now)) is not None:
            return self._sent(self._over(limit), asked)
        minutes = (self._minute, self.tally.admitted)
        admitted = [minute.admit(now, tokens) for minute in minutes]
        used = 0
        try:
            response = await self._behaved(request, asked, behaviour)
            used = tokens if response.status == 200 else 0
        finally:
            self.tally.spent(used)
            for minute, each in zip(minutes, admitted, strict=True):
                minute.settle(each, used)
        return response

    def _above(self, behaviour: Behaviour, tokens: int, now: float) -> str | None:
        """The limit by the minute that one more call would exceed."""
        requests, limit = behaviour.requests_per_minute, behaviour.tokens_per_minute
        if requests and self._minute.requests(now) >= requests:
            return "requests"
        return "tokens" if limit and self._minute.tokens(now) + tokens > limit else None

    def _over(self, limit: str) -> Reply:
        self.tally.refused(limit)
        return self._dialect.refusal(limit)

    async def _behaved(
        self, request: web.Request, asked: Asked, behaviour: Behaviour
    ) -> web.StreamResponse:
        mode = self._mode(behaviour)
        if mode == "hang" or (mode == "outage" and asked.number % 2):
            return await _hang(request, behaviour.blank_line_seconds)
        if mode == "ok" and self._fails(behaviour):
            mode = "unavailable"
        if mode in FAILING:
            return self._sent(self._error("unavailable"), asked)
        await asyncio.sleep(self._latency(behaviour))
        return await self._completed(request, asked, behaviour)

    def _fails(self, behaviour: Behaviour) -> bool:
        # Not rolled in vain: with one seed the latencies stay what they were without errors.
        return behaviour.error_share > 0 and self._dice.random() < behaviour.error_share

    def _refused(self, asked: Asked, behaviour: Behaviour) -> Reply | None:
        if asked.key == behaviour.bad_key or (self._dialect.needs_key and not asked.key):
            return self._error("bad_key")
        if behaviour.reject_marker and behaviour.reject_marker in asked.content:
            return self._error("reject")
        if behaviour.concurrency and self.tally.in_flight > behaviour.concurrency:
            return self._over("concurrency")
        fault = self._dialect.fault(asked)
        if fault is None and behaviour.mode in REFUSING:
            return self._error(behaviour.mode)
        return fault

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
        return self._dialect.completion(asked, text_for(asked))

    def _latency(self, behaviour: Behaviour) -> float:
        if behaviour.mode == "slow":
            return behaviour.slow_seconds
        spread = self._dice.random() * behaviour.latency_spread_seconds
        seconds = behaviour.latency_seconds + spread
        # The other modes that get here have nothing of "ok" but their latency.
        return seconds * behaviour.slow_factor if behaviour.mode in ("ok", "flap") else seconds

    def _error(self, kind: str) -> Reply:
        return self._dialect.errors[kind]

    def _sent(self, reply: Reply, asked: Asked) -> web.Response:
        headers = {self._dialect.request_id_header: f"req_{asked.number}"}
        throttled = [self._dialect.refusal(limit) for limit in ("requests", "tokens")]
        if reply in throttled and self._dialect.retry_after:
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
