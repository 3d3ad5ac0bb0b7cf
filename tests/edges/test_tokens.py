"""Tokens for OAUTHBEARER: renewed in time, and never in an error's text."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
from aiokafka.errors import KafkaConnectionError

from outlast.edges.kafka.security import token_provider
from outlast.edges.kafka.tokens import REST_SECONDS, TokenFile, TokenUrl
from outlast.edges.settings import Kafka

SECRET = "secret-canary 7761:%"


@dataclass
class Authority:
    """A token endpoint, and what it was asked."""

    url: str = ""
    status: int = 200
    answer: Any = None
    asked: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)

    def content(self) -> bytes:
        """The answer it was told to give, else a new token each time."""
        given = {"access_token": f"token-{len(self.asked)}", "expires_in": 100}
        told = given if self.answer is None else self.answer
        return told if isinstance(told, bytes) else json.dumps(told).encode()


@pytest.fixture
def authority() -> Iterator[Authority]:
    made = Authority()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            encoded = self.headers["Authorization"].removeprefix("Basic ")
            user, _, secret = base64.b64decode(encoded).decode().partition(":")
            made.asked.append((unquote_plus(user), unquote_plus(secret), parse_qs(body)))
            content = made.content()
            self.send_response(made.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}/token"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@dataclass
class Clock:
    """A clock that the test moves."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_file_is_read_again_for_each_connection(tmp_path: Path) -> None:
    path = tmp_path / "token"
    tokens = TokenFile(str(path))

    path.write_text("one\n")
    first = await tokens.token()
    path.write_text("two\n")

    assert (first, await tokens.token()) == ("one", "two")


async def test_a_file_without_a_token_is_named(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(KafkaConnectionError, match="token cannot be read: No such file"):
        await TokenFile(str(path)).token()
    path.write_text("\n")
    with pytest.raises(KafkaConnectionError, match=r"sasl_oauth_token_file .*token is empty"):
        await TokenFile(str(path)).token()


async def test_a_token_is_asked_for_as_the_standard_has_it(authority: Authority) -> None:
    tokens = TokenUrl(authority.url, "client:1", SECRET, scope="kafka read")

    assert await tokens.token() == "token-1"
    assert authority.asked == [
        ("client:1", SECRET, {"grant_type": ["client_credentials"], "scope": ["kafka read"]})
    ]


async def test_a_token_is_used_for_most_of_its_life(authority: Authority) -> None:
    clock = Clock()
    tokens = TokenUrl(authority.url, "c", SECRET, clock=clock)

    taken = []
    for seconds in (0, 79, 2, 79, 2):
        clock.now += seconds
        taken.append(await tokens.token())

    assert taken == ["token-1", "token-1", "token-2", "token-2", "token-3"]


async def test_a_token_is_used_to_its_end_while_no_other_is_given(authority: Authority) -> None:
    clock = Clock()
    tokens = TokenUrl(authority.url, "c", SECRET, clock=clock)
    first = await tokens.token()
    authority.status = 503

    clock.now += 99
    second = await tokens.token()
    clock.now += 1

    assert first == second == "token-1"
    with pytest.raises(KafkaConnectionError, match="answered 503: are"):
        await tokens.token()


async def test_a_token_of_unknown_life_is_used_once(authority: Authority) -> None:
    authority.answer = {"access_token": "t"}
    tokens = TokenUrl(authority.url, "c", SECRET, clock=Clock())

    assert [await tokens.token(), await tokens.token()] == ["t", "t"]
    assert len(authority.asked) == 2


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (401, {"error": "invalid_client"}, "answered 401 invalid_client: are sasl_oauth_client_id"),
        (400, {"error": SECRET, "error_description": SECRET}, "answered 400: are"),
        (503, b"<html>" + SECRET.encode(), "answered 503: are"),
        (302, b"", "answered 302: are"),
        (200, b"<html>" + SECRET.encode(), "answered without an access_token"),
        (200, {"token": SECRET}, "answered without an access_token"),
        (200, [SECRET], "answered without an access_token"),
        (200, {"access_token": None}, "answered without an access_token"),
        (200, {"access_token": SECRET, "expires_in": "soon"}, "answered without an access_token"),
    ],
)
async def test_an_answer_without_a_token_is_told_without_what_is_in_it(
    authority: Authority, status: int, answer: Any, says: str
) -> None:
    authority.status, authority.answer = status, answer

    with pytest.raises(KafkaConnectionError) as caught:
        await TokenUrl(authority.url, "c", SECRET).token()

    assert f"kafka.sasl_oauth_token_url {authority.url} {says}" in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_an_address_where_nobody_is_is_named() -> None:
    with pytest.raises(KafkaConnectionError) as caught:
        await TokenUrl("http://127.0.0.1:1/t", "c", SECRET).token()

    assert "sasl_oauth_token_url http://127.0.0.1:1/t gave no answer (ConnectError)" in str(
        caught.value
    )


async def test_an_address_is_not_asked_again_at_once_after_it_failed(authority: Authority) -> None:
    clock = Clock()
    tokens = TokenUrl(authority.url, "c", SECRET, clock=clock)
    authority.status = 503

    for _ in range(2):
        with pytest.raises(KafkaConnectionError, match="answered 503: are"):
            await tokens.token()
    asked_while_it_rests = len(authority.asked)
    authority.status = 200
    clock.now += REST_SECONDS

    assert await tokens.token() == "token-2"
    assert asked_while_it_rests == 1


async def test_an_answer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outlast.edges.kafka.tokens.PATIENCE_SECONDS", 0.3)

    async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)

    async with await asyncio.start_server(dribble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(KafkaConnectionError, match=r"gave no answer \(TimeoutError\)"):
            await TokenUrl(f"http://127.0.0.1:{port}/t", "c", SECRET).token()


def test_all_clients_share_a_token() -> None:
    def kafka(prefix: str) -> Kafka:
        return Kafka(
            security_protocol="SASL_SSL",
            sasl_mechanism="OAUTHBEARER",
            sasl_oauth_token_url="https://h/t",
            sasl_oauth_client_id="c",
            sasl_oauth_client_secret=SECRET,
            prefix=prefix,
        )

    assert token_provider(kafka("a")) is token_provider(kafka("b")) is not None
    assert token_provider(Kafka()) is None
