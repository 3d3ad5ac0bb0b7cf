"""Answers of providers, good and bad, in the shapes that each of them writes."""

import json

from outlast.core.verdict import Answered

NOW = 1_774_820_100.0
HTML = {"content-type": "text/html; charset=UTF-8"}


def answered(status: int, body: object, headers: dict[str, str] | None = None) -> Answered:
    """An answer; a string is a body that is no JSON."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    payload = None if isinstance(body, str) else body
    return Answered(status=status, headers=headers or {}, body=raw, payload=payload)


def openai(message: str, kind: str | None = None, code: object = None) -> dict[str, object]:
    """The error shape of OpenAI, DeepSeek and most others."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str = "…", code: str | None = None) -> dict[str, object]:
    """Anthropic's error shape."""
    error: dict[str, object] = {"type": kind, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": "req_011"}


def gemini(status: int, word: str, message: str = "…", **detail: object) -> list[object]:
    """Gemini's, in the list that its compatible endpoint wraps around it."""
    error = {"code": status, "message": message, "status": word, "details": [detail]}
    return [{"error": error}]


def completion(finish: object, **message: object) -> dict[str, object]:
    """A chat.completion."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return {"object": "chat.completion", "model": "m", "choices": [choice]}
