"""The shape of the configuration, key by key, as pydantic checks it."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from outlast.core.policy import MAX_TTL_SECONDS
from outlast.edges.settings.rules import address, http_url, target, variable

__all__ = [
    "ENVIRONMENT_PREFIX",
    "MAX_BODY_BYTES",
    "NESTED",
    "ClocksShape",
    "DefaultsShape",
    "KafkaShape",
    "LimitsShape",
    "ProviderShape",
    "RouteShape",
    "Shape",
]

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
ENVIRONMENT_PREFIX: Final = "OUTLAST_"
NESTED: Final = "__"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)]
Prefix = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$", max_length=100)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Ttl = Annotated[float, Field(gt=0, le=MAX_TTL_SECONDS)]
Count = Annotated[int, Field(ge=1)]
Partitions = Annotated[int, Field(ge=1, le=1_000)]


class Table(BaseModel):
    """A table of the file: unknown keys are mistakes, and no input is shown in a traceback."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class KafkaShape(Table):
    """``[kafka]``."""

    bootstrap_servers: Annotated[str, AfterValidator(address)] = "localhost:9092"
    max_body_bytes: Annotated[int, Field(ge=1024, le=MAX_BODY_BYTES)] = 1_000_000
    prefix: Prefix = "outlast"
    partitions: Partitions = 12
    topic_partitions: dict[str, Partitions] = {}


class DefaultsShape(Table):
    """``[defaults]``."""

    drain_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    route: str | None = None
    ttl_seconds: Ttl = 86_400.0


class LimitsShape(Table):
    """``limits`` of a provider: the whole pool's."""

    concurrency: Count = 100
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None


class ClocksShape(Table):
    """``clocks`` of a provider."""

    connect_seconds: Seconds = 5.0
    first_token_seconds: Seconds = 600.0
    idle_seconds: Seconds = 60.0
    total_seconds: Seconds = 600.0


class ProviderShape(Table):
    """``[providers.<name>]``."""

    family: Literal["compatible", "openai", "deepseek", "anthropic"]
    base_url: Annotated[str, AfterValidator(http_url)] | None = None
    jurisdiction: Name | None = None
    limits: LimitsShape = LimitsShape()
    clocks: ClocksShape = ClocksShape()
    api_key_env: Annotated[str, AfterValidator(variable)] | None = None
    api_key_file: Annotated[str, StringConstraints(min_length=1)] | None = None


class RouteShape(Table):
    """``[routes.<name>]``."""

    targets: Annotated[list[Annotated[str, AfterValidator(target)]], Field(min_length=1)]
    max_attempts: Count = 8
    max_calls: Count = 40
    throttle_wait_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    on_ambiguous: Literal["alternate", "retry", "hold"] = "alternate"
    on_content_policy: Literal["dead_letter", "alternate"] = "dead_letter"
    results: Name = "default"
    ttl_seconds: Ttl | None = None
    scope: Annotated[list[str], Field(min_length=1)] | None = None


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
