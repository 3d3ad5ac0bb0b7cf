"""From a Messages answer to a ``chat.completion``."""

from collections.abc import Iterator, Mapping
from typing import Final

import orjson

__all__ = ["completion"]

FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""Any other (``pause_turn``, or a new one) keeps its name, so that it is not taken for an end."""


def completion(answer: object, now: float) -> object:
    """Translate a message; what is none (an error, say) is returned as it is.

    Args:
        answer: the parsed body.
        now: epoch seconds, for ``created``, which Anthropic does not tell.
    """
    if not isinstance(answer, Mapping) or answer.get("type") != "message":
        return answer
    reason = answer.get("stop_reason")
    return {
        "id": answer.get("id"),
        "object": "chat.completion",
        "created": int(now),
        "model": answer.get("model"),
        "choices": [
            {
                "index": 0,
                "message": _message(answer.get("content")),
                "logprobs": None,
                "finish_reason": FINISH_REASONS.get(str(reason), reason),
            }
        ],
        "usage": _usage(answer.get("usage")),
    }


def _message(content: object) -> dict[str, object]:
    blocks = content if isinstance(content, list) else []
    text = "".join(_texts(blocks, "text"))
    message: dict[str, object] = {"role": "assistant", "content": text or None}
    if calls := [_tool_call(block) for block in blocks if _is(block, "tool_use")]:
        message["tool_calls"] = calls
    if thought := "".join(_texts(blocks, "thinking")):
        message["reasoning_content"] = thought  # the field that DeepSeek and vLLM have for it
    return message


def _texts(blocks: list[object], kind: str) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Mapping) and block.get("type") == kind:
            value = block.get(kind)  # a text block has "text", a thinking block "thinking"
            if isinstance(value, str):
                yield value


def _is(block: object, kind: str) -> bool:
    return isinstance(block, Mapping) and block.get("type") == kind


def _tool_call(block: Mapping[str, object]) -> dict[str, object]:
    return {
        "id": block.get("id"),
        "type": "function",
        "function": {
            "name": block.get("name"),
            "arguments": orjson.dumps(block.get("input") or {}).decode(),
        },
    }


def _usage(usage: object) -> dict[str, object] | None:
    if not isinstance(usage, Mapping):
        return None
    read = _count(usage, "cache_read_input_tokens")
    written = _count(usage, "cache_creation_input_tokens")
    # input_tokens leaves out the cached ones, OpenAI's prompt_tokens counts them
    prompt = _count(usage, "input_tokens") + read + written
    completed = _count(usage, "output_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completed,
        "total_tokens": prompt + completed,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
    }


def _count(usage: Mapping[str, object], key: str) -> int:
    value = usage.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
