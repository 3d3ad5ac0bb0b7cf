"""A broker with secured listeners, the certificates for it, and the ways to connect to it."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trustme
from cryptography.hazmat.primitives import serialization

from deploy.kafka.broker import Broker, Secured, free_port

USER: Final = "alice"
PASSWORD: Final = "password-canary-7751!"
KEY_PASSWORD: Final = "key-canary-7753"
WAYS: Final = (
    "SASL_SSL PLAIN",
    "SASL_SSL SCRAM-SHA-256",
    "SASL_SSL SCRAM-SHA-512",
    "SASL_SSL OAUTHBEARER",
    "SASL_PLAINTEXT SCRAM-SHA-512",
    "SSL",
)


@dataclass(frozen=True)
class Fortress:
    """The broker, and the files beside it: `ca.pem`, `other-ca.pem`, `client.pem`, `token`, …"""

    broker: Broker
    secured: Secured
    directory: Path
    token: str

    def servers(self, protocol: str, host: str = "127.0.0.1") -> str:
        """Where that protocol is spoken."""
        port = self.broker.ports[0] if protocol == "PLAINTEXT" else self.secured.ports[protocol]
        return f"{host}:{port}"

    def file(self, name: str) -> str:
        """The path of a file."""
        return str(self.directory / name)

    def settings(self, way: str) -> dict[str, Any]:
        """What `Kafka` takes to connect in that way."""
        protocol, _, mechanism = way.partition(" ")
        settings: dict[str, Any] = {"security_protocol": protocol}
        if protocol in ("SSL", "SASL_SSL"):
            settings["ssl_cafile"] = self.file("ca.pem")
        if protocol == "SSL":
            settings["ssl_certfile"] = self.file("client.pem")
            settings["ssl_keyfile"] = self.file("client.pem")
        if mechanism:
            settings["sasl_mechanism"] = mechanism
        if mechanism == "OAUTHBEARER":
            settings["sasl_oauth_token_file"] = self.file("token")
        elif mechanism:
            settings |= {"sasl_username": USER, "sasl_password": PASSWORD}
        return settings


@contextmanager
def fortress(directory: Path) -> Iterator[Fortress]:
    """The broker is started, and stopped at the end."""
    token = unsigned_token()
    _write_files(directory, token)
    port = free_port(24092, count=5)
    secured = Secured(
        port=port + 2,
        keystore=directory / "broker.pem",
        truststore=directory / "ca.pem",
        users={USER: PASSWORD},
    )
    with Broker(directory / "kafka", port=port, secured=secured) as broker:
        yield Fortress(broker, secured, directory, token)


def unsigned_token(seconds: int = 600) -> str:
    """A JWT without a signature, which Kafka's validator for trying takes."""
    now = int(time.time())
    claims = ({"alg": "none"}, {"sub": USER, "iat": now, "exp": now + seconds})
    parts = (base64.urlsafe_b64encode(json.dumps(each).encode()) for each in claims)
    return ".".join(part.decode().rstrip("=") for part in parts) + "."


def _write_files(directory: Path, token: str) -> None:
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(directory / "ca.pem")
    other.cert_pem.write_to_path(directory / "other-ca.pem")
    _write(directory / "broker.pem", ca.issue_cert("127.0.0.1"))
    _write(directory / "client.pem", ca.issue_cert("client.example"))
    _write(directory / "locked.pem", ca.issue_cert("client.example"), KEY_PASSWORD)
    _write(directory / "foreign.pem", other.issue_cert("client.example"))
    (directory / "token").write_text(f"{token}\n")
    (directory / "bad-token").write_text("token-canary-7752")
    (directory / "password").write_text(f"{PASSWORD}\n")


def _write(path: Path, certificate: trustme.LeafCert, password: str | None = None) -> None:
    """The key in PKCS 8, the only form that Java reads, and the certificates."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption(),
    )
    path.write_bytes(pem + b"".join(each.bytes() for each in certificate.cert_chain_pems))
