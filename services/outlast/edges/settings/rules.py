"""Rules for single values that a type cannot say; each returns the value or says what is wrong."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from outlast.core.policy import Target

__all__ = [
    "VARIABLE",
    "address",
    "fault_in_path",
    "http_url",
    "listening",
    "target",
    "token_url",
    "variable",
]

HIGHEST_PORT: Final = 65_535
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""How an environment variable may be called."""
SERVER: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):([0-9]{1,5})")
HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
VISIBLE: Final = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
"""Printable ASCII without blanks and backslashes, which clients read in different ways."""


def address(text: str) -> str:
    """``host:port``, or several with commas."""
    servers = [each.strip() for each in text.split(",")]
    if not all(_has_port(each) for each in servers):
        raise ValueError("must be host:port, or several of them separated by commas")
    return ",".join(servers)


def _has_port(server: str) -> bool:
    match = SERVER.fullmatch(server)
    return match is not None and 0 < int(match[1]) <= HIGHEST_PORT


def listening(text: str) -> str:
    """``host:port`` to listen on; every interface only for who says so, and port 0 for any."""
    match = SERVER.fullmatch(text)
    if match is None or int(match[1]) > HIGHEST_PORT:
        raise ValueError("must be host:port, as 127.0.0.1:9464; 0.0.0.0 is every interface")
    return text


def http_url(text: str) -> str:
    """An http(s) address without credentials; the closing slash is dropped."""
    url = _web_address(text)
    if "@" in url.netloc:
        raise ValueError("must not hold credentials: use api_key_env or api_key_file")
    if "?" in text or "#" in text:
        raise ValueError("must end with its path: no ? and no #")
    return text.rstrip("/")


def token_url(text: str) -> str:
    """The http(s) address of a token endpoint; a query may belong to it (RFC 6749, 3.2)."""
    if "@" in _web_address(text).netloc:
        raise ValueError(
            "must not hold credentials: use sasl_oauth_client_id and sasl_oauth_client_secret_env"
        )
    return text


def _web_address(text: str) -> SplitResult:
    if not VISIBLE.fullmatch(text):
        raise ValueError("must be an http:// or https:// address without blanks, in plain ASCII")
    try:
        url = urlsplit(text)
        port_is_right = url.port is None or url.port > 0
    except ValueError:
        raise ValueError("must be an http:// or https:// address") from None
    if url.scheme not in ("http", "https") or not HOST.fullmatch(url.hostname or ""):
        raise ValueError("must be an http:// or https:// address")
    if not port_is_right:
        raise ValueError("must be an http:// or https:// address with a port from 1 to 65535")
    return url


def target(text: str) -> str:
    """``provider/model``."""
    try:
        return str(Target.parse(text))
    except ValueError:
        raise ValueError("must be provider/model") from None


def fault_in_path(path: str) -> str | None:
    """Why no file can be read there, as the end of a sentence; ``None`` when there is one."""
    try:
        is_there = Path(path).is_file()
    except OSError as error:  # a folder that we may not look into, or too long a name
        return f"which cannot be read: {error.strerror}"
    return None if is_there else "and there is no such file"


def variable(text: str) -> str:
    """The name of an environment variable; what looks like a key itself is not repeated."""
    if not VARIABLE.fullmatch(text):
        raise ValueError("must be the name of an environment variable, never the key itself")
    return text
