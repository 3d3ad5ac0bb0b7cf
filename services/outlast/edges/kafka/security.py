"""How every connection to Kafka is encrypted and authenticated."""

import logging
import ssl
from functools import lru_cache
from typing import Any, Final

from aiokafka.abc import AbstractTokenProvider

from outlast.core.errors import SettingsError
from outlast.edges.kafka.tokens import TokenFile, TokenUrl
from outlast.edges.settings import Kafka

__all__ = ["secured", "tls", "token_provider"]

CONTEXTS: Final = 8
"""Contexts and providers kept; a process talks to one cluster, a test to a few."""


def secured(kafka: Kafka) -> dict[str, Any]:
    """The arguments of an aiokafka client beside its addresses.

    Raises ``SettingsError`` when a certificate or its key cannot be used.
    """
    arguments: dict[str, Any] = {
        "security_protocol": kafka.security_protocol,
        "ssl_context": tls(kafka),
    }
    if kafka.uses_sasl:
        logging.getLogger("aiokafka.conn").addFilter(_without_credentials)
        arguments |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password,
            "sasl_oauth_token_provider": token_provider(kafka),
        }
    return arguments


def _without_credentials(record: logging.LogRecord) -> bool:
    """Whether it may be said: at DEBUG, aiokafka logs requests as they are, passwords included."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any("SaslAuthenticate" in type(each).__name__ for each in arguments)


def tls(kafka: Kafka) -> ssl.SSLContext | None:
    """One context for all connections of the same kind: each takes tens of milliseconds to make.

    The files are read once: a process that shall use a new certificate is started again.
    Raises ``SettingsError`` when they cannot be used.
    """
    if not kafka.uses_tls:
        return None
    certificate = (kafka.ssl_certfile, kafka.ssl_keyfile, kafka.ssl_key_password)
    return _context(kafka.ssl_cafile, certificate, kafka.ssl_check_hostname)


@lru_cache(CONTEXTS)
def _context(
    cafile: str | None, certificate: tuple[str | None, str | None, str | None], checks_name: bool
) -> ssl.SSLContext:
    context = _trusting(cafile)
    context.check_hostname = checks_name
    _load(context, *certificate)
    return context


def _trusting(cafile: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cafile)
    except ssl.SSLError:
        raise SettingsError(
            [f"kafka.ssl_cafile: {cafile} holds no certificate in PEM form"]
        ) from None
    except OSError as error:
        raise SettingsError(
            [f"kafka.ssl_cafile: {cafile} cannot be read: {error.strerror}"]
        ) from None


def _load(
    context: ssl.SSLContext, certfile: str | None, keyfile: str | None, password: str | None
) -> None:
    if certfile is None:
        return
    try:
        # an empty password, not none: OpenSSL would ask for one at the terminal
        context.load_cert_chain(certfile, keyfile, password or "")
    except ssl.SSLError as error:
        why = (error.reason or "not in PEM form").replace("_", " ").lower()
        raise SettingsError(
            [
                f"kafka.ssl_certfile {certfile} and ssl_keyfile {keyfile} cannot be used ({why}): "
                "is it a certificate in PEM form, its own key, and that key's password?"
            ]
        ) from None
    except OSError as error:
        raise SettingsError(
            [
                f"kafka.ssl_certfile {certfile} or ssl_keyfile {keyfile} cannot be read: "
                f"{error.strerror}"
            ]
        ) from None
    except ValueError:
        raise SettingsError(
            ["kafka.ssl_key_password: OpenSSL takes no password above 1,024 bytes of UTF-8"]
        ) from None


def token_provider(kafka: Kafka) -> AbstractTokenProvider | None:
    """Where OAUTHBEARER's tokens come from; one for all clients, so that they share a token."""
    if kafka.sasl_oauth_token_file is not None:
        return TokenFile(kafka.sasl_oauth_token_file)
    if kafka.sasl_oauth_token_url is None:
        return None
    return _from_url(
        kafka.sasl_oauth_token_url,
        kafka.sasl_oauth_client_id or "",
        kafka.sasl_oauth_client_secret or "",
        kafka.sasl_oauth_scope,
        kafka.ssl_cafile,
    )


@lru_cache(CONTEXTS)
def _from_url(
    url: str, client_id: str, secret: str, scope: str | None, cafile: str | None
) -> TokenUrl:
    return TokenUrl(url, client_id, secret, scope=scope, cafile=cafile)
