"""Every page of help: it fits 80 columns, its examples stand as written and are right."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from outlast import cli
from outlast.cli.commands import app
from outlast.cli.help import SECTIONS

ROOT: Any = get_command(app)


def pages(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command by its words, the groups included."""
    found = {path: command}
    for name, below in getattr(command, "commands", {}).items():
        found |= pages(below, (*path, name))
    return found


PAGES = pages(ROOT)
COMMANDS = {path: each for path, each in PAGES.items() if not hasattr(each, "commands")}
SILENT = {("run",), ("init",)}
"""They print nothing that a program would read."""


def shown(path: tuple[str, ...], **environ: str) -> str:
    done = CliRunner(env=environ).invoke(app, [*path, "--help"], prog_name="outlast")
    assert done.exit_code == 0, done.output
    return done.output


def examples(page: str) -> list[str]:
    _, _, rest = page.partition("\n  Examples:\n")
    return [line.strip() for line in rest.partition("\n\n")[0].splitlines()]


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_no_line_is_longer_than_80(path: tuple[str, ...]) -> None:
    assert max(map(len, shown(path).splitlines())) <= 80


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_help_is_plain_text(path: tuple[str, ...]) -> None:
    """No box, no colour, no control character: it reads the same in a pipe, a log, an editor."""
    page = shown(path, FORCE_COLOR="1")

    assert page.replace("\n", "").isprintable()
    assert page.isascii()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_says_in_one_line_what_it_does_and_shows_how(path: tuple[str, ...]) -> None:
    page = shown(path)
    summary = page.split("\n\n")[1].strip()

    assert "\n" not in summary
    assert summary.endswith(".")
    assert examples(page)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_example_uses_only_what_there_is(path: tuple[str, ...]) -> None:
    for line in examples(shown(path)):
        command = re.split(r" {3,}", line)[0]  # what follows is a remark
        called = next(part for part in command.split("|") if "outlast" in shlex.split(part))
        words = shlex.split(called)
        words = words[words.index("outlast") + 1 :]
        assert tuple(words[: len(path)]) == path, line
        known = {name for param in COMMANDS[path].params for name in param.opts}
        assert {word for word in words if word.startswith("-") and word != "-"} <= known, line


def test_submit_shows_three_examples() -> None:
    assert len(examples(shown(("submit",)))) == 3


def test_the_main_help_lists_every_command_in_a_section_and_every_exit_code() -> None:
    page = shown(())
    listed = {name for names in SECTIONS.values() for name in names}

    assert set(ROOT.commands) <= listed
    assert [title for title in SECTIONS if f"\n{title}:\n" in page] == list(SECTIONS)
    assert "More commands" not in page
    codes = page.partition("Exit codes:\n")[2].split("\n")
    assert [line.split()[0] for line in codes if line.strip()] == ["0", "1", "2", "3", "4", "130"]


def test_a_command_of_no_section_is_listed_all_the_same() -> None:
    from outlast.cli.help import new_app

    other: typer.Typer = new_app()
    other.command("audit")(lambda: None)
    other.command("new", short_help="A new one.")(lambda: None)
    page = CliRunner().invoke(other, ["--help"]).output

    assert re.search(r"More commands:\n +new +A new one\.", page)


def test_an_option_means_the_same_everywhere() -> None:
    kinds: dict[str, set[str | None]] = {}
    for command in COMMANDS.values():
        for param in command.params:
            for name in param.opts:
                if name.startswith("--"):
                    kinds.setdefault(name, set()).add(param.metavar)

    several = {name: kind for name, kind in kinds.items() if len(kind) > 1}
    assert several == {}


@pytest.mark.parametrize("path", sorted(set(COMMANDS) - SILENT), ids=" ".join)
def test_what_prints_facts_prints_json_too(path: tuple[str, ...]) -> None:
    assert "--json" in shown(path)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    assert all(param.help for param in COMMANDS[path].params if param.name != "help")


def test_every_option_is_written_out() -> None:
    """Typer before 0.28, which FastStream's command asks for, takes metavar NAME for a name."""
    unnamed = [
        f"{path.name}:{call.lineno}"
        for path in Path(cli.__file__).parent.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "typer.Option"
        if not any(ast.unparse(each).startswith("'--") for each in call.args)
    ]

    assert unnamed == []


@pytest.mark.parametrize("columns", ["60", "80", "250"])
def test_a_real_process_keeps_to_the_terminal_and_to_80_columns(columns: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "outlast.cli", "submit", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": columns},
        check=True,
    )
    page, _, _ = done.stdout.partition("\n  Examples:\n")  # those are never broken

    assert max(map(len, page.splitlines())) <= min(80, int(columns))
    assert done.stderr == ""
