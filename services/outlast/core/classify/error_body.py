"""Reading an error out of the dozen shapes in which providers write one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["ErrorBody", "read_error"]

CODE_KEYS: Final = ("code", "type", "status", "error_code", "reason", "limit_source")
NESTED_KEYS: Final = ("details", "innererror", "metadata")
TEXT_KEYS: Final = ("message", "detail", "msg")
MAX_TEXT: Final = 2_000
"""Characters of a message that are looked at: a quoted prompt can be megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """What an error says.

    ``codes`` are all machine-readable words of it in lower case; ``label`` is the most telling
    one as it was written; ``status`` is an HTTP status that the body itself names.
    """

    codes: frozenset[str] = frozenset()
    label: str | None = None
    text: str = ""
    status: int | None = None
    is_error: bool = False


def read_error(payload: object) -> ErrorBody:
    """Read the error in a parsed body; one that has none gives an ``ErrorBody`` with no words.

    Shapes: ``{"error": {…}}`` (OpenAI and most), ``[{"error": {…}}]`` (Gemini), ``{"error":
    "text"}`` (Ollama), ``{"object": "error", …}`` flat (old vLLM, Mistral), ``{"detail": …}``
    (FastAPI), ``{"code": …, "message": …}`` (DashScope), ``{"type": "error", …}`` (Anthropic).
    """
    if isinstance(payload, list):
        payload = payload[0] if payload else None
    if not isinstance(payload, Mapping):
        return ErrorBody()
    inner = payload.get("error")
    if isinstance(inner, str):
        return ErrorBody(text=inner[:MAX_TEXT], is_error=bool(inner))
    if isinstance(inner, Mapping):
        return _read(inner, is_error=True)
    return _read(payload, is_error=payload.get("object") == "error")


def _read(error: Mapping[str, object], *, is_error: bool) -> ErrorBody:
    words = list(_words(error))
    return ErrorBody(
        codes=frozenset(word.lower() for word in words),
        label=words[0] if words else None,
        text=_text(error),
        status=_status(error.get("code")),
        is_error=is_error,
    )


def _words(error: Mapping[str, object]) -> Iterator[str]:
    for key in CODE_KEYS:
        value = error.get(key)
        if isinstance(value, str) and value:
            yield value
    for key in NESTED_KEYS:
        nested = error.get(key)
        for part in nested if isinstance(nested, list) else (nested,):
            if isinstance(part, Mapping):
                yield from _words(part)


def _text(error: Mapping[str, object]) -> str:
    for key in TEXT_KEYS:
        value = error.get(key)
        while isinstance(value, list | Mapping) and value:
            # FastAPI and Mistral nest the sentence: {"detail": [{"msg": "…"}]}
            value = _text(value) if isinstance(value, Mapping) else value[0]
        if isinstance(value, str) and value:
            return value[:MAX_TEXT]
    return ""


def _status(code: object) -> int | None:
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:
        return code
    return None
