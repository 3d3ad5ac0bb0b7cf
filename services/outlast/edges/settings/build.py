"""From the checked shape to the frozen values that the rest of Outlast knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from outlast.core.policy import Catalogue, Clocks, Defaults, Limits, Provider, Route, Target
from outlast.edges.settings.shape import ProviderShape, RouteShape, Shape

__all__ = ["BASE_URLS", "Kafka", "catalogue_of", "kafka_of"]

BASE_URLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic": "https://api.anthropic.com",
        "deepseek": "https://api.deepseek.com",
        "openai": "https://api.openai.com/v1",
    }
)
"""Where each family lives; ``compatible`` lives wherever its owner says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """How to reach Kafka, and how our topics are named and cut there.

    ``topic_partitions`` maps a topic's name without its prefix to the partitions it shall have.
    """

    bootstrap_servers: str = "localhost:9092"
    max_body_bytes: int = 1_000_000
    prefix: str = "outlast"
    partitions: int = 12
    topic_partitions: Mapping[str, int] = field(default_factory=dict)


def kafka_of(shape: Shape) -> Kafka:
    """The ``[kafka]`` table."""
    return Kafka(
        bootstrap_servers=shape.kafka.bootstrap_servers,
        max_body_bytes=shape.kafka.max_body_bytes,
        prefix=shape.kafka.prefix,
        partitions=shape.kafka.partitions,
        topic_partitions=MappingProxyType(dict(shape.kafka.topic_partitions)),
    )


def catalogue_of(shape: Shape) -> Catalogue:
    """All providers and routes."""
    return Catalogue(
        providers=MappingProxyType({n: _provider(n, p) for n, p in shape.providers.items()}),
        routes=MappingProxyType({name: _route(name, r) for name, r in shape.routes.items()}),
        defaults=Defaults(
            drain_seconds=shape.defaults.drain_seconds,
            route=shape.defaults.route,
            ttl_seconds=shape.defaults.ttl_seconds,
        ),
        max_body_bytes=shape.kafka.max_body_bytes,
    )


def _provider(name: str, shape: ProviderShape) -> Provider:
    return Provider(
        name=name,
        family=shape.family,
        base_url=shape.base_url or BASE_URLS[shape.family],
        jurisdiction=shape.jurisdiction,
        limits=Limits(**shape.limits.model_dump()),
        clocks=Clocks(**shape.clocks.model_dump()),
        api_key_env=shape.api_key_env,
        api_key_file=shape.api_key_file,
    )


def _route(name: str, shape: RouteShape) -> Route:
    return Route(
        name=name,
        targets=tuple(map(Target.parse, shape.targets)),
        max_attempts=shape.max_attempts,
        max_calls=shape.max_calls,
        throttle_wait_seconds=shape.throttle_wait_seconds,
        on_ambiguous=shape.on_ambiguous,
        on_content_policy=shape.on_content_policy,
        results=shape.results,
        ttl_seconds=shape.ttl_seconds,
        scope=tuple(shape.scope or ()),
    )
