"""How to reach Kafka: the values, checked wherever they are made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from outlast.core.errors import SettingsError
from outlast.edges.settings.rules import address, token_url
from outlast.edges.settings.security import contradictions

__all__ = ["Kafka", "Mechanism", "Protocol"]

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """How to reach Kafka, and how our topics are named and cut there.

    The security settings have the names and the meaning that Kafka's clients know. Secrets are
    never shown by ``repr``. For OAUTHBEARER the token comes from ``sasl_oauth_token_file``, or
    from ``sasl_oauth_token_url`` by client credentials (RFC 6749, section 4.4).
    ``topic_partitions`` maps a topic's name without its prefix to the partitions it shall have.

    Raises ``SettingsError`` for an address that is none and for security settings that contradict
    each other, naming them all.
    """

    bootstrap_servers: str = "localhost:9092"
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    sasl_oauth_token_file: str | None = None
    sasl_oauth_token_url: str | None = None
    sasl_oauth_client_id: str | None = None
    sasl_oauth_client_secret: str | None = field(default=None, repr=False)
    sasl_oauth_scope: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_key_password: str | None = field(default=None, repr=False)
    ssl_check_hostname: bool = True
    max_body_bytes: int = 1_000_000
    prefix: str = "outlast"
    partitions: int = 12
    topic_partitions: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, as the file's reader does."""
        mistakes = [
            *_rule("bootstrap_servers", self.bootstrap_servers, address),
            *_rule("sasl_oauth_token_url", self.sasl_oauth_token_url, token_url),
            *_choice("security_protocol", self.security_protocol, get_args(Protocol)),
            *_choice("sasl_mechanism", self.sasl_mechanism, (*get_args(Mechanism), None)),
            *contradictions({each.name: getattr(self, each.name) for each in fields(self)}),
        ]
        if mistakes:
            raise SettingsError(mistakes)

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def uses_sasl(self) -> bool:
        """Whether connections authenticate by SASL."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")


def _choice(key: str, value: str | None, known: tuple[str | None, ...]) -> list[str]:
    if value in known:
        return []
    return [f"kafka.{key} must be {', '.join(filter(None, known))}, not {value!r:.40}"]


def _rule(key: str, value: str | None, rule: Callable[[str], str]) -> list[str]:
    try:
        if value is not None:
            rule(value)
    except ValueError as error:
        return [f"kafka.{key} {error}"]
    return []
