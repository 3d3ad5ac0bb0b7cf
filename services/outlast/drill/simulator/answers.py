"""What a call asks of a simulated provider, and a good answer in each form."""

import base64
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from outlast.core.capability import EMBEDDINGS, Operation

__all__ = ["Asked", "Reply", "chat_completion", "embeddings", "message", "text_for", "tokens_for"]

DIMENSIONS: Final = 16
"""Of a vector, where the request names no other number."""
MOST_DIMENSIONS: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: status, JSON, headers."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as far as it matters; ``content`` is the last message's or input's text."""

    operation: Operation
    body: Mapping[str, object]
    headers: Mapping[str, str]
    key: str
    content: str
    number: int


def text_for(asked: Asked) -> str:
    """What a chat is answered."""
    return f"Simulated answer to: {asked.content[:200]}"


def tokens_for(asked: Asked) -> int:
    """How many tokens an answer to this will say that it has used."""
    if asked.operation == EMBEDDINGS:
        return sum(map(_tokens, _inputs(asked)))
    return _tokens(asked.content) + _tokens(text_for(asked))


def chat_completion(asked: Asked, text: str) -> dict[str, object]:
    prompt, completed = _tokens(asked.content), _tokens(text)
    return {
        "id": f"chatcmpl-{asked.number}",
        "object": "chat.completion",
        "created": 1_774_820_100,
        "model": asked.body.get("model"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completed,
            "total_tokens": prompt + completed,
        },
    }


def message(asked: Asked, text: str) -> dict[str, object]:
    return {
        "id": f"msg_{asked.number}",
        "type": "message",
        "role": "assistant",
        "model": asked.body.get("model"),
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": _tokens(asked.content),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": _tokens(text),
        },
    }


def embeddings(asked: Asked) -> dict[str, object]:
    """A list of embeddings; the same text has the same vector at every provider."""
    texts = _inputs(asked)
    tokens = sum(_tokens(text) for text in texts)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(asked.body, text)}
            for index, text in enumerate(texts)
        ],
        "model": asked.body.get("model"),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _inputs(asked: Asked) -> list[str]:
    given = asked.body.get("input")
    if isinstance(given, list) and not (given and isinstance(given[0], int)):
        return [str(each) for each in given]
    return [str(given)]


def _vector(body: Mapping[str, object], text: str) -> list[float] | str:
    asked = body.get("dimensions")
    size = min(asked, MOST_DIMENSIONS) if isinstance(asked, int) and asked > 0 else DIMENSIONS
    dice = random.Random(text)
    vector = [dice.uniform(-1, 1) for _ in range(size)]
    if body.get("encoding_format") == "base64":
        return base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
    return vector


def _tokens(text: str) -> int:
    return max(1, len(text) // 4)
