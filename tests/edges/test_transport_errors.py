"""The table of foreign errors: complete, and plain about what may have been sent."""

import ssl

import httpx
import pytest
from aiohttp import client_exceptions

from outlast.edges.providers.exchange import NOT_SENT
from outlast.edges.providers.transport import ERRORS, FOREIGN, translated


def test_every_error_that_aiohttp_exports_is_in_the_table() -> None:
    exported = {
        value
        for value in vars(client_exceptions).values()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == client_exceptions.__name__
    }

    assert exported <= ERRORS.keys()
    assert all(issubclass(error, FOREIGN) for error in ERRORS)


@pytest.mark.parametrize(("kind", "sent"), ERRORS.values())
def test_the_httpx_error_alone_tells_whether_it_was_sent(
    kind: type[httpx.TransportError], sent: str
) -> None:
    assert issubclass(kind, NOT_SENT) is (sent == "not_sent")


@pytest.mark.parametrize(
    ("error", "connected", "kind"),
    [
        (ConnectionResetError("reset"), True, httpx.ReadError),
        # the same error before there was a connection
        (ConnectionResetError("reset"), False, httpx.ConnectError),
        (TimeoutError(), True, httpx.ReadTimeout),
        (TimeoutError(), False, httpx.ConnectTimeout),
        (client_exceptions.ServerDisconnectedError(), True, httpx.RemoteProtocolError),
        (client_exceptions.ClientConnectionError("closed"), False, httpx.ConnectError),
        (ssl.SSLError("bad record"), True, httpx.ReadError),
    ],
)
def test_an_error_counts_as_not_sent_only_before_there_was_a_connection(
    error: BaseException, connected: bool, kind: type[httpx.TransportError]
) -> None:
    assert type(translated(error, connected=connected)) is kind
