"""What a status means where the body did not say."""

from collections.abc import Mapping
from typing import Final

from outlast.core.classify.rules import (
    AMBIGUOUS,
    BLOCKED,
    DOWN,
    LATER,
    MISROUTED,
    REJECTED,
)
from outlast_schemas.attempt import VerdictWord

__all__ = ["STATUSES", "word_of_status"]

STATUSES: Final[Mapping[int, VerdictWord]] = {
    400: REJECTED,
    401: BLOCKED,
    402: BLOCKED,
    403: BLOCKED,
    404: MISROUTED,
    405: MISROUTED,
    410: MISROUTED,  # the model has been withdrawn
    407: DOWN,  # a proxy stands in between and wants to know who we are
    408: AMBIGUOUS,
    409: LATER,
    413: REJECTED,
    422: REJECTED,
    424: DOWN,  # Groq: a dependency of its own failed
    425: LATER,
    429: LATER,
    498: LATER,  # Groq: flex capacity
    499: AMBIGUOUS,  # the server believes that the client left
    504: AMBIGUOUS,  # a gateway lost patience with a model that may have gone on
}
"""The statuses with a meaning of their own; all others go by their hundred."""


def word_of_status(status: int, *, is_html: bool) -> VerdictWord:
    """The verdict by status alone; every status has one.

    A web page where JSON belongs is written by whoever stands in front of the API (Cloudflare,
    a firewall): the provider is not reached, whatever the number says. Three keep their
    meaning: 408 and 504, where the request had been passed on, and 413, which is about its size.
    """
    known = STATUSES.get(status)
    if is_html and known is not AMBIGUOUS and status != 413:
        return DOWN
    if known is not None:
        return known
    if 300 <= status < 400:
        return MISROUTED  # redirects are not followed: the base URL is wrong
    return REJECTED if 400 <= status < 500 else DOWN
