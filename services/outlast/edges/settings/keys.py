"""A provider's API key: from an environment variable or a file, never from the configuration."""

from collections.abc import Mapping

from outlast.core.errors import SettingsError
from outlast.core.policy import Provider
from outlast.edges.settings.secrets import secret

__all__ = ["api_key"]


def api_key(provider: Provider, environ: Mapping[str, str]) -> str | None:
    """The key, or ``None`` when the provider names none.

    Raises:
        SettingsError: naming the provider and the variable or file that holds no usable key.
    """
    key = f"providers.{provider.name}.api_key"
    what = f"the API key of {provider.name}"
    found = secret(key, provider.api_key_env, provider.api_key_file, what, environ)
    if found is None:
        return None
    return _usable(*found, f"{key}_env" if provider.api_key_env is not None else f"{key}_file")


def _usable(text: str, where: str, key: str) -> str:
    kept = text.strip()
    if not kept:
        raise SettingsError([f"{key}: {where} is empty: put the API key there"])
    if not all(0x20 < ord(character) < 0x7F for character in kept):
        raise SettingsError([f"{key}: {where} holds more than a key: blanks or odd characters"])
    return kept
