"""An httpx transport on aiohttp's connection pool that tells what may have been executed.

httpx's own pool looks at every connection for every call and collapses at a thousand of them;
the ready-made adapter reports a connection lost after sending as one never made, and a job would
be paid for twice. Here each foreign error becomes one of httpx's by :data:`ERRORS`, and whether
the request may have left is known from where it was raised: before the connector handed out a
connection nothing was sent, from then on anything may have been.
"""

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Final, Literal

import aiohttp
import httpx
from aiohttp import client_exceptions as foreign
from aiohttp.client import ClientTimeout
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from aiohttp.connector import AddrInfoType, Connection
from aiohttp.http import HttpProcessingError
from aiohttp.tracing import Trace

__all__ = ["ERRORS", "Sent", "Transport", "translated"]

Sent = Literal["not_sent", "maybe_executed"]

KEEPALIVE_SECONDS: Final = 4.0
"""Below the 5 s after which uvicorn (vLLM, SGLang) closes an idle connection: a request written
while the server is closing counts as maybe executed."""

if sys.platform == "darwin":
    TCP_KEEPIDLE: Final = socket.TCP_KEEPALIVE
else:
    TCP_KEEPIDLE: Final = socket.TCP_KEEPIDLE

PROBE_IDLE_SECONDS: Final = 60
PROBE_INTERVAL_SECONDS: Final = 15
PROBE_COUNT: Final = 4
"""TCP keep-alive: routers forget a silent connection after 120 to 350 s, a model may think for
700, and then the client would wait for ever (openai-python #3269)."""

PIECE: Final = 256 * 1024
"""Bytes written at once; a request above 1 MB in one piece would hold up the event loop."""

ERRORS: Final[Mapping[type[BaseException], tuple[type[httpx.TransportError], Sent]]] = (
    MappingProxyType(
        {
            # Never on the wire: the URL is wrong.
            foreign.InvalidURL: (httpx.UnsupportedProtocol, "not_sent"),
            foreign.InvalidUrlClientError: (httpx.UnsupportedProtocol, "not_sent"),
            foreign.NonHttpUrlClientError: (httpx.UnsupportedProtocol, "not_sent"),
            # No connection: refused, unreachable, no such name, no TLS, the wrong certificate.
            foreign.ClientConnectorError: (httpx.ConnectError, "not_sent"),
            foreign.ClientConnectorDNSError: (httpx.ConnectError, "not_sent"),
            foreign.ClientProxyConnectionError: (httpx.ConnectError, "not_sent"),
            foreign.ClientHttpProxyError: (httpx.ConnectError, "not_sent"),
            foreign.UnixClientConnectorError: (httpx.ConnectError, "not_sent"),
            foreign.ClientSSLError: (httpx.ConnectError, "not_sent"),
            foreign.ClientConnectorSSLError: (httpx.ConnectError, "not_sent"),
            foreign.ClientConnectorCertificateError: (httpx.ConnectError, "not_sent"),
            foreign.ServerFingerprintMismatch: (httpx.ConnectError, "not_sent"),
            foreign.ConnectionTimeoutError: (httpx.ConnectTimeout, "not_sent"),
            # Sent, or begun to be, and the connection is gone.
            foreign.ServerDisconnectedError: (httpx.RemoteProtocolError, "maybe_executed"),
            foreign.ServerConnectionError: (httpx.ReadError, "maybe_executed"),
            foreign.ClientConnectionError: (httpx.ReadError, "maybe_executed"),
            foreign.ClientConnectionResetError: (httpx.WriteError, "maybe_executed"),
            foreign.ClientOSError: (httpx.ReadError, "maybe_executed"),
            foreign.UploadAbortedError: (httpx.WriteError, "maybe_executed"),
            foreign.ServerTimeoutError: (httpx.ReadTimeout, "maybe_executed"),
            foreign.SocketTimeoutError: (httpx.ReadTimeout, "maybe_executed"),
            # Sent, and what came back is no HTTP, or ends too early.
            foreign.ClientPayloadError: (httpx.RemoteProtocolError, "maybe_executed"),
            foreign.ClientResponseError: (httpx.RemoteProtocolError, "maybe_executed"),
            foreign.ContentTypeError: (httpx.RemoteProtocolError, "maybe_executed"),
            foreign.TooManyRedirects: (httpx.RemoteProtocolError, "maybe_executed"),
            foreign.RedirectClientError: (httpx.RemoteProtocolError, "maybe_executed"),
            foreign.InvalidUrlRedirectClientError: (httpx.RemoteProtocolError, "maybe_executed"),
            foreign.NonHttpUrlRedirectClientError: (httpx.RemoteProtocolError, "maybe_executed"),
            foreign.WSServerHandshakeError: (httpx.RemoteProtocolError, "maybe_executed"),
            foreign.WSMessageTypeError: (httpx.RemoteProtocolError, "maybe_executed"),
            HttpProcessingError: (httpx.RemoteProtocolError, "maybe_executed"),  # a bad chunk
            # The roots, for whatever a new version derives from them.
            foreign.ClientError: (httpx.ReadError, "maybe_executed"),
            ssl.SSLError: (httpx.ReadError, "maybe_executed"),
            TimeoutError: (httpx.ReadTimeout, "maybe_executed"),
            OSError: (httpx.ReadError, "maybe_executed"),
        }
    )
)
"""Every error aiohttp raises (a test asks it for the list), what it becomes, and what it means."""

FOREIGN: Final = (
    foreign.ClientError,
    foreign.WSMessageTypeError,  # the one of its errors with another root
    HttpProcessingError,
    OSError,
)
"""All of :data:`ERRORS` are one of these (a time-out and a TLS error are an ``OSError``)."""


def translated(error: BaseException, *, connected: bool) -> httpx.TransportError:
    """The httpx error for a foreign one.

    The table decides by the closest class; where there was no connection yet, nothing was sent,
    whatever the class says.

    Args:
        error: one of :data:`FOREIGN`.
        connected: whether a connection had been handed out for the request.
    """
    kind, sent = next(ERRORS[known] for known in type(error).__mro__ if known in ERRORS)
    if sent == "maybe_executed" and not connected:
        kind = httpx.ConnectTimeout if isinstance(error, TimeoutError) else httpx.ConnectError
    return kind(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


class Transport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over one pool without limits: how many calls run is decided elsewhere.

    Follows no redirect, keeps no cookie, asks no environment for proxies, repeats no POST. The
    body is streamed as it comes, still compressed if the server compressed it. Of httpx's
    time-outs it knows ``connect`` (name, TCP and TLS together); the others are the caller's.
    """

    def __init__(
        self,
        *,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Open nothing yet: the pool begins with the first request, in its event loop.

        Args:
            keepalive_seconds: how long an idle connection is kept for the next request.
            tls: another TLS context than the system's.
        """
        self._keepalive_seconds = keepalive_seconds
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._timeouts: dict[float | None, ClientTimeout] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and return once the response's headers are in.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol: it was not sent.
            httpx.TransportError: any other: it may have been executed.
        """
        session = self._session or self._open()
        content = await request.aread()
        try:
            response = await session.request(
                request.method,
                str(request.url),
                data=content if len(content) <= PIECE else _pieces(content),
                headers=_headers(request, len(content)),
                timeout=self._timeout(request),
                allow_redirects=False,
            )
        except _NotConnected as error:
            raise translated(error.reason, connected=False) from error.reason
        except FOREIGN as error:
            raise translated(error, connected=True) from error
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Body(response),
            request=request,
        )

    async def aclose(self) -> None:
        """Close all connections; calls in flight end with an error."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                limit=0,
                keepalive_timeout=self._keepalive_seconds,
                socket_factory=keeping_alive,
                ssl=self._tls or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            auto_decompress=False,
            trust_env=False,
        )
        return self._session

    def _timeout(self, request: httpx.Request) -> ClientTimeout:
        seconds = request.extensions.get("timeout", {}).get("connect")
        known = self._timeouts.get(seconds)
        if known is None:
            known = self._timeouts[seconds] = ClientTimeout(total=None, connect=seconds)
        return known


class _NotConnected(aiohttp.ClientError):
    """No connection was handed out, for the reason kept here."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Connector(aiohttp.TCPConnector):
    """Marks what goes wrong before there is a connection: such a request was not sent."""

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 (aiohttp's name)
    ) -> Connection:
        try:
            return await super().connect(req, traces, timeout)
        except FOREIGN as error:
            raise _NotConnected(error) from error


class _Body(httpx.AsyncByteStream):
    """The response's body, piece by piece as it arrives."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._response.content.readany()
        except FOREIGN as error:
            raise translated(error, connected=True) from error
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        # Read to its end the connection is back in the pool already; else this cuts it.
        self._response.close()


def _headers(request: httpx.Request, size: int) -> list[tuple[str, str]]:
    headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers.raw]
    if size > PIECE and "content-length" not in request.headers:
        headers.append(("content-length", str(size)))  # or aiohttp would send it chunked
    return headers


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]
        await asyncio.sleep(0)  # the writer waits only for a full socket: let others run


def keeping_alive(address: AddrInfoType) -> socket.socket:
    """A socket whose connection TCP probes by itself while nothing is said on it."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, TCP_KEEPIDLE, PROBE_IDLE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_INTERVAL_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBE_COUNT)
    return made
