"""The families by the name the configuration gives them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from outlast.edges.providers.anthropic import ANTHROPIC
from outlast.edges.providers.compatible import COMPATIBLE
from outlast.edges.providers.deepseek import DEEPSEEK
from outlast.edges.providers.family import Family, probe_body
from outlast.edges.providers.openai import OPENAI

__all__ = ["FAMILIES", "Family", "probe_body"]

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {family.name: family for family in (COMPATIBLE, OPENAI, DEEPSEEK, ANTHROPIC)}
)
