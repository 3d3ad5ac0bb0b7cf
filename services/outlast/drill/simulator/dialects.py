"""Each family's server: its paths, what it refuses by itself, how it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from outlast.core.capability import CHAT, EMBEDDINGS
from outlast.drill.simulator.answers import Asked, Reply, chat_completion, message
from outlast.drill.simulator.errors import (
    ANTHROPIC_ERRORS,
    DEEPSEEK_ERRORS,
    OPENAI_ERRORS,
    VLLM_ERRORS,
    invalid,
    openai_error,
)

__all__ = ["DIALECTS", "Dialect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One family's server.

    ``paths`` are those of chat completions, ``embeddings`` those of embeddings; ``errors`` holds
    a reply for ``bad_key``, ``quota``, ``throttle``, ``unavailable``, ``reject``, ``too_long`` and
    ``no_such_path``, and with embeddings for ``not_for_chat`` and ``not_for_embeddings``; where
    the family tells limits apart ``throttle_tokens`` too; ``fault`` is what the server itself
    finds wrong with a request.
    """

    paths: tuple[str, ...]
    embeddings: tuple[str, ...] = ()
    base_path: str
    completion: Callable[[Asked, str], dict[str, object]]
    errors: Mapping[str, Reply]
    request_id_header: str
    retry_after: bool
    fault: Callable[[Asked], Reply | None]
    needs_key: bool = True

    def refusal(self, limit: str) -> Reply:
        """What who is above a limit hears."""
        return self.errors.get(f"throttle_{limit}", self.errors["throttle"])


def _fault_in_kind(asked: Asked, errors: Mapping[str, Reply]) -> Reply | None:
    """A model is for embeddings when its name says so, and then for nothing else."""
    embeds = "embed" in str(asked.body.get("model"))
    if asked.operation == CHAT:
        return errors["not_for_chat"] if embeds else None
    return None if embeds else errors["not_for_embeddings"]


def _fault_in_openai_form(asked: Asked) -> Reply | None:
    if asked.operation == EMBEDDINGS:
        return _fault_in_input(asked)
    return _fault_in_chat(asked)


def _fault_in_input(asked: Asked) -> Reply | None:
    if asked.body.get("input"):
        return None
    return openai_error(400, "'$.input' is invalid.", "invalid_request_error", None, "input")


def _fault_for_vllm(asked: Asked) -> Reply | None:
    return _fault_in_kind(asked, VLLM_ERRORS) or _fault_in_openai_form(asked)


def _fault_in_chat(asked: Asked) -> Reply | None:
    if not isinstance(asked.body.get("messages"), list) or not asked.body["messages"]:
        return openai_error(400, "messages is required", "invalid_request_error", None, "messages")
    return None


def _fault_for_openai(asked: Asked) -> Reply | None:
    if (fault := _fault_in_kind(asked, OPENAI_ERRORS)) is not None:
        return fault
    if str(asked.body.get("model")).startswith(("gpt-5", "gpt-6", "o")) and (
        "max_tokens" in asked.body
    ):
        return openai_error(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "invalid_request_error",
            "unsupported_parameter",
            "max_tokens",
        )
    return _fault_in_openai_form(asked)


def _fault_for_anthropic(asked: Asked) -> Reply | None:
    if "anthropic-version" not in asked.headers:
        return invalid("anthropic-version: header is required")
    for name in ("max_tokens", "messages"):
        if not asked.body.get(name):
            return invalid(f"{name}: Field required")
    messages = asked.body["messages"]
    for turn in messages if isinstance(messages, list) else ():
        role = turn.get("role") if isinstance(turn, Mapping) else None
        if role not in ("user", "assistant"):
            return invalid(f'messages: Unexpected role "{role}"')
    return None


DIALECTS: Final[Mapping[str, Dialect]] = {
    "openai": Dialect(
        paths=("/v1/chat/completions",),
        embeddings=("/v1/embeddings",),
        base_path="/v1",
        completion=chat_completion,
        errors=OPENAI_ERRORS,
        request_id_header="x-request-id",
        retry_after=True,
        fault=_fault_for_openai,
    ),
    "deepseek": Dialect(
        paths=("/chat/completions", "/v1/chat/completions"),
        base_path="",
        completion=chat_completion,
        errors=DEEPSEEK_ERRORS,
        request_id_header="x-request-id",
        retry_after=False,  # neither Retry-After nor rate headers
        fault=_fault_in_chat,
    ),
    "anthropic": Dialect(
        paths=("/v1/messages",),
        base_path="",
        completion=message,
        errors=ANTHROPIC_ERRORS,
        request_id_header="request-id",
        retry_after=True,
        fault=_fault_for_anthropic,
    ),
    "compatible": Dialect(
        paths=("/v1/chat/completions",),
        embeddings=("/v1/embeddings",),
        base_path="/v1",
        completion=chat_completion,
        errors=VLLM_ERRORS,
        request_id_header="x-request-id",
        retry_after=False,
        fault=_fault_for_vllm,
        needs_key=False,
    ),
}
