"""Tokens for OAUTHBEARER: from a file that somebody renews, or by client credentials."""

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus

import orjson
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

if TYPE_CHECKING:
    import httpx

__all__ = ["TokenFile", "TokenUrl"]

PATIENCE_SECONDS: Final = 4.0
"""For one token: within the ten seconds after which the user hears that Kafka is not reached."""
REST_SECONDS: Final = 2.0
"""After a failure: a client that tries three brokers waits once, and hears of it in time."""
USED_FOR: Final = 0.8
"""Part of its life for which a token is used for new connections: the broker cuts a connection
when its token ends, and aiokafka does not authenticate anew in between (KIP-368)."""


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka comes without types
    """A token in a file, read again for each connection, as Kubernetes projects it."""

    def __init__(self, path: str) -> None:
        """``path`` may change its content at any time."""
        self._path = Path(path)

    async def token(self) -> str:
        """The token. Raises ``KafkaConnectionError``, which clients answer by trying again."""
        try:
            text = await asyncio.to_thread(self._path.read_text, "ascii")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise _no_token(
                f"kafka.sasl_oauth_token_file {self._path} cannot be read: {why}"
            ) from None
        if not text.strip():
            raise _no_token(f"kafka.sasl_oauth_token_file {self._path} is empty")
        return text.strip()


class TokenUrl(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka comes without types
    """Tokens by client credentials (RFC 6749, section 4.4), each used for most of its life."""

    def __init__(
        self,
        url: str,
        client_id: str,
        secret: str,
        *,
        scope: str | None = None,
        cafile: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``cafile`` is trusted for the address beside the system's authorities."""
        self._url = url
        # encoded before they are joined: RFC 6749, section 2.3.1
        self._credentials = (quote_plus(client_id), quote_plus(secret))
        self._form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
        self._cafile = cafile
        self._clock = clock
        self._token = ""
        self._good_until = self._ends_at = 0.0
        self._why = ""
        self._asked_again_at = 0.0

    async def token(self) -> str:
        """The token at hand, or a new one. Raises ``KafkaConnectionError``.

        Where none is given, the one at hand is used to its end. Two connections that begin at once
        may fetch one each: no harm, and no lock that would belong to one event loop.
        """
        now = self._clock()
        if not self._token or now >= self._good_until:
            try:
                await self._renew(now)
            except KafkaConnectionError:
                if now >= self._ends_at:
                    raise
        return self._token

    async def _renew(self, now: float) -> None:
        if now < self._asked_again_at:
            raise _no_token(self._why)
        try:
            self._token, seconds = self._read(await self._fetch())
        except KafkaConnectionError as error:
            self._why = str(error.args[0])
            self._asked_again_at = self._clock() + REST_SECONDS
            raise
        self._good_until, self._ends_at = now + seconds * USED_FOR, now + seconds

    async def _fetch(self) -> "httpx.Response":
        import httpx  # whoever needs no token does not pay for its import

        try:
            async with (
                asyncio.timeout(PATIENCE_SECONDS),  # httpx's own begins anew with every byte
                httpx.AsyncClient(verify=self._tls(), timeout=None) as client,
            ):
                return await client.post(self._url, data=self._form, auth=self._credentials)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _no_token(
                f"kafka.sasl_oauth_token_url {self._url} gave no answer ({type(error).__name__})"
            ) from None

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._cafile is not None:
            context.load_verify_locations(self._cafile)
        return context

    def _read(self, response: "httpx.Response") -> tuple[str, float]:
        """The token and the seconds of its life; none are said, none are assumed."""
        if response.status_code != 200:
            raise _no_token(
                f"kafka.sasl_oauth_token_url {self._url} answered {response.status_code}"
                f"{_reason(response.content)}: are sasl_oauth_client_id and its secret right?"
            )
        try:
            answer = orjson.loads(response.content)
            token, seconds = answer["access_token"], float(answer.get("expires_in") or 0)
            if not (isinstance(token, str) and token):
                raise TypeError
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _no_token(
                f"kafka.sasl_oauth_token_url {self._url} answered without an access_token"
            ) from None
        return token, seconds


def _no_token(why: str) -> KafkaConnectionError:
    return KafkaConnectionError(why)


def _reason(content: bytes) -> str:
    """The error's code (RFC 6749, section 5.2), from a list of few words: never a whole body."""
    try:
        code = orjson.loads(content)["error"]
    except (KeyError, TypeError, ValueError):
        return ""
    return f" {code}" if code in CODES else ""


CODES: Final = (
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
)
