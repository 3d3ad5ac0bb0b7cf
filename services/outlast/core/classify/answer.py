"""Whether an OpenAI ``chat.completion`` holds an answer: a 200 is not yet a success."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from outlast_schemas.attempt import VerdictWord

__all__ = ["FaultInAnswer", "Judge", "down", "fault_in_answer"]

ANSWER_KEYS: Final = ("content", "tool_calls", "function_call", "refusal")
FINISHED: Final = frozenset(
    {
        "stop",
        "length",
        "tool_calls",
        "function_call",
        "content_filter",
        "model_length",  # Mistral: the model's own limit
        "eos",  # Together
        "eos_token",  # text-generation-inference, with the next
        "stop_sequence",
    }
)
"""``error``, ``insufficient_system_resource`` (DeepSeek), ``aborted``, ``abort`` (vLLM, SGLang)
and anything new are no endings: to read them as ``stop`` would pass off a torn text as whole."""


@dataclass(frozen=True, slots=True)
class FaultInAnswer:
    """Why a 200 is not a success."""

    word: VerdictWord
    detail: str


Judge = Callable[[object], FaultInAnswer | None]
"""Looks for what is wrong with the parsed body of a 200."""


def fault_in_answer(payload: object) -> FaultInAnswer | None:
    """Check each choice: a known ``finish_reason``, and text, tool calls or a refusal.

    Two empty answers are not the provider's failure. With ``length`` the job's own token limit
    ended it, be it that reasoning took all of it: elsewhere it would end the same way. With
    ``content_filter`` the content was withheld.
    """
    if not isinstance(payload, Mapping) or payload.get("error"):
        return down("an error in a 200")
    choices = payload.get("choices")
    if not isinstance(choices, list) or not choices:
        return down("no choices")
    for choice in choices:
        fault = _fault_in_choice(choice)
        if fault is not None:
            return fault
    return None


def _fault_in_choice(choice: object) -> FaultInAnswer | None:
    if not isinstance(choice, Mapping) or not isinstance(choice.get("message"), Mapping):
        return down("a choice without a message")
    finish = choice.get("finish_reason")
    if not isinstance(finish, str) or finish not in FINISHED:
        return down(f"finish_reason {finish!r:.40}")
    if finish == "length" or any(choice["message"].get(key) for key in ANSWER_KEYS):
        return None
    if finish == "content_filter":
        return FaultInAnswer(VerdictWord.CONTENT_POLICY, "the content was withheld")
    return down(f"an empty answer, finish_reason {finish}")


def down(detail: str) -> FaultInAnswer:
    """The provider answered 200 and gave nothing that can be used."""
    return FaultInAnswer(VerdictWord.PROVIDER_DOWN, detail)
