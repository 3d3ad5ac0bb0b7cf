"""Which settings of the security to Kafka go together; ``said`` maps a key to its value."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from outlast.edges.settings.rules import fault_in_path

__all__ = ["FILES", "SECRETS", "contradictions", "faults_in_security"]

Said = Mapping[str, Any]
Written = Mapping[str, str]

SECRETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sasl_password": "the password of kafka.sasl_username",
        "sasl_oauth_client_secret": "the secret of kafka.sasl_oauth_client_id",
        "ssl_key_password": "the password of kafka.ssl_keyfile",
    }
)
"""What never stands in the file: it says ``<key>_env`` or ``<key>_file`` in its place."""
FILES: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "sasl_oauth_token_file")

PASSWORD: Final = ("sasl_username", "sasl_password")
CLIENT: Final = ("sasl_oauth_client_id", "sasl_oauth_client_secret", "sasl_oauth_scope")
OAUTH: Final = ("sasl_oauth_token_file", "sasl_oauth_token_url", *CLIENT)
SASL: Final = ("sasl_mechanism", *PASSWORD, *OAUTH)
SSL: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password", "ssl_check_hostname")
BY_PASSWORD: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
ENCRYPTED: Final = ("SSL", "SASL_SSL")
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


def faults_in_security(kafka: Said) -> Iterator[str]:
    """What is wrong with the security settings of the file's ``[kafka]``, as it stands there."""
    for secret in SECRETS:
        if kafka.get(f"{secret}_env") and kafka.get(f"{secret}_file"):
            yield f"kafka names both {secret}_env and {secret}_file; keep one"
    said = {**kafka, **{secret: _written(kafka, secret) for secret in SECRETS}}
    written = {s: _written(kafka, s) or f"{s}_env (or {s}_file)" for s in SECRETS}
    yield from contradictions(said, written)
    yield from _missing_files(kafka)


def _written(kafka: Said, secret: str) -> str | None:
    return next((key for key in (f"{secret}_env", f"{secret}_file") if kafka.get(key)), None)


def _missing_files(kafka: Said) -> Iterator[str]:
    for key in FILES:
        path = kafka.get(key)
        if isinstance(path, str) and path and (why := fault_in_path(path)) is not None:
            yield f"kafka.{key} names {path:.200}, {why}"


def contradictions(said: Said, written: Written = MappingProxyType({})) -> Iterator[str]:
    """Every rule that is broken.

    Args:
        said: key to value, as :class:`~outlast.edges.settings.Kafka` names them; what is empty,
            and a host name check that is on, counts as not said.
        written: how a key is to be written where that differs from its name.
    """
    given = {key: written.get(key, key) for key in (*SASL, *SSL) if _is_said(key, said.get(key))}
    protocol = said.get("security_protocol") or "PLAINTEXT"
    if protocol not in PROTOCOLS:
        return  # its type is wrong already: what it was meant to be is not known
    yield from _mute(str(protocol), given)
    if str(protocol).startswith("SASL_"):
        yield from _sasl(str(protocol), said.get("sasl_mechanism"), given, written)
    yield from _certificate(given)


def _is_said(key: str, value: object) -> bool:
    return value is False if key == "ssl_check_hostname" else bool(value)


def _mute(protocol: str, given: Written) -> Iterator[str]:
    """Settings that the protocol makes meaningless: somebody meant another protocol."""
    sasl = [] if protocol.startswith("SASL_") else [given[key] for key in SASL if key in given]
    ssl = [] if protocol in ENCRYPTED else [given[key] for key in SSL if key in given]
    if not (sasl or ssl):
        return
    meant = "SASL_SSL" if sasl or protocol.startswith("SASL_") else "SSL"
    yield f"{_are_mute([*sasl, *ssl])} with security_protocol {protocol}; did you mean {meant}?"


def _are_mute(keys: list[str]) -> str:
    return f"kafka.{', '.join(keys)} {'say' if len(keys) > 1 else 'says'} nothing"


def _sasl(protocol: str, mechanism: object, given: Written, written: Written) -> Iterator[str]:
    if not mechanism:
        yield (
            f"kafka.sasl_mechanism is required with {protocol}: "
            f"{', '.join(BY_PASSWORD)} or OAUTHBEARER"
        )
    elif mechanism in BY_PASSWORD:
        yield from _required(PASSWORD, str(mechanism), given, written)
        yield from _strangers(OAUTH, str(mechanism), given)
    elif mechanism == "OAUTHBEARER":
        yield from _strangers(PASSWORD, "OAUTHBEARER", given)
        yield from _token(given, written)


def _required(keys: tuple[str, ...], by: str, given: Written, written: Written) -> Iterator[str]:
    for key in keys:
        if key not in given:
            yield f"kafka.{written.get(key, key)} is required with {by}"


def _strangers(keys: tuple[str, ...], by: str, given: Written) -> Iterator[str]:
    strange = [given[key] for key in keys if key in given]
    if strange:
        yield f"{_are_mute(strange)} with sasl_mechanism {by}"


def _token(given: Written, written: Written) -> Iterator[str]:
    has_file, has_url = "sasl_oauth_token_file" in given, "sasl_oauth_token_url" in given
    if has_file and has_url:
        yield "kafka names both sasl_oauth_token_file and sasl_oauth_token_url; keep one"
    elif has_url:
        yield from _required(CLIENT[:2], "sasl_oauth_token_url", given, written)
    else:
        if not has_file:
            yield "kafka.sasl_oauth_token_file or sasl_oauth_token_url is required with OAUTHBEARER"
        strange = [given[key] for key in CLIENT if key in given]
        if strange:
            yield f"{_are_mute(strange)} without sasl_oauth_token_url"


def _certificate(given: Written) -> Iterator[str]:
    if "ssl_certfile" in given and "ssl_keyfile" not in given:
        yield (
            "kafka.ssl_keyfile is required with ssl_certfile "
            "(name the same file when it holds both)"
        )
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        yield "kafka.ssl_certfile is required with ssl_keyfile"
    if "ssl_key_password" in given and "ssl_keyfile" not in given:
        yield f"kafka.{given['ssl_key_password']} says nothing without ssl_keyfile"
