"""Rules for single values that a type cannot say; each returns the value or says what is wrong."""

import re
from typing import Final
from urllib.parse import urlsplit

from outlast.core.policy import Target

__all__ = ["address", "http_url", "target", "variable"]

HIGHEST_PORT: Final = 65_535


def address(text: str) -> str:
    """``host:port``, or several with commas."""
    servers = [each.strip() for each in text.split(",")]
    if not all(_has_port(each) for each in servers):
        raise ValueError("must be host:port, or several of them separated by commas")
    return ",".join(servers)


def _has_port(server: str) -> bool:
    host, _, port = server.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) <= HIGHEST_PORT


def http_url(text: str) -> str:
    """An http(s) address without credentials; the closing slash is dropped."""
    try:
        url = urlsplit(text)
        port_is_right = url.port is None or url.port > 0
    except ValueError:
        raise ValueError("must be an http:// or https:// address") from None
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_right:
        raise ValueError("must be an http:// or https:// address")
    if url.username or url.password:
        raise ValueError("must not hold credentials: use api_key_env or api_key_file")
    if url.query or url.fragment:
        raise ValueError("must end with its path: no ? and no #")
    return text.rstrip("/")


def target(text: str) -> str:
    """``provider/model``."""
    try:
        return str(Target.parse(text))
    except ValueError:
        raise ValueError("must be provider/model") from None


def variable(text: str) -> str:
    """The name of an environment variable; what looks like a key itself is not repeated."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError("must be the name of an environment variable, never the key itself")
    return text
