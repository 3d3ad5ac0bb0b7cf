"""``outlast init``: write a first outlast.toml."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Final

import typer

from outlast.cli.help import described
from outlast.cli.terminal import line
from outlast.edges.settings import DEFAULT_FILE
from outlast.edges.settings.template import template

__all__ = ["register"]

WHAT: Final = """
Write a commented outlast.toml: every setting, its meaning, its default.

It works as it is where Kafka is at localhost:9092 and a model at 127.0.0.1:8000. It holds no
secrets: it names the environment variables or files that do.
"""
EXAMPLES: Final = """
outlast init
outlast init --path /etc/outlast.toml
"""
NEXT: Final = """\
next:
  put your Kafka, your providers and their models into {path}
  {outlast} topics apply
  {outlast} doctor
  {outlast} run"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(**described(WHAT, EXAMPLES))(init)


def init(
    path: Annotated[
        Path, typer.Option("--path", metavar="PATH", dir_okay=False, help="Where to.")
    ] = Path(DEFAULT_FILE),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write the file, and say what to do with it."""
    _write(path, force)
    line(f"wrote {path}")
    config = "" if path == Path(DEFAULT_FILE) else f" --config {quote(str(path))}"
    line(NEXT.format(path=path, outlast=f"outlast{config}"))


def _write(path: Path, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise typer.BadParameter(f"{path} is there already; --force overwrites it") from None
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}") from None
