"""How help reads: plain lines that fit 80 columns, commands by what a user does with them."""

from collections.abc import Mapping
from typing import Any, Final, TypedDict

import typer
from typer.core import TyperGroup

__all__ = ["SECTIONS", "Commands", "described", "new_app"]

SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Publish and read": ("submit", "results", "dead-letters"),
    "Run": ("init", "topics", "run"),
    "Operate": ("replay", "status", "job", "providers", "pause", "drain", "resume", "cancel"),
    "Check": ("doctor", "audit", "drill"),
}
"""Section → the commands in it, in this order; those of a later version are named already."""
ELSEWHERE: Final = "More commands"


class Commands(TyperGroup):
    """A group of commands whose help lists them in sections."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One list for each section; a group without sections has one."""
        short = {
            name: command.get_short_help_str(formatter.width)
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        }
        widest = max(map(len, short), default=0)
        for title, names in _sections(tuple(short)).items():
            with formatter.section(title):
                # One width for all sections, so that they stand under each other.
                formatter.write_dl([(name.ljust(widest), short[name]) for name in names])


def _sections(there: tuple[str, ...]) -> dict[str, list[str]]:
    placed = {title: [n for n in names if n in there] for title, names in SECTIONS.items()}
    known = {name for names in placed.values() for name in names}
    if not known:
        return {"Commands": list(there)}
    placed[ELSEWHERE] = [name for name in there if name not in known]
    return {title: names for title, names in placed.items() if names}


def new_app(**settings: Any) -> typer.Typer:
    """A group of commands with this help and the same habits everywhere."""
    return typer.Typer(
        cls=Commands,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


class Help(TypedDict):
    """Two arguments of ``app.command`` and ``typer.Typer``."""

    help: str
    short_help: str


def described(what: str, examples: str = "", *, more: str = "") -> Help:
    """The help of a command, and its line in the list of commands.

    Args:
        what: paragraphs; the first line is the summary in the list of commands.
        examples: lines that are kept as they are.
        more: paragraphs after the examples.
    """
    parts = [what.strip()]
    if examples:
        lines = "\n".join(f"  {each}".rstrip() for each in examples.strip().splitlines())
        parts.append(f"\b\nExamples:\n{lines}")
    if more:
        parts.append(more.strip())
    summary = what.strip().splitlines()[0]
    return {"help": "\n\n".join(parts), "short_help": summary}
