"""What one part of the configuration says of another: targets, routes, scopes, topics, security.

Reads the tables as they are, so that a mistake elsewhere does not hide these.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from outlast.edges.settings.security import faults_in_security
from outlast_schemas.topics import Topics

__all__ = ["faults_in_references"]

Raw = Mapping[str, Any]
JURISDICTION: Final = "jurisdiction:"


def faults_in_references(raw: Raw) -> Iterator[str]:
    """Every name that refers to nothing, and what contradicts itself."""
    providers, routes = _table(raw, "providers"), _table(raw, "routes")
    for name, provider in providers.items():
        yield from _provider(f"providers.{name}", _mapping(provider))
    for name, route in routes.items():
        yield from _targets(f"routes.{name}", _mapping(route), providers)
        yield from _scope(f"routes.{name}", _mapping(route), providers)
    default = _table(raw, "defaults").get("route")
    if isinstance(default, str) and not _is_route(default, routes, providers):
        yield f"defaults.route names the unknown route {default!r}; {_hint(default, routes)}"
    yield from _topics(_table(raw, "kafka"), providers, routes)
    yield from faults_in_security(_table(raw, "kafka"))


def _provider(key: str, provider: Raw) -> Iterator[str]:
    if provider.get("family") == "compatible" and not provider.get("base_url"):
        yield f"{key}.base_url is required for the family compatible"
    if provider.get("api_key_env") and provider.get("api_key_file"):
        yield f"{key} names both api_key_env and api_key_file; keep one"


def _targets(key: str, route: Raw, providers: Raw) -> Iterator[str]:
    for number, target in enumerate(_strings(route.get("targets"))):
        provider, slash, _ = target.partition("/")
        if slash and provider not in providers:
            hint = _hint(provider, providers)
            yield f"{key}.targets[{number}] names the unknown provider {provider!r}; {hint}"


def _scope(key: str, route: Raw, providers: Raw) -> Iterator[str]:
    entries = _strings(route.get("scope"))
    places = {str(_mapping(each).get("jurisdiction")) for each in providers.values()}
    unknown = [each for each in entries if not _is_known(each, providers, places)]
    for entry in unknown:
        yield f"{key}.scope names {entry!r}, which is no provider and nobody's jurisdiction"
    targets = [target.partition("/")[0] for target in _strings(route.get("targets"))]
    if (
        entries
        and targets
        and not unknown
        and not any(_allows(entries, t, providers) for t in targets)
    ):
        yield f"{key}.scope leaves none of its targets"


def _is_known(entry: str, providers: Raw, places: set[str]) -> bool:
    if entry.startswith(JURISDICTION):
        return entry.removeprefix(JURISDICTION) in places
    return entry in providers


def _allows(scope: Iterable[str], provider: str, providers: Raw) -> bool:
    place = _mapping(providers.get(provider)).get("jurisdiction")
    return provider in scope or f"{JURISDICTION}{place}" in scope


def _is_route(name: str, routes: Raw, providers: Raw) -> bool:
    provider, slash, model = name.partition("/")
    return name in routes or bool(slash and model and provider in providers)


def _topics(kafka: Raw, providers: Raw, routes: Raw) -> Iterator[str]:
    asked = _strings([_mapping(route).get("results") for route in routes.values()])
    results = tuple(dict.fromkeys(("default", *asked)))
    table = Topics("x").table(tuple(map(str, providers)), results)
    known = [topic.name.removeprefix("x.") for topic in table]
    for name in _mapping(kafka.get("topic_partitions")):
        if name not in known:
            hint = _hint(str(name), known)
            yield f"kafka.topic_partitions.{name} names an unknown topic; {hint}"


def _hint(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(names)}" if names else "none is configured"


def _table(raw: Raw, key: str) -> Raw:
    return _mapping(raw.get(key))


def _mapping(value: object) -> Raw:
    return value if isinstance(value, Mapping) else {}


def _strings(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
