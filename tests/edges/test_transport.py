"""The transport on real sockets: what is never called "not sent" once bytes may have left."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from outlast.drill.simulator.server import free_port
from outlast.edges.providers.exchange import NOT_SENT
from outlast.edges.providers.transport import TCP_KEEPIDLE, Transport, keeping_alive

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def server(conversation: Conversation) -> AsyncIterator[str]:
    """A server that treats each connection so, once it has read a request."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await conversation(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    port = free_port()
    async with await asyncio.start_server(converse, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """A transport with a pool of its own."""
    made = Transport()
    yield made
    await made.aclose()


async def post(transport: Transport, url: str, content: bytes = b"{}") -> tuple[int, bytes]:
    """Call and read to the end."""
    request = httpx.Request("POST", url, content=content, extensions={"timeout": {"connect": 0.2}})
    response = await transport.handle_async_request(request)
    try:
        return response.status_code, await response.aread()
    finally:
        await response.aclose()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The head, and the body that Content-Length announces."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def replies(raw: bytes, then: Callable[[asyncio.StreamWriter], None]) -> Conversation:
    """Answer with these bytes, then do this."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(raw)
        await writer.drain()
        then(writer)

    return conversation


def close(writer: asyncio.StreamWriter) -> None:
    """End the connection in good order."""
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """End it by RST."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_refused_connection_was_not_sent(transport: Transport) -> None:
    with pytest.raises(httpx.ConnectError):
        await post(transport, f"http://127.0.0.1:{free_port()}/v1")


async def test_an_unknown_name_was_not_sent(transport: Transport) -> None:
    with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)):
        await post(transport, "http://nobody.invalid/v1")


async def test_a_url_that_is_not_http_was_not_sent(transport: Transport) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await post(transport, "ftp://127.0.0.1/v1")


async def test_a_failed_tls_handshake_was_not_sent(transport: Transport) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with server(plain) as url:
        with pytest.raises(httpx.ConnectError):
            await post(transport, url.replace("http:", "https:"))


async def test_a_handshake_cut_off_was_not_sent(transport: Transport) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        reset(writer)

    async with server(cut) as url:
        with pytest.raises(httpx.ConnectError):
            await post(transport, url.replace("http:", "https:"))


async def test_a_connection_that_takes_too_long_was_not_sent(transport: Transport) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # TCP stands, the TLS handshake never comes

    async with server(silent) as url:
        with pytest.raises(httpx.ConnectTimeout):
            await post(transport, url.replace("http:", "https:"))


@pytest.mark.parametrize(
    ("raw", "end", "kind"),
    [
        (b"", close, httpx.RemoteProtocolError),
        (b"", reset, httpx.ReadError),
        (b"HELO there\r\n\r\n", close, httpx.RemoteProtocolError),
        (HEAD + b"Content-Length: 100\r\n\r\n{", close, httpx.RemoteProtocolError),
        (HEAD + b"Content-Length: 100\r\n\r\n{", reset, httpx.TransportError),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", close, httpx.RemoteProtocolError),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", close, httpx.RemoteProtocolError),
    ],
    ids=["closed", "reset", "garbage", "cut", "reset-in-body", "bad-chunk", "cut-chunk"],
)
async def test_after_sending_every_loss_may_have_been_executed(
    transport: Transport,
    raw: bytes,
    end: Callable[[asyncio.StreamWriter], None],
    kind: type[httpx.TransportError],
) -> None:
    async with server(replies(raw, end)) as url:
        with pytest.raises(kind) as caught:
            await post(transport, url)

    assert not isinstance(caught.value, NOT_SENT)


async def test_a_kept_connection_that_closes_under_the_next_call_may_have_executed_it(
    transport: Transport,
) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
        await read_request(reader)  # the second call: read, perhaps run, never answered

    async with server(once) as url:
        first = await post(transport, url)
        with pytest.raises(httpx.RemoteProtocolError):
            await post(transport, url)

    assert first == (200, b"{}")


async def test_connections_are_used_again(transport: Transport) -> None:
    connections = 0

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await read_request(reader):
            writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")

    async with server(keep) as url:
        answers = [await post(transport, url) for _ in range(5)]
        await transport.aclose()

    assert answers == [(200, b"{}")] * 5
    assert connections == 1


async def test_cancelling_a_call_closes_its_connection(transport: Transport) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        await reader.read()  # until the client closes
        gone.set()

    async with server(wait) as url:
        call = asyncio.create_task(post(transport, url))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await gone.wait()

    assert gone.is_set()


async def test_a_redirect_is_an_answer_and_not_followed(transport: Transport) -> None:
    moved = b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"

    async with server(replies(moved, close)) as url:
        assert await post(transport, url) == (307, b"")


async def test_a_request_of_megabytes_arrives_whole_and_unchunked(transport: Transport) -> None:
    arrived = b""

    async def measure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        arrived = await read_request(reader)
        writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
        await writer.drain()

    async with server(measure) as url:
        await post(transport, url, b"x" * 3_000_000)

    assert arrived.endswith(b"\r\n\r\n" + b"x" * 3_000_000)


async def test_the_environment_has_no_say(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    sent = b""

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(2):
            sent = await read_request(reader)
            writer.write(HEAD + b"Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}")

    async with server(look) as url:
        await post(transport, url)
        await post(transport, url)

    assert sent.startswith(b"POST /v1 HTTP/1.1\r\n")
    assert b"cookie" not in sent.lower()


async def test_tcp_itself_watches_over_a_long_silence() -> None:
    with keeping_alive((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))) as made:
        options = [
            made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            made.getsockopt(socket.IPPROTO_TCP, TCP_KEEPIDLE),
            made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        ]

    assert options == [1, 60, 4]
