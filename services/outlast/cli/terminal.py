"""How commands speak: plain lines, JSON lines, one clear message for an error."""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson
import typer
from rich.console import Console
from rich.table import Table

from outlast.core.errors import OutlastError, SettingsError

__all__ = ["complain", "err", "line", "one_line", "out", "print_json", "span", "table"]

out: Final = Console(highlight=False, markup=False, emoji=False)
err: Final = Console(stderr=True, highlight=False, markup=False, emoji=False)


def line(text: str, *, style: str | None = None) -> None:
    """One line on standard output, never wrapped."""
    out.print(text, style=style, soft_wrap=True)


def print_json(fields: Mapping[str, object]) -> None:
    """One JSON object on a line of its own."""
    typer.echo(orjson.dumps(fields).decode())


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: str = "") -> None:
    """A table without a frame; the headings named in ``numbers`` are set to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numbers.split() else "left")
    for row in rows:
        made.add_row(*row)
    out.print(made)


def complain(error: OutlastError) -> None:
    """Say on standard error what is wrong, a line for each mistake."""
    if isinstance(error, SettingsError):
        err.print("The settings have mistakes:", style="bold red", soft_wrap=True)
        for mistake in error.mistakes:
            err.print(f"  {mistake}", soft_wrap=True)
    else:
        err.print(str(error), style="red", soft_wrap=True)


def one_line(text: str, width: int) -> str:
    """The text on one line, cut to ``width`` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else f"{flat[: max(1, width - 1)]}…"


def span(ms: int) -> str:
    """A span of time in its largest whole unit."""
    seconds = max(0, ms) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
