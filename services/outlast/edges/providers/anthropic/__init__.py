"""Anthropic's Messages API, spoken to and heard in OpenAI's terms."""

from typing import Final

from outlast.edges.providers.anthropic.answer import completion
from outlast.edges.providers.anthropic.request import message_request
from outlast.edges.providers.family import Family

__all__ = ["ANTHROPIC"]

VERSION: Final = "2023-06-01"
"""The later 2026-10-21 refuses ``temperature``, ``top_p`` and ``top_k``, even at their defaults."""


def _headers(api_key: str | None) -> dict[str, str]:
    version = {"anthropic-version": VERSION}
    return version if api_key is None else {**version, "x-api-key": api_key}


ANTHROPIC: Final = Family(
    name="anthropic",
    base_url="https://api.anthropic.com",
    path="/v1/messages",
    headers=_headers,
    request=message_request,
    translate=completion,
)
