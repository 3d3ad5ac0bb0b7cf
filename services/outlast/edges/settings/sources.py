"""Where the settings come from: the file, and above it the environment."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import EnvSettingsSource

from outlast.core.errors import SettingsError
from outlast.edges.settings.shape import ENVIRONMENT_PREFIX, Shape

__all__ = ["from_environment", "from_file", "merged"]

Raw = dict[str, Any]


class _Environment(EnvSettingsSource):
    """pydantic-settings' reading of nested variables, from a mapping that is passed in."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(Shape)
        self.env_vars = {
            name.lower(): value
            for name, value in environ.items()
            if value and name.upper().startswith(ENVIRONMENT_PREFIX)
        }

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        """A list or table in one variable is JSON; what is not is shown as the mistake it is."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def from_environment(environ: Mapping[str, str]) -> Raw:
    """The variables ``OUTLAST_<TABLE>__<KEY>`` as nested tables; an empty value counts as unset."""
    return _Environment(environ)()


def from_file(path: Path) -> Raw:
    """The tables of a TOML file. Raises ``SettingsError`` when it cannot be read as one."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError([f"{path} is not valid TOML: {error}"]) from error
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from error


def merged(below: Raw, above: Raw) -> Raw:
    """Both, table by table; ``above`` wins."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        if isinstance(under, dict) and isinstance(value, dict):
            both[key] = merged(under, value)
        else:
            both[key] = value
    return both
