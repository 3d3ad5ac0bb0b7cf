"""What a good answer says of itself: who gave it, how many tokens it took, what it cost."""

from collections.abc import Mapping
from typing import Final

from outlast.core.capability import EMBEDDINGS, Operation
from outlast.core.policy import Price, Target
from outlast_schemas.result import Served

__all__ = ["served"]

DEAREST: Final = 1_000_000.0
"""US dollars; an answer that says it cost as much is not believed."""


def served(
    target: Target, operation: Operation, payload: object, body: bytes, price: Price | None
) -> Served:
    """The answer as a result carries it.

    Args:
        target: who was asked; its model stands in where the answer names none.
        operation: what was asked for.
        payload: the parsed answer, in OpenAI's form.
        body: the same as bytes, passed on as they are.
        price: of the target's model, where the configuration has one.
    """
    answer = payload if isinstance(payload, Mapping) else {}
    usage = answer.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    reported = answer.get("model")
    prompt, completion = _tokens(usage, "prompt_tokens"), _tokens(usage, "completion_tokens")
    return Served(
        body=body,
        provider=target.provider,
        model=reported if isinstance(reported, str) and reported else target.model,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=_cost(usage, price, prompt, 0 if operation == EMBEDDINGS else completion),
    )


def _cost(
    usage: Mapping[str, object], price: Price | None, prompt: int | None, completion: int | None
) -> float | None:
    """The amount that the provider names itself, as OpenRouter does; else tokens by price."""
    named = usage.get("cost")
    if isinstance(named, int | float) and not isinstance(named, bool) and 0 <= named < DEAREST:
        return float(named)
    if price is None or prompt is None or completion is None:
        return None
    return price.cost(prompt, completion)


def _tokens(usage: Mapping[str, object], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
