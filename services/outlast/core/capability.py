"""What a job can ask for, and which families of providers have it."""

from collections.abc import Mapping
from typing import Final, Literal

from outlast.core.policy import Family

__all__ = ["CHAT", "EMBEDDINGS", "OPERATIONS", "Operation", "can", "families_with"]

Operation = Literal["chat.completions", "embeddings"]
"""What a job asks for, by the path of OpenAI's API; the header ``outlast-operation`` names it."""

CHAT: Final[Operation] = "chat.completions"
EMBEDDINGS: Final[Operation] = "embeddings"
OPERATIONS: Final[tuple[Operation, ...]] = (CHAT, EMBEDDINGS)

_OF_FAMILY: Final[Mapping[Family, frozenset[Operation]]] = {
    "openai": frozenset(OPERATIONS),
    "compatible": frozenset(OPERATIONS),
    "deepseek": frozenset({CHAT}),  # POST /embeddings is a 404 (DeepSeek-R1 #652)
    "anthropic": frozenset({CHAT}),  # its documents point to other providers for embeddings
}


def can(family: Family, operation: Operation) -> bool:
    """Whether the API of that family has the operation; a model of it may still lack it."""
    return operation in _OF_FAMILY[family]


def families_with(operation: Operation) -> tuple[Family, ...]:
    """The families that have the operation, by name."""
    return tuple(sorted(family for family in _OF_FAMILY if can(family, operation)))
