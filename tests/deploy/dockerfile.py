"""deploy/Dockerfile and .dockerignore, read: instructions by stage, and what a build is given."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FILE: Final = ROOT / "deploy" / "Dockerfile"
IGNORE: Final = ROOT / ".dockerignore"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined."""

    word: str
    rest: str

    @property
    def options(self) -> dict[str, str]:
        """`--from=build` and the like."""
        return dict(re.findall(r"--([\w-]+)=(\S+)", self.rest))

    @property
    def arguments(self) -> list[str]:
        """The words behind the options."""
        return [each for each in self.rest.split() if not each.startswith("--")]

    @property
    def exec_form(self) -> list[str] | None:
        """The JSON list, or nothing when it is in shell form."""
        try:
            found: list[str] = json.loads(self.rest)
        except ValueError:
            return None
        return found


@dataclass(frozen=True, slots=True)
class Stage:
    """What follows one FROM."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        """Those of one kind, in their order."""
        return [each for each in self.instructions if each.word == word]


def instructions(text: str) -> list[Instruction]:
    """All of them, without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    split = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [Instruction(word.upper(), rest.strip()) for word, _, rest in split]


def stages() -> dict[str, Stage]:
    """The stages by name, in their order."""
    found: list[Stage] = []
    for instruction in instructions(FILE.read_text()):
        if instruction.word == "FROM":
            base, _, name = instruction.rest.partition(" AS ")
            found.append(Stage(name, base))
        else:
            found[-1].instructions.append(instruction)
    return {stage.name: stage for stage in found}


def lineage(name: str) -> list[Instruction]:
    """Everything that applies to an image: its own instructions after those it builds on."""
    stage = stages()[name]
    below = lineage(stage.base) if stage.base in stages() else []
    return [*below, *stage.instructions]


def last(name: str, word: str) -> Instruction:
    """The one that counts."""
    return [each for each in lineage(name) if each.word == word][-1]


def entrypoint(name: str) -> list[str]:
    """What a container of it runs."""
    found = last(name, "ENTRYPOINT").exec_form
    assert found is not None
    return found


def is_ignored(path: str, patterns: list[str] | None = None) -> bool:
    """Whether a build is not given a file: the last pattern that fits it or a folder above it.

    The rules are those of ``docker build``: docs.docker.com/build/concepts/context, .dockerignore.
    """
    ignored = False
    for pattern in ignore_patterns() if patterns is None else patterns:
        wanted = pattern.startswith("!")
        if _fits(pattern.removeprefix("!"), path):
            ignored = not wanted
    return ignored


def ignore_patterns() -> list[str]:
    """The lines of .dockerignore."""
    lines = (line.strip() for line in IGNORE.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _fits(pattern: str, path: str) -> bool:
    expression = re.escape(pattern.strip("/")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.fullmatch(f"{expression}(?:/.*)?", path) is not None
