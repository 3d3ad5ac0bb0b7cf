"""DeepSeek's API: OpenAI's, with the older name for the token limit."""

from collections.abc import Mapping
from typing import Final

from outlast.edges.providers.family import Family, adapted, bearer

__all__ = ["DEEPSEEK"]


def _request(body: Mapping[str, object], model: str) -> dict[str, object]:
    request = adapted(body, model)
    newer = request.pop("max_completion_tokens", None)
    if newer is not None:
        # It would be ignored under this name, and the answer would know no limit.
        request["max_tokens"] = newer
    return request


DEEPSEEK: Final = Family(
    name="deepseek",
    base_url="https://api.deepseek.com",
    path="/chat/completions",
    headers=bearer,
    request=_request,
)
