"""Why Kafka is not reached, and which setting to look at.

aiokafka's bootstrap logs each cause and raises none of them, so one connection is made here to
be told; where a broker only hangs up, it is asked whether it speaks TLS.
"""

import asyncio
import socket
import ssl
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from outlast.edges.kafka.security import secured
from outlast.edges.settings import Kafka

__all__ = ["explanation", "nobody"]

TRY_MS: Final = 1_500
WRONG_NAME: Final = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
TOO_EARLY: Final = 9
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID; the next is X509_V_ERR_CERT_HAS_EXPIRED."""
EXPIRED: Final = 10


async def explanation(kafka: Kafka, error: BaseException) -> str:
    """One sentence or two for the user; ``error`` is what the client said."""
    for host, port, _ in collect_hosts(kafka.bootstrap_servers):
        why = await _why(kafka, host, port)
        if why is not None:
            return f"Kafka at {host}:{port} cannot be used: {why}"
    return nobody(kafka, error)


def nobody(kafka: Kafka, error: BaseException) -> str:
    """Nobody is there, as far as one can tell."""
    return (
        f"no Kafka broker answers at {kafka.bootstrap_servers} ({type(error).__name__}). "
        "Is it running? The address is kafka.bootstrap_servers in outlast.toml, "
        "or OUTLAST_KAFKA__BOOTSTRAP_SERVERS."
    )


async def _why(kafka: Kafka, host: str, port: int) -> str | None:
    """What is wrong there; ``None`` when nobody answers, or nothing is found."""
    connection: AIOKafkaConnection | None = None
    try:
        connection = await _connected(host, port, secured(kafka))
        about = await connection.send(MetadataRequest([]))
    except (ConnectionRefusedError, socket.gaierror, TimeoutError):
        return None
    except (KafkaError, OSError, ValueError) as error:
        return _said(kafka, host, error) or await _hung_up(kafka, host, port, connection)
    finally:
        if connection is not None:
            connection.close()
    is_refused = kafka.sasl_mechanism == "OAUTHBEARER" and not about.brokers
    return _refused(kafka) if is_refused else None


async def _connected(host: str, port: int, security: dict[str, Any]) -> AIOKafkaConnection:
    return await create_conn(host, port, client_id="outlast", request_timeout_ms=TRY_MS, **security)


def _said(kafka: Kafka, host: str, error: BaseException | None) -> str | None:
    """What the broker or OpenSSL said in so many words."""
    match error:
        case ssl.SSLCertVerificationError():
            return _certificate(host, error)
        case ssl.SSLError(reason=str(reason)) if "ALERT" in reason:
            return _alert(kafka, reason)
        case SaslAuthenticationFailed():
            return _refused(kafka)
        case UnsupportedSaslMechanismError():
            return f"it does not offer kafka.sasl_mechanism {kafka.sasl_mechanism}"
        case IllegalSaslStateError():
            return f"it wants no SASL: kafka.security_protocol is {kafka.security_protocol}"
        case KafkaConnectionError(args=(str(text), *_)) if text.startswith("kafka.sasl_oauth"):
            return text
        case BaseException(__cause__=BaseException() as cause):
            return _said(kafka, host, cause)
        case _:
            return None


def _certificate(host: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in WRONG_NAME:
        return (
            f"its certificate is not for {host}. Connect to a name that it holds "
            "(kafka.bootstrap_servers), or set kafka.ssl_check_hostname = false"
        )
    if error.verify_code == TOO_EARLY:
        return "its certificate is not valid yet: is this machine's clock right?"
    if error.verify_code == EXPIRED:
        return "its certificate has expired"
    return (
        f"its certificate is not trusted ({error.verify_message}). "
        "Name the authority that signed it with kafka.ssl_cafile"
    )


def _alert(kafka: Kafka, reason: str) -> str:
    words = reason.partition("ALERT_")[2].replace("_", " ").lower()
    if "CERTIFICATE" not in reason and "CA" not in reason.split("_"):
        return f"it ended the TLS handshake ({words})"
    if kafka.ssl_certfile is None:
        return f"it wants a client's certificate ({words}): kafka.ssl_certfile and ssl_keyfile"
    return f"it refused our certificate ({words}): kafka.ssl_certfile is {kafka.ssl_certfile}"


def _refused(kafka: Kafka) -> str:
    """Its word on the password; a refused token shows only in what follows.

    aiokafka sends the token and takes any answer for yes (conn.py, OAuthAuthenticator): the broker
    then answers the next request with nothing in it, or hangs up.
    """
    if kafka.sasl_mechanism == "OAUTHBEARER":
        return "it refused the token: look at the kafka.sasl_oauth_ settings"
    return (
        f"it refused the user {kafka.sasl_username} by {kafka.sasl_mechanism}: "
        "kafka.sasl_username, sasl_mechanism or the password is wrong"
    )


async def _hung_up(
    kafka: Kafka, host: str, port: int, connection: AIOKafkaConnection | None
) -> str | None:
    """It closed the connection without a word: it expects something else than we send."""
    protocol = kafka.security_protocol
    if kafka.uses_tls and await _speaks_plainly(host, port):
        return f"it speaks without TLS, and kafka.security_protocol is {protocol}"
    if not kafka.uses_tls and await _speaks_tls(host, port):
        return f"it speaks TLS, and kafka.security_protocol is {protocol}: SSL or SASL_SSL?"
    if connection is None:
        return None
    if kafka.uses_sasl:
        return _refused(kafka)
    return f"it wants SASL, and kafka.security_protocol is {protocol}"


async def _speaks_plainly(host: str, port: int) -> bool:
    try:
        (await _connected(host, port, {})).close()
    except (KafkaError, OSError, TimeoutError):
        return False
    return True


async def _speaks_tls(host: str, port: int) -> bool:
    """Whether a handshake gets anywhere; nothing is sent, so nobody need be trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(TRY_MS / 1000):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True
