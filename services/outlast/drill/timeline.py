"""What happens when in a drill: a pure schedule, in seconds from the first job."""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["OUTAGE", "ROUTES", "Step", "route_of"]

Happening = Literal["brownout", "refused", "recovered"]


@dataclass(frozen=True, slots=True)
class Step:
    """At ``share`` of the publishing time this happens to the provider."""

    share: float
    happening: Happening
    told: str


OUTAGE: Final = (
    Step(0.22, "brownout", "deepseek goes down: calls hang or get a 503"),
    Step(0.34, "refused", "deepseek refuses connections"),
    Step(0.56, "recovered", "deepseek answers again"),
)
"""As on 29 March 2026: first calls hang and fail, then nothing answers, then it comes back."""

ROUTES: Final = {
    "chat": ("deepseek/deepseek-flash", "openai/gpt-6-luna", "anthropic/claude-haiku-5-5"),
    "careful": ("anthropic/claude-haiku-5-5", "openai/gpt-6-luna"),
    "private": ("local/{local_model}",),
}
"""Three routes with different first targets."""


def route_of(number: int) -> str:
    """The route of the n-th job: of each twelve, one is private and three are careful."""
    match number % 12:
        case 5:
            return "private"
        case 2 | 7 | 10:
            return "careful"
        case _:
            return "chat"
