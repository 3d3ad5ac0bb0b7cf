"""Times as they are written on the command line: an instant, or a span back from now."""

import re
from datetime import UTC, datetime
from typing import Final

import typer

__all__ = ["instant", "since"]

UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)")


def instant(text: str, option: str) -> datetime:
    """An instant with a time zone. Raises a usage error that names the option."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            "an instant such as 2026-03-30T06:00:00Z was expected", param_hint=option
        ) from None
    if when.tzinfo is None:
        raise typer.BadParameter(
            "a time zone is missing, such as the Z of 2026-03-30T06:00:00Z", param_hint=option
        )
    return when.astimezone(UTC)


def since(text: str, now: int, option: str) -> int:
    """Epoch ms of an instant, or of a span back from ``now`` (epoch ms), such as 90s, 15m, 1h, 2d.

    Raises a usage error that names the option.
    """
    found = SPAN.fullmatch(text.strip())
    if found is None and not text[:1].isdigit():
        raise typer.BadParameter(
            "90s, 15m, 1h or 2d ago, or an instant such as 2026-03-30T06:00:00Z, was expected",
            param_hint=option,
        )
    if found is None:
        return int(instant(text, option).timestamp() * 1000)
    return now - int(float(found[1]) * UNITS[found[2]] * 1000)
