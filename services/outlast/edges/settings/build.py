"""From the checked shape to the frozen values that the rest of Outlast knows."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from outlast.core.policy import Catalogue, Clocks, Defaults, Limits, Price, Provider, Route, Target
from outlast.edges.settings.kafka import Kafka
from outlast.edges.settings.monitoring import Monitoring
from outlast.edges.settings.security import SECRETS
from outlast.edges.settings.shape import ProviderShape, RouteShape, Shape

__all__ = ["BASE_URLS", "catalogue_of", "kafka_of", "monitoring_of"]

BASE_URLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic": "https://api.anthropic.com",
        "deepseek": "https://api.deepseek.com",
        "openai": "https://api.openai.com/v1",
    }
)
"""Where each family lives; ``compatible`` lives wherever its owner says."""


def kafka_of(shape: Shape, secrets: Mapping[str, str]) -> Kafka:
    """The ``[kafka]`` table, with the secrets it names."""
    places = {f"{secret}_{place}" for secret in SECRETS for place in ("env", "file")}
    said = shape.kafka.model_dump(exclude={*places, "topic_partitions"})
    # A plain dict: the value is handed to processes that are spawned, and a proxy cannot be.
    return Kafka(**{**said, **secrets}, topic_partitions=dict(shape.kafka.topic_partitions))


def monitoring_of(shape: Shape) -> Monitoring:
    """The ``[monitoring]`` table."""
    return Monitoring(listen=shape.monitoring.listen)


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
        prices=MappingProxyType({m: Price(**p.model_dump()) for m, p in shape.prices.items()}),
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
