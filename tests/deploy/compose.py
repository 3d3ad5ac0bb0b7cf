"""docker-compose.yml as Docker Compose reads it: parsed, merged, its variables put in."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
FILE: Final = ROOT / "docker-compose.yml"
SETTINGS: Final = ROOT / "deploy" / "compose" / "outlast.toml"
NOTHING: Final[Mapping[str, str]] = {}

Service = dict[str, Any]


def services(environ: Mapping[str, str] = NOTHING) -> dict[str, Service]:
    """Every service, whatever its profile, with the variables of ``environ``."""
    found: dict[str, Service] = document(environ)["services"]
    return found


def document(environ: Mapping[str, str] = NOTHING) -> Any:
    """The whole file."""
    return _filled(yaml.safe_load(FILE.read_text()), environ)


def variables() -> set[str]:
    """The variables that the file asks its user's environment for."""
    without_escaped = FILE.read_text().replace("$$", "")
    return set(re.findall(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", _without_comments(without_escaped)))


def providers() -> dict[str, dict[str, Any]]:
    """The providers of the stack's own configuration."""
    found: dict[str, dict[str, Any]] = tomllib.loads(SETTINGS.read_text())["providers"]
    return found


def brokers(environ: Mapping[str, str] = NOTHING) -> dict[str, Service]:
    """The services that are Kafka."""
    return _those_named("kafka", environ)


def pools(environ: Mapping[str, str] = NOTHING) -> dict[str, Service]:
    """Provider → the service that works for it."""
    found = _those_named("work-", environ)
    return {name.removeprefix("work-"): each for name, each in found.items()}


def simulators(environ: Mapping[str, str] = NOTHING) -> dict[str, Service]:
    """The services that stand in for providers."""
    return _those_named("simulator-", environ)


def ours(environ: Mapping[str, str] = NOTHING) -> dict[str, Service]:
    """Everything but Kafka."""
    kafka = brokers()
    return {name: each for name, each in services(environ).items() if name not in kafka}


def outlast_commands() -> Iterator[tuple[str, list[str]]]:
    """Service → what it says to `outlast`, for those that say something."""
    for name, service in ours().items():
        image = service["build"]["target"]
        if image == "outlast" and "entrypoint" not in service and "command" in service:
            yield name, service["command"]


def option(words: list[str], name: str) -> str:
    """What stands behind an option."""
    return words[words.index(name) + 1]


def _those_named(prefix: str, environ: Mapping[str, str]) -> dict[str, Service]:
    return {name: each for name, each in services(environ).items() if name.startswith(prefix)}


def _without_comments(text: str) -> str:
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def _filled(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, environ) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, environ) for each in value]
    return _interpolated(value, environ) if isinstance(value, str) else value


PIECE: Final = re.compile(
    r"\$\$"  # a dollar of its own
    r"|\$\{(?P<name>\w+)(?::(?P<how>[-+])(?P<word>(?:[^${}]|\$\$|\$\{[^{}]*\})*))?\}"
)


def _interpolated(text: str, environ: Mapping[str, str]) -> str:
    """``${A}``, ``${A:-word}``, ``${A:+word}`` and ``$$``; anything else stays as it is."""

    def piece(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        value, word = environ.get(found["name"], ""), found["word"] or ""
        match found["how"]:
            case "-":
                return value or _interpolated(word, environ)
            case "+":
                return _interpolated(word, environ) if value else ""
            case _:
                return value

    return PIECE.sub(piece, text)
