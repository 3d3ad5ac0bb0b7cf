"""The shape every family has: where it is, how it is asked, how its answer is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from outlast.core.capability import CHAT, Operation

__all__ = ["Family", "adapted", "bearer", "probe_body"]

Body = Mapping[str, object]

STREAMING: Final = ("stream", "stream_options")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How one API speaks.

    Attributes:
        name: as in the configuration.
        base_url: the default; ``None`` where the configuration must name one.
        path: what is appended to the base URL for a chat completion.
        headers: from the API key to the headers that carry it.
        request: from a job's body and the target's model to the JSON that is sent.
        translate: from a parsed answer and the time (epoch seconds) to a ``chat.completion``;
            ``None`` where the answer already is one and its bytes are passed on untouched.
        embeddings: what is appended to the base URL for embeddings, asked and answered in
            OpenAI's form; ``None`` where the API has none.
    """

    name: str
    base_url: str | None
    path: str
    headers: Callable[[str | None], dict[str, str]]
    request: Callable[[Body, str], dict[str, object]]
    translate: Callable[[object, float], object] | None = None
    embeddings: str | None = None


def adapted(body: Body, model: str) -> dict[str, object]:
    """The body for this model, not streamed: an answer travels through Kafka as one record."""
    request = {key: value for key, value in body.items() if key not in STREAMING}
    request["model"] = model
    return request


def bearer(api_key: str | None) -> dict[str, str]:
    """``Authorization: Bearer …``; nothing without a key, as local servers need none."""
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def probe_body(model: str, operation: Operation = CHAT) -> dict[str, object]:
    """A completion or an embedding of one token, the smallest real question.

    Only an answer proves health: in OpenAI's outage of 2023-11-08 ``/v1/models`` stayed up while
    completions failed.
    """
    if operation != CHAT:
        return {"model": model, "input": "ping"}
    return {
        "model": model,
        "messages": [{"role": "user", "content": "ping"}],
        "max_tokens": 1,
    }
