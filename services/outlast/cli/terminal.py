"""How commands speak: plain lines, JSON lines, one clear message for an error."""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Final, TextIO

import orjson
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from outlast.core.errors import OutlastError, SettingsError

__all__ = [
    "AsJson",
    "AsJsonLines",
    "ReaderGone",
    "complain",
    "counting",
    "err",
    "line",
    "mute",
    "never_fail_on_a_character",
    "one_line",
    "out",
    "print_json",
    "span",
    "table",
    "waiting",
]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print a JSON object on each line.")]


class ReaderGone(Exception):
    """Whoever read standard output has enough, as ``head`` does."""

    exit_code = 141
    """128 + SIGPIPE, as a shell shows a program that the signal ended."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave by our own way: rich would exit with 1, which here means a finding."""
        raise ReaderGone


out: Final = _Console(highlight=False, markup=False, emoji=False)
err: Final = _Console(stderr=True, highlight=False, markup=False, emoji=False)


def line(text: str, *, style: str | None = None) -> None:
    """One line on standard output, never wrapped."""
    out.print(text, style=style, soft_wrap=True)


def print_json(fields: Mapping[str, object]) -> None:
    """One JSON object on a line of its own, UTF-8 whatever the locale says."""
    try:
        typer.echo(orjson.dumps(fields))
    except BrokenPipeError:
        raise ReaderGone from None


def mute() -> None:
    """Send to nowhere what is still to be written, so that Python's last flush is quiet too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def never_fail_on_a_character() -> None:
    """Where the locale cannot show a character, show its code instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            _reconfigured(stream)


def _reconfigured(stream: TextIO) -> None:
    stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]


@contextmanager
def counting(
    what: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """Gives a function that counts on; on a terminal the count is seen while it lasts.

    It is on standard error, and gone at the end. ``shown=False`` hides it, where the command's
    own output runs down the same screen.
    """
    if not (err.is_terminal and shown):
        yield lambda _: None
        return
    count = "{task.completed:,}" if total is None else "{task.completed:,} of {task.total:,}"
    columns = (
        SpinnerColumn(),
        TextColumn(f"{{task.description}} {count}", markup=False),
        TimeElapsedColumn(),
    )
    # Not redirected: what is printed meanwhile goes to standard output, not to this screen.
    with Progress(
        *columns, console=err, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """On a terminal, what is waited for and how long already."""
    if not err.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        progress.add_task(what, total=None)
        yield


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[str] = ()
) -> None:
    """A table without a frame; the headings named in ``numbers`` are set to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in numbers else "left")
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
