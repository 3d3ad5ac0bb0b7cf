"""Looks at the secrets that the configuration names: there, usable, and read by nobody else."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from outlast.core.errors import SettingsError
from outlast.core.facts import SecretFacts
from outlast.core.policy import Provider
from outlast.edges.settings import Settings, api_key
from outlast.edges.settings.security import SECRETS
from outlast.edges.settings.sources import from_environment, from_file, merged

__all__ = ["mistake_in_key", "secrets_of"]

OTHERS_MAY_READ: Final = 0o044
KAFKA_FILES: Final = (*(f"{secret}_file" for secret in SECRETS), "ssl_keyfile")
"""Settings that name a file with a secret in it."""


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> Iterator[SecretFacts]:
    """What is known of each, never its value.

    Those of ``[kafka]`` have been read already, or the settings would not be there.
    """
    kafka = _written(settings, environ)
    for key in KAFKA_FILES:
        if isinstance(file := kafka.get(key), str) and file:
            yield _file(f"kafka.{key}", file, None)
    for name, provider in settings.catalogue.providers.items():
        mistake = mistake_in_key(provider, environ)
        if provider.api_key_env is not None:
            yield SecretFacts(key=f"providers.{name}.api_key_env", mistake=mistake)
        elif provider.api_key_file is not None:
            yield _file(f"providers.{name}.api_key_file", provider.api_key_file, mistake)


def mistake_in_key(provider: Provider, environ: Mapping[str, str]) -> str | None:
    """Why the provider's key cannot be used; ``None`` when it can, or none is named."""
    try:
        api_key(provider, environ)
    except SettingsError as error:
        return str(error)
    return None


def _written(settings: Settings, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """``[kafka]`` as it was written: the settings keep the secrets, not where they were."""
    below = from_file(Path(settings.path)) if settings.path else {}
    kafka = merged(below, from_environment(environ)).get("kafka")
    return kafka if isinstance(kafka, dict) else {}


def _file(key: str, file: str, mistake: str | None) -> SecretFacts:
    is_open = mistake is None and bool(Path(file).stat().st_mode & OTHERS_MAY_READ)
    return SecretFacts(key=key, mistake=mistake, file=file, is_open=is_open)
