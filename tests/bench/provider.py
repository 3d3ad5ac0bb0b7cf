"""A provider that costs little: canned answers after a spread of times, some of them slow.

Every answer says in its text how many milliseconds it took here, so that a bench can subtract it.
``GET`` tells how many calls are in flight, and the most there were.
"""

import asyncio
import random
import sys
from time import perf_counter
from typing import Final, cast

import orjson
import uvloop

SLOW_SHARE: Final = 0.02
SLOW_TIMES: Final = 4
BACKLOG: Final = 8_192
BODY_END: Final = b"\r\n\r\n"


class Meter:
    """How long calls take here, and how many are under way."""

    def __init__(self, shortest: float, longest: float) -> None:
        """Seconds, evenly spread between; one in fifty takes four times the longest."""
        self._shortest, self._longest = shortest, longest
        self._dice = random.Random(7)
        self.in_flight = self.most = 0

    def seconds(self) -> float:
        """Of the next call."""
        if self._dice.random() < SLOW_SHARE:
            return self._longest * SLOW_TIMES
        return self._dice.uniform(self._shortest, self._longest)

    def began(self) -> None:
        """One more is under way."""
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)


class Connection(asyncio.Protocol):
    """One kept-alive connection: a request, its answer, the next request."""

    def __init__(self, meter: Meter) -> None:
        """All connections share one meter."""
        self._meter = meter
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole."""
        self._received += data
        head, end, body = self._received.partition(BODY_END)
        if not end or len(body) < _length(head):
            return
        self._received = b""
        if head.startswith(b"GET"):
            counts = {"in_flight": self._meter.in_flight, "most": self._meter.most}
            self._write(orjson.dumps(counts))
            return
        self._meter.began()
        seconds, began = self._meter.seconds(), perf_counter()
        asyncio.get_running_loop().call_later(seconds, self._answer, began)

    def _answer(self, began: float) -> None:
        self._meter.in_flight -= 1
        self._write(_completion((perf_counter() - began) * 1e3))

    def _write(self, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            head = (
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            )
            self._transport.write(head % len(body) + body)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def _completion(milliseconds: float) -> bytes:
    message = {"role": "assistant", "content": f"{milliseconds:.3f}", "refusal": None}
    return orjson.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_774_820_100,
            "model": "deepseek-flash",
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 250},
        }
    )


async def main(shortest: float, longest: float, port: int) -> None:
    """Serve until killed; the first line of output says that it listens."""
    meter = Meter(shortest, longest)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(meter), "127.0.0.1", port, backlog=BACKLOG)
    print('"process.ready"', flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
