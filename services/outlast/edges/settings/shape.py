"""The shape of the configuration, key by key, as pydantic checks it and as the reference tells it.

``description`` is the only text about a key: ``outlast init`` and README's table are made of it.
``examples`` stand there for keys that have no default.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from outlast.core.policy import Family, OnAmbiguous, OnContentPolicy
from outlast.edges.settings.kafka_shape import KafkaShape
from outlast.edges.settings.rules import http_url, listening, target
from outlast.edges.settings.scalars import (
    Count,
    Dollars,
    Name,
    Patience,
    Seconds,
    Table,
    Text,
    Ttl,
    Variable,
)

__all__ = [
    "ENVIRONMENT_PREFIX",
    "NESTED",
    "ClocksShape",
    "DefaultsShape",
    "KafkaShape",
    "LimitsShape",
    "MonitoringShape",
    "PriceShape",
    "ProviderShape",
    "RouteShape",
    "Shape",
]

ENVIRONMENT_PREFIX: Final = "OUTLAST_"
NESTED: Final = "__"


class DefaultsShape(Table):
    """``[defaults]``."""

    drain_seconds: Patience = Field(
        default=60.0, description="Seconds that a stop waits for calls in flight."
    )
    route: str | None = Field(
        default=None, description="Route of jobs whose bodies name no model.", examples=["chat"]
    )
    ttl_seconds: Ttl = Field(
        default=86_400.0, description="Seconds for which an answer is wanted, at most 7 days."
    )


class MonitoringShape(Table):
    """``[monitoring]``."""

    listen: Annotated[str, AfterValidator(listening)] | None = Field(
        default=None,
        description="Where outlast run answers /metrics, /live and /ready: host:port, another for "
        "each process of a host; else nowhere.",
        examples=["127.0.0.1:9464"],
    )


class LimitsShape(Table):
    """``limits`` of a provider: the whole pool's."""

    concurrency: Count = Field(default=100, description="Calls in flight, of the whole pool.")
    requests_per_minute: Count | None = Field(
        default=None, description="Calls a minute, of the whole pool.", examples=[5_000]
    )
    tokens_per_minute: Count | None = Field(
        default=None,
        description="Tokens a minute, of the whole pool: the prompt and what is asked for, settled "
        "by the answer.",
        examples=[2_000_000],
    )


class ClocksShape(Table):
    """``clocks`` of a provider."""

    connect_seconds: Seconds = Field(default=5.0, description="Seconds to connect.")
    first_token_seconds: Seconds = Field(
        default=600.0,
        description="Seconds to the first byte that is no white space; calls are not streamed, "
        "so it comes with the whole answer.",
    )
    idle_seconds: Seconds = Field(
        default=60.0, description="Seconds without a byte, after the first."
    )
    slow_seconds: Seconds = Field(
        default=60.0,
        description="Seconds from which a call counts as slow; "
        "where half are, the provider is down.",
    )
    total_seconds: Seconds = Field(default=600.0, description="Seconds for the whole call.")


class PriceShape(Table):
    """``prices`` of a provider, one model's."""

    input: Dollars = Field(
        description="List price of the prompt's tokens, in US dollars per million.", examples=[0.27]
    )
    output: Dollars = Field(
        description="List price of the answer's tokens, in US dollars per million.", examples=[1.10]
    )


class ProviderShape(Table):
    """``[providers.<name>]``."""

    family: Family = Field(
        description="Which dialect it speaks: compatible, openai, deepseek or anthropic.",
        examples=["compatible"],
    )
    base_url: Annotated[str, AfterValidator(http_url)] | None = Field(
        default=None,
        description="What /chat/completions (anthropic: /v1/messages) is appended to; else where "
        "the family lives.",
        examples=["http://127.0.0.1:8000/v1"],
    )
    api_key_env: Variable | None = Field(
        default=None,
        description="Environment variable that holds the API key.",
        examples=["LOCAL_API_KEY"],
    )
    api_key_file: Text | None = Field(
        default=None,
        description="File that holds the API key, in place of the variable.",
        examples=["/run/secrets/local-api-key"],
    )
    jurisdiction: Name | None = Field(
        default=None, description="What jurisdiction:<name> in a scope refers to.", examples=["eu"]
    )
    limits: LimitsShape = LimitsShape()
    clocks: ClocksShape = ClocksShape()
    prices: dict[Text, PriceShape] = Field(default={})


class RouteShape(Table):
    """``[routes.<name>]``."""

    targets: Annotated[list[Annotated[str, AfterValidator(target)]], Field(min_length=1)] = Field(
        description="provider/model, in order of preference.", examples=[["local/your-model"]]
    )
    max_attempts: Count = Field(default=8, description="Charged calls of one run.")
    max_calls: Count = Field(default=40, description="Calls of one run in all.")
    throttle_wait_seconds: Patience = Field(
        default=30.0,
        description="Seconds that a throttled job waits before it goes to the alternate.",
    )
    on_ambiguous: OnAmbiguous = Field(
        default="alternate",
        description="After a call that may have been executed: alternate, retry or hold.",
    )
    on_content_policy: OnContentPolicy = Field(
        default="dead_letter",
        description="After a refusal for its content: dead_letter or alternate.",
    )
    results: Name = Field(default="default", description="Name of the result topic.")
    ttl_seconds: Ttl | None = Field(
        default=None,
        description="Seconds for which an answer is wanted; else defaults.ttl_seconds.",
        examples=[3_600],
    )
    scope: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="Providers, or jurisdiction:<name>, that may see its jobs; else all.",
        examples=[["local"]],
    )


class Shape(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=NESTED,
    )

    kafka: KafkaShape = KafkaShape()
    defaults: DefaultsShape = DefaultsShape()
    monitoring: MonitoringShape = MonitoringShape()
    providers: dict[Name, ProviderShape] = {}
    routes: dict[Name, RouteShape] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what :mod:`.sources` has read and merged: nothing is read behind its back."""
        return (init_settings,)
