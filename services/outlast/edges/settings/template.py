"""The text of a first ``outlast.toml``: every key there is, with what it means."""

import re
import textwrap
from collections.abc import Iterator, Mapping
from itertools import groupby
from types import MappingProxyType
from typing import Final

from outlast.edges.settings.reference import Key, every_key, literal

__all__ = ["template"]

COLUMNS: Final = 100
HEAD: Final = """\
# The settings of Outlast, as `outlast init` wrote them.
#
# "#key = value" is a default: take the # away to change it. "# e.g. key = value" shows a key that
# has no default. The environment wins over this file: OUTLAST_KAFKA__BOOTSTRAP_SERVERS, and so on.
# Secrets never stand here: the file names the environment variable or the file that holds each.
"""
LIVE: Final[Mapping[str, object]] = MappingProxyType(
    {
        "kafka.bootstrap_servers": "localhost:9092",
        "defaults.route": "chat",
        "providers.<name>.family": "compatible",
        "providers.<name>.base_url": "http://127.0.0.1:8000/v1",
        "routes.<name>.targets": ["local/your-model"],
    }
)
"""What is not commented out: one provider on this machine, and a route to it."""
NAMES: Final = MappingProxyType({"providers": "local", "routes": "chat"})
TITLES: Final = MappingProxyType(
    {
        "kafka": "Where Kafka is, and how our topics are cut there.",
        "defaults": "What holds where a route or a job says nothing.",
        "monitoring": "Seen from outside: metrics, and whether a process is alive and ready.",
        "providers": "A provider is a pool of workers; its name is yours to choose.",
        "routes": "A route is what a job asks for: its model, or its header outlast-route.",
    }
)
FAMILIES: Final = """
# The other families know where they live. Take the # away, and set the variable to your key.

#[providers.deepseek]
#family = "deepseek"
#api_key_env = "DEEPSEEK_API_KEY"
#jurisdiction = "cn"
#limits = { concurrency = 500 }

#[providers.openai]
#family = "openai"
#api_key_env = "OPENAI_API_KEY"
#jurisdiction = "us"
#limits = { concurrency = 200 }

#[providers.anthropic]
#family = "anthropic"
#api_key_env = "ANTHROPIC_API_KEY"
#jurisdiction = "us"
#limits = { concurrency = 100 }
"""


def template() -> str:
    """A file that loads as it is, and as well with every default written out."""
    parts = [HEAD]
    for table, keys in groupby(every_key(), lambda key: key.name.partition(".")[0]):
        name = f"{table}.{NAMES[table]}" if table in NAMES else table
        parts.append(f"\n# {TITLES[table]}\n[{name}]\n")
        parts += [_entry(key) for key in keys]
        if table == "providers":
            parts.append(FAMILIES)
    return "".join(parts)


def _entry(key: Key) -> str:
    """The meaning above, the key below."""
    return "\n".join(["", *_comment(key.meaning), _line(key), ""])


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, COLUMNS - 2, break_on_hyphens=False):
        yield f"# {line}"


def _line(key: Key) -> str:
    name = _inside(key.name)
    if key.name in LIVE:
        return f"{name} = {literal(LIVE[key.name])}"
    if key.default is not None:
        return f"#{name} = {literal(key.default)}"
    return f"# e.g. {name} = {literal(key.example)}"


def _inside(name: str) -> str:
    """The key within its table: dotted where it lies deeper, with a model's name in quotes."""
    below = re.sub(r"^\w+\.(<name>\.)?", "", name)
    return below.replace("<model>", '"your-model"')
