"""What a call asks of a simulated provider, and a good answer in either form."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Asked", "Reply", "chat_completion", "message"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: status, JSON, headers."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as far as it matters: parsed body, headers, the last message's text."""

    body: Mapping[str, object]
    headers: Mapping[str, str]
    key: str
    content: str
    number: int


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


def _tokens(text: str) -> int:
    return max(1, len(text) // 4)
