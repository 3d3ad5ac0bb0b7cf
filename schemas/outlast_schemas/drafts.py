"""Frozen values made fast: written as a draft, and frozen once they are whole.

A frozen dataclass sets each of its fields by a call, which takes ten times as long as it takes to
set a field of any other object. What every job needs on every move is made as a draft instead: an
object with the same fields that can still be written. To freeze it is to give it its class::

    draft = _Draft()
    draft.provider, draft.model = "deepseek", "flash"
    draft.__class__ = Target
"""

from collections.abc import Callable
from typing import Any

__all__ = ["draft_of"]


def draft_of(frozen: type) -> Callable[[], Any]:
    """The drafts of a frozen dataclass with slots; each has to be given every field."""
    return type(f"{frozen.__name__}Draft", (), {"__slots__": vars(frozen)["__slots__"]})
