"""How many tokens a call may use, before it is made; and how many it has used, after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final, Self

from outlast.core.capability import EMBEDDINGS, Operation
from outlast_schemas.result import Served

__all__ = ["Expected", "Reserved", "Usage", "reserve", "used"]

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

MEMORY: Final = 0.97
"""How much of what was seen of usage is kept when the next call ends: it is that of some thirty."""
DOUBT: Final = 0.1
"""Beside the calls that were seen, so much of one is taken to have used all that it might: enough
for a few calls to be waited for, and little enough that a newcomer knows within seconds."""


class Reserved(int):
    """How many tokens a call may use at most; ``output`` of them are for what it answers."""

    output: int

    def __new__(cls, prompt: int, output: int) -> Self:
        """Both together."""
        made = super().__new__(cls, prompt + output)
        made.output = output
        return made


@dataclass(frozen=True, slots=True)
class Expected:
    """What is set aside for a call.

    Attributes:
        likely: the tokens that a call of its kind uses.
        doubt: so many more, as long as few calls have been seen.
    """

    likely: float
    doubt: float = 0.0

    @property
    def tokens(self) -> float:
        """All of it."""
        return self.likely + self.doubt

    def doubted(self, used: float) -> float:
        """How much of the doubt the call did not come to."""
        return self.doubt - min(self.doubt, max(0.0, used - self.likely))


@dataclass(frozen=True, slots=True)
class Usage:
    """How much calls use of the output they may have; each that ends gives the next value.

    What a request may have is a bound that few come near: a pool that set all of it aside until
    the answer is there could use a small part of its tokens. So what calls had of late is set
    aside: what one has more is owed, and what it has less comes back. Until enough were seen, and
    where answers do not tell their tokens, it is the bound. A minute can have too many only by what
    the calls under way use otherwise than those before them.

    Attributes:
        asked: output tokens that the calls of late might have had; 0 before the first.
        had: those they have had.
        doubt: like ``asked``, of calls taken to have had all.
    """

    asked: float = 0.0
    had: float = 0.0
    doubt: float = 0.0

    def expected(self, most: int) -> Expected:
        """What to set aside for a call that may use so many; a plain number is all output."""
        output = _of_answer(most)
        if not self.asked:
            return Expected(most - output, output)
        share = self.had / self.asked
        cautious = (self.had + self.doubt) / (self.asked + self.doubt)
        return Expected(most - output + share * output, (cautious - share) * output)

    def seen(self, most: int, used: int) -> "Usage":
        """A call that might use ``most`` tokens has used so many; 0 says nothing of the others."""
        output = _of_answer(most)
        if not output or not used:
            return self
        doubt = MEMORY * self.doubt if self.asked else DOUBT * output
        had = min(output, max(0, used - (most - output)))
        return Usage(MEMORY * self.asked + output, MEMORY * self.had + had, doubt)


def _of_answer(most: int) -> int:
    return most.output if isinstance(most, Reserved) else most


def reserve(body: object, operation: Operation) -> Reserved:
    """How many tokens a call may use: an estimate, rather too high, of any body at all.

    Providers count the same way: the prompt and the whole output that was asked for.

    Args:
        body: the parsed request.
        operation: of embeddings only the input counts.
    """
    fields: Mapping[object, object] = body if isinstance(body, Mapping) else {}
    if operation == EMBEDDINGS:
        return Reserved(_tokens([fields.get("input")]), 0)
    prompt = _tokens([fields[name] for name in PROMPT if name in fields])
    return Reserved(prompt, _output(fields))


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
