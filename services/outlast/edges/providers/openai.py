"""OpenAI's own API."""

import re
from collections.abc import Mapping
from typing import Final

from outlast.edges.providers.family import Family, adapted, bearer

__all__ = ["OPENAI"]

REASONING: Final = re.compile(r"(?:ft:)?(?:gpt-(?:[5-9]|\d\d)|o\d)")
"""From gpt-5 on, and the o-series, ``max_tokens`` is refused with ``unsupported_parameter``."""


def _request(body: Mapping[str, object], model: str) -> dict[str, object]:
    request = adapted(body, model)
    if REASONING.match(model) and "max_tokens" in request:
        old = request.pop("max_tokens")
        if request.get("max_completion_tokens") is None:
            request["max_completion_tokens"] = old
    return request


OPENAI: Final = Family(
    name="openai",
    base_url="https://api.openai.com/v1",
    path="/chat/completions",
    embeddings="/embeddings",
    headers=bearer,
    request=_request,
)
