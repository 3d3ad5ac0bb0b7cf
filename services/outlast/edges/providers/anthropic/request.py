"""From a ``chat.completions`` body to a Messages body."""

from collections.abc import Mapping
from typing import Final

from outlast.edges.providers.anthropic.messages import system_of, turns_of
from outlast.edges.providers.anthropic.tools import tool_choice_of, tools_of

__all__ = ["message_request"]

DEFAULT_MAX_TOKENS: Final = 4_096
"""Anthropic demands a limit where OpenAI has none."""


def message_request(body: Mapping[str, object], model: str) -> dict[str, object]:
    """Translate what both APIs can say; what only OpenAI's can (``n``, ``seed``, …) is left out."""
    messages = body.get("messages")
    messages = messages if isinstance(messages, list) else []
    request = {
        "model": model,
        "max_tokens": _max_tokens(body),
        "system": system_of(messages),
        "messages": turns_of(messages),
        "temperature": _temperature(body.get("temperature")),
        "top_p": body.get("top_p"),
        "stop_sequences": _stop_sequences(body.get("stop")),
        "tools": tools_of(body.get("tools")),
        "tool_choice": tool_choice_of(body.get("tool_choice"), body.get("parallel_tool_calls")),
        "output_config": _output_config(body.get("response_format")),
        "metadata": {"user_id": body["user"]} if isinstance(body.get("user"), str) else None,
    }
    if request["tools"] is None:
        request["tool_choice"] = None  # refused where there are no tools
    return {key: value for key, value in request.items() if value is not None}


def _max_tokens(body: Mapping[str, object]) -> object:
    for key in ("max_completion_tokens", "max_tokens"):
        if body.get(key) is not None:
            return body[key]
    return DEFAULT_MAX_TOKENS


def _temperature(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return min(max(value, 0), 1)  # OpenAI's scale ends at 2, Anthropic's at 1
    return value


def _stop_sequences(stop: object) -> object:
    if isinstance(stop, str):
        return [stop]
    return stop or None


def _output_config(response_format: object) -> object:
    if not isinstance(response_format, Mapping) or response_format.get("type") != "json_schema":
        return None  # json_object has no counterpart: there the prompt must ask for JSON
    wrapped = response_format.get("json_schema")
    schema = wrapped.get("schema") if isinstance(wrapped, Mapping) else None
    return {"format": {"type": "json_schema", "schema": schema}}
