"""The configuration: one TOML file and the environment, read once, every mistake named at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from outlast.core.errors import SettingsError
from outlast.core.policy import Catalogue
from outlast.edges.settings.build import catalogue_of, kafka_of, monitoring_of
from outlast.edges.settings.kafka import Kafka
from outlast.edges.settings.keys import api_key
from outlast.edges.settings.mistakes import checked
from outlast.edges.settings.monitoring import Monitoring
from outlast.edges.settings.rules import fault_in_path
from outlast.edges.settings.secrets import kafka_secrets
from outlast.edges.settings.sources import from_environment, from_file, merged

__all__ = ["DEFAULT_FILE", "Kafka", "Monitoring", "Settings", "api_key", "environment", "load"]

DEFAULT_FILE: Final = "outlast.toml"
CONFIG: Final = "OUTLAST_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that is configured; ``path`` is the file it was read from, if there was one."""

    kafka: Kafka
    catalogue: Catalogue
    monitoring: Monitoring = field(default_factory=Monitoring)
    path: str | None = None


def environment() -> Mapping[str, str]:
    """This process's environment, for the one call of :func:`load`."""
    return dict(os.environ)


def load(environ: Mapping[str, str], path: str | None = None) -> Settings:
    """Read the settings, and the secrets that ``[kafka]`` names.

    The environment wins over the file. A provider's key is not read here, since a publisher has
    none: see :func:`api_key`.

    Args:
        environ: the environment variables.
        path: the file; else what ``OUTLAST_CONFIG`` names, else ``outlast.toml`` if it is there.

    Raises:
        SettingsError: naming every mistake, each with its dotted key.
    """
    named = path or environ.get(CONFIG) or None
    found = _file(named, "--config" if path else CONFIG)
    raw = (
        merged(from_file(found), from_environment(environ)) if found else from_environment(environ)
    )
    said = raw.get("kafka")
    secrets, missing = kafka_secrets(said if isinstance(said, dict) else {}, environ)
    shape = checked(raw, environ, missing)
    return Settings(
        kafka=kafka_of(shape, secrets),
        catalogue=catalogue_of(shape),
        monitoring=monitoring_of(shape),
        path=str(found) if found else None,
    )


def _file(named: str | None, by: str) -> Path | None:
    if named is None:
        return None if fault_in_path(DEFAULT_FILE) else Path(DEFAULT_FILE)
    if (why := fault_in_path(named)) is not None:
        raise SettingsError([f"{by} names {named}, {why}"])
    return Path(named)
