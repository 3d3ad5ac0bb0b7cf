"""A provider's API key: from an environment variable or a file, never from the configuration."""

from collections.abc import Mapping
from pathlib import Path

from outlast.core.errors import SettingsError
from outlast.core.policy import Provider

__all__ = ["api_key"]


def api_key(provider: Provider, environ: Mapping[str, str]) -> str | None:
    """The key, or ``None`` when the provider names none.

    Raises:
        SettingsError: naming the provider and the variable or file that holds no usable key.
    """
    if provider.api_key_env is not None:
        where = f"the environment variable {provider.api_key_env}"
        return _usable(
            _variable(provider, environ), f"providers.{provider.name}.api_key_env", where
        )
    if provider.api_key_file is not None:
        where = f"the file {provider.api_key_file}"
        return _usable(_content(provider), f"providers.{provider.name}.api_key_file", where)
    return None


def _variable(provider: Provider, environ: Mapping[str, str]) -> str:
    name = provider.api_key_env or ""
    if name not in environ:
        raise SettingsError(
            [
                f"providers.{provider.name}.api_key_env: the environment variable {name} "
                f"is not set: set it to the API key of {provider.name}"
            ]
        )
    return environ[name]


def _content(provider: Provider) -> str:
    path = provider.api_key_file or ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(
            [f"providers.{provider.name}.api_key_file: {path} cannot be read: {why}"]
        ) from None


def _usable(text: str, key: str, where: str) -> str:
    secret = text.strip()
    if not secret:
        raise SettingsError([f"{key}: {where} is empty: put the API key there"])
    if not all(0x20 < ord(character) < 0x7F for character in secret):
        raise SettingsError([f"{key}: {where} holds more than a key: blanks or odd characters"])
    return secret
