"""One request and its answer, read as it streams and cut when a clock runs out."""

import asyncio
from collections.abc import AsyncIterable, Mapping
from typing import Final

import httpx
import orjson

from outlast.core.policy import Clocks
from outlast.core.verdict import Answered, Cut, MaybeExecuted, NotSent, Outcome
from outlast.edges.providers.clocks import next_cut

__all__ = ["MAX_ANSWER_BYTES", "NOT_SENT", "AnswerTooLarge", "Exchange"]

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""The largest record Outlast can be set to carry; reading on would only fill the memory."""

NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)
"""The errors by which a transport tells that nothing left; after any other it may have run."""

CUT_NOTES: Final = {
    "deadline": "cut by the job's deadline",
    "first_token": "no first token",
    "idle": "the answer began and stood still",
    "total": "the answer did not end",
}


class AnswerTooLarge(Exception):
    """More than :data:`MAX_ANSWER_BYTES` came: the call was cut and has no usable answer."""

    def __init__(self, status: int | None) -> None:
        """Keep the status of the answer."""
        super().__init__(status)
        self.status = status


class Exchange:
    """One call under way: what has come of it and which clock will end it."""

    def __init__(self, clocks: Clocks, seconds_left: float) -> None:
        """Set the clocks; they start with :meth:`run`.

        Args:
            clocks: the provider's.
            seconds_left: until the job's deadline.
        """
        self._clocks = clocks
        self._seconds_left = seconds_left
        self._cut = next_cut(clocks, seconds_left, None)
        self._status: int | None = None
        self._first_ms: int | None = None

    async def run(self, transport: httpx.AsyncBaseTransport, request: httpx.Request) -> Outcome:
        """Send once and say what came of it; cancelling closes the connection.

        Raises:
            AnswerTooLarge: the answer would not fit into any record.
        """
        if self._seconds_left <= 0:
            return Cut(clock="deadline", note="the deadline had passed before the call")
        limit = asyncio.timeout(self._cut.seconds)
        try:
            async with limit:
                return await self._answered(transport, request, limit)
        except TimeoutError:
            if not limit.expired():
                raise
            return Cut(clock=self._cut.clock, note=self._cut_note())
        except NOT_SENT as error:
            return NotSent(note=_described(error))
        except httpx.HTTPError as error:
            return MaybeExecuted(note=_described(error), status=self._status)

    async def _answered(
        self, transport: httpx.AsyncBaseTransport, request: httpx.Request, limit: asyncio.Timeout
    ) -> Answered:
        started = asyncio.get_running_loop().time()
        response = await transport.handle_async_request(request)
        self._status = response.status_code
        headers = _lower_case(response.headers)
        try:
            body = await self._body(_decoded(response, headers), headers, limit, started)
        finally:
            await response.aclose()
        return Answered(
            status=response.status_code,
            headers=headers,
            body=body,
            payload=_parsed(body),
            first_ms=self._first_ms,
        )

    async def _body(
        self,
        stream: AsyncIterable[bytes],
        headers: Mapping[str, str],
        limit: asyncio.Timeout,
        started: float,
    ) -> bytes:
        pieces: list[bytes] = []
        size, whole = 0, headers.get("content-length")
        async for piece in stream:
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise AnswerTooLarge(self._status)
            if not piece.isspace():
                if self._first_ms is None:
                    self._first_ms = _ms_since(started)
                if str(size) != whole:  # else there is nothing more to wait for
                    self._progressed(limit, started)
            elif not pieces:
                continue  # DeepSeek's keep-alive lines before the answer are no part of it
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _progressed(self, limit: asyncio.Timeout, started: float) -> None:
        elapsed = asyncio.get_running_loop().time() - started
        self._cut = next_cut(self._clocks, self._seconds_left, elapsed)
        limit.reschedule(started + self._cut.seconds)

    def _cut_note(self) -> str:
        said = f"{CUT_NOTES[self._cut.clock]} after {self._cut.seconds:.1f} s"
        return said if self._status is None else f"HTTP {self._status}: {said}"


def _ms_since(started: float) -> int:
    return int((asyncio.get_running_loop().time() - started) * 1000)


def _lower_case(headers: httpx.Headers) -> dict[str, str]:
    # A plain dict: the few look-ups in httpx's own, which is a list, cost more than making it.
    return {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in headers.raw}


def _decoded(response: httpx.Response, headers: Mapping[str, str]) -> AsyncIterable[bytes]:
    if "content-encoding" in headers or not isinstance(response.stream, httpx.AsyncByteStream):
        return response.aiter_bytes()
    return response.stream


def _parsed(body: bytes) -> object | None:
    try:
        parsed: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed


def _described(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
