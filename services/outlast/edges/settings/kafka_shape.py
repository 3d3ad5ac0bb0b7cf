"""The shape of ``[kafka]``, told as :mod:`.shape` tells the rest."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from outlast.edges.settings.kafka import Mechanism, Protocol
from outlast.edges.settings.rules import address, token_url
from outlast.edges.settings.scalars import Partitions, Prefix, Table, Text, Variable

__all__ = ["MAX_BODY_BYTES", "KafkaShape"]

MAX_BODY_BYTES: Final = 16 * 1024 * 1024


class KafkaShape(Table):
    """``[kafka]``."""

    bootstrap_servers: Annotated[str, AfterValidator(address)] = Field(
        default="localhost:9092",
        description="Where the brokers are: host:port, several with commas.",
    )
    security_protocol: Protocol = Field(
        default="PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    sasl_mechanism: Mechanism | None = Field(
        default=None,
        description="How SASL authenticates: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.",
        examples=["SCRAM-SHA-512"],
    )
    sasl_username: Text | None = Field(
        default=None, description="User for PLAIN and SCRAM.", examples=["outlast"]
    )
    sasl_password_env: Variable | None = Field(
        default=None,
        description="Environment variable that holds the user's password.",
        examples=["KAFKA_PASSWORD"],
    )
    sasl_password_file: Text | None = Field(
        default=None,
        description="File that holds the user's password, in place of the variable.",
        examples=["/run/secrets/kafka-password"],
    )
    sasl_oauth_token_file: Text | None = Field(
        default=None,
        description="File that holds a token for OAUTHBEARER, read again for each connection.",
        examples=["/var/run/secrets/tokens/kafka"],
    )
    sasl_oauth_token_url: Annotated[str, AfterValidator(token_url)] | None = Field(
        default=None,
        description="Where OAUTHBEARER gets its token by client credentials, in place of a file.",
        examples=["https://login.example.com/oauth2/token"],
    )
    sasl_oauth_client_id: Text | None = Field(
        default=None, description="Client id for the token address.", examples=["outlast"]
    )
    sasl_oauth_client_secret_env: Variable | None = Field(
        default=None,
        description="Environment variable that holds the client's secret.",
        examples=["KAFKA_CLIENT_SECRET"],
    )
    sasl_oauth_client_secret_file: Text | None = Field(
        default=None,
        description="File that holds the client's secret, in place of the variable.",
        examples=["/run/secrets/kafka-client-secret"],
    )
    sasl_oauth_scope: Text | None = Field(
        default=None, description="Scope to ask the token address for.", examples=["kafka"]
    )
    ssl_cafile: Text | None = Field(
        default=None,
        description="PEM file of the authorities that may sign the brokers' certificates; "
        "else the system's.",
        examples=["/etc/kafka/ca.pem"],
    )
    ssl_certfile: Text | None = Field(
        default=None,
        description="PEM file of the certificate by which we authenticate (mutual TLS).",
        examples=["/etc/kafka/client.pem"],
    )
    ssl_keyfile: Text | None = Field(
        default=None,
        description="PEM file of that certificate's private key.",
        examples=["/etc/kafka/client.key"],
    )
    ssl_key_password_env: Variable | None = Field(
        default=None,
        description="Environment variable that holds the private key's password.",
        examples=["KAFKA_KEY_PASSWORD"],
    )
    ssl_key_password_file: Text | None = Field(
        default=None,
        description="File that holds the private key's password, in place of the variable.",
        examples=["/run/secrets/kafka-key-password"],
    )
    ssl_check_hostname: bool = Field(
        default=True,
        description="Whether a broker's certificate must name the host we connected to.",
    )
    max_body_bytes: Annotated[int, Field(ge=1024, le=MAX_BODY_BYTES)] = Field(
        default=1_000_000,
        description="Largest request and largest answer, in bytes; at most 16 MiB.",
    )
    prefix: Prefix = Field(
        default="outlast", description="First part of the name of every topic and group."
    )
    partitions: Partitions = Field(
        default=12,
        description="Partitions of each topic; can be raised, never lowered.",
    )
    topic_partitions: dict[str, Partitions] = Field(
        default={},
        description="Partitions of single topics, by their names without the prefix.",
        examples=[{"work.local": 24}],
    )
