"""Strict readings of JSON fields: the value as its type, or a ``TypeError`` that shows it."""

from collections.abc import Mapping

__all__ = ["array", "count", "mapping", "optional_count", "optional_text", "text", "whole"]


def whole(value: object) -> int:
    """A whole number of either sign."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a whole number was expected, not {value!r:.40}")
    return value


def count(value: object) -> int:
    """A whole number from 0 that every JSON reader keeps exact: up to 2**53 (RFC 8259)."""
    if type(value) is int and 0 <= value <= 2**53:  # each state holds seven of them
        return value
    number = whole(value)
    if not 0 <= number <= 2**53:
        raise TypeError(f"a whole number from 0 was expected, not {number}")
    return number


def text(value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"a string was expected, not {value!r:.40}")
    return value


def mapping(value: object) -> Mapping[str, object]:
    """An object."""
    if not isinstance(value, Mapping):
        raise TypeError(f"an object was expected, not {value!r:.40}")
    return value


def array(value: object) -> list[object]:
    """An array."""
    if not isinstance(value, list):
        raise TypeError(f"an array was expected, not {value!r:.40}")
    return value


def optional_count(value: object) -> int | None:
    """A whole number from 0, or null."""
    return None if value is None else count(value)


def optional_text(value: object) -> str | None:
    """A string, or null."""
    return None if value is None else text(value)
