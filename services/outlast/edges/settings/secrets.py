"""A secret by its name: from an environment variable or a file, never from the configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast.core.errors import SettingsError
from outlast.edges.settings.rules import VARIABLE
from outlast.edges.settings.security import SECRETS

__all__ = ["kafka_secrets", "secret"]


def secret(
    key: str, variable: str | None, path: str | None, what: str, environ: Mapping[str, str]
) -> tuple[str, str] | None:
    """The secret as it is found, and the place in words; ``None`` when no place is named.

    Args:
        key: its dotted key, without ``_env`` and ``_file``.
        variable: the environment variable that holds it.
        path: the file that holds it.
        what: the secret in words.
        environ: the environment variables.

    Raises:
        SettingsError: naming the variable or file that cannot be read.
    """
    if variable is not None:
        return _variable(key, variable, what, environ), f"the environment variable {variable}"
    if path is not None:
        return _content(key, path), f"the file {path}"
    return None


def kafka_secrets(
    kafka: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The secrets that the file's ``[kafka]`` names, and what is wrong with the places."""
    found: dict[str, str] = {}
    mistakes: list[str] = []
    for name, what in SECRETS.items():
        variable, path = kafka.get(f"{name}_env"), kafka.get(f"{name}_file")
        if not _is_usable(variable, path):
            continue  # it is a mistake of another kind, and named as that
        try:
            read = secret(f"kafka.{name}", variable or None, path or None, what, environ)
            if read is not None:
                found[name] = _without_newline(f"kafka.{name}", *read, what)
        except SettingsError as error:
            mistakes += error.mistakes
    return found, mistakes


def _is_usable(variable: object, path: object) -> bool:
    is_name = isinstance(variable, str) and VARIABLE.fullmatch(variable) is not None
    return not (variable and path) and (not variable or is_name) and isinstance(path or "", str)


def _without_newline(key: str, text: str, where: str, what: str) -> str:
    """A password may hold blanks; the newline at a file's end is an editor's."""
    kept = text.rstrip("\r\n")
    if not kept:
        raise SettingsError([f"{key}: {where} is empty: put {what} there"])
    return kept


def _variable(key: str, name: str, what: str, environ: Mapping[str, str]) -> str:
    if name not in environ:
        raise SettingsError(
            [f"{key}_env: the environment variable {name} is not set: set it to {what}"]
        )
    return _text(environ[name], f"{key}_env: the environment variable {name}")


def _text(value: str, where: str) -> str:
    """A variable may hold any bytes; those that are no text could never be sent."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SettingsError([f"{where} is not text in UTF-8"]) from None
    return value


def _content(key: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not UTF-8, or a path with a null character
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError([f"{key}_file: {path} cannot be read: {why}"]) from None
