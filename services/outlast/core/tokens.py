"""How many tokens a call may use, before it is made; and how many it has used, after it."""

from collections.abc import Mapping
from math import ceil
from typing import Final

from outlast.core.capability import EMBEDDINGS, Operation
from outlast_schemas.result import Served

__all__ = ["reserve", "used"]

BYTES_PER_TOKEN: Final = 4
"""Of English and of code; the tokenizers themselves would have to be downloaded."""
PROMPT: Final = ("messages", "tools", "functions", "response_format")
"""Whatever of a chat request the model reads."""
MEDIA: Final = frozenset(
    {"image_url", "image", "input_image", "input_audio", "audio_url", "video_url", "file"}
)
MEDIA_TOKENS: Final = 1_000
"""For a picture, or what else is not text: its bytes say nothing about its tokens."""
OUTPUT: Final = ("max_completion_tokens", "max_tokens")
DEFAULT_OUTPUT: Final = 1_024
"""Where the request sets no bound: more than most answers have."""
MOST_OUTPUT: Final = 1_000_000
"""No model writes more; who asks for more must not keep everybody else waiting for it."""


def reserve(body: object, operation: Operation) -> int:
    """How many tokens a call may use: an estimate, rather too high, of any body at all.

    Providers count the same way: the prompt and the whole output that was asked for.

    Args:
        body: the parsed request.
        operation: of embeddings only the input counts.
    """
    fields: Mapping[object, object] = body if isinstance(body, Mapping) else {}
    if operation == EMBEDDINGS:
        return _tokens([fields.get("input")])
    prompt = _tokens([fields[name] for name in PROMPT if name in fields])
    return prompt + _output(fields)


def used(served: Served) -> int | None:
    """How many tokens an answer has used, by its own account; ``None`` where it has none."""
    if served.prompt_tokens is None and served.completion_tokens is None:
        return None
    return (served.prompt_tokens or 0) + (served.completion_tokens or 0)


def _output(fields: Mapping[object, object]) -> int:
    asked = (_positive(fields.get(name)) for name in OUTPUT)
    most = next((number for number in asked if number is not None), DEFAULT_OUTPUT)
    return min(MOST_OUTPUT, most * (_positive(fields.get("n")) or 1))


def _positive(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return None
    return ceil(min(value, MOST_OUTPUT))


def _tokens(left: list[object]) -> int:
    """The text in what is left to look at, keys included: the model reads them, or their like."""
    size = tokens = 0
    while left:
        match left.pop():
            case str(text):
                # ASCII is known without a look, and needs no copy
                size += len(text) if text.isascii() else len(text.encode(errors="replace"))
            case list(items) if items and isinstance(items[0], int) and isinstance(items[-1], int):
                tokens += len(items)  # a text that is already tokens
            case list(items):
                left.extend(items)
            case dict(fields):
                if isinstance(kind := fields.get("type"), str) and kind in MEDIA:
                    tokens += MEDIA_TOKENS
                else:
                    left.extend(fields)
                    left.extend(fields.values())
            case None:
                pass
            case _:
                tokens += 1
    return max(1, tokens + ceil(size / BYTES_PER_TOKEN))
