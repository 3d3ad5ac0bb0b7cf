"""What one KRaft node is told, which ports it may take, and whether it answers."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HOST = "127.0.0.1"
DEFAULT_PORT = 19092
# Above this, systems hand ports out to outgoing connections, and one of those may hold ours.
FIRST_EPHEMERAL_PORT = 32768
PROTOCOLS = ("SASL_SSL", "SSL", "SASL_PLAINTEXT")
SECURITY = "org.apache.kafka.common.security"


@dataclass(frozen=True, kw_only=True)
class Secured:
    """Listeners that a test may have beside the plain one, of one broker only.

    ``keystore`` is a PEM file of the broker's key and certificates, ``truststore`` one of the
    authority that signs the clients'. The users have their passwords for PLAIN and for SCRAM;
    OAUTHBEARER takes unsigned tokens, as Kafka does for trying.
    """

    port: int
    keystore: Path
    truststore: Path
    users: Mapping[str, str]

    @property
    def ports(self) -> dict[str, int]:
        """Security protocol to port; ``SSL`` asks for the client's certificate."""
        return {name: self.port + index for index, name in enumerate(PROTOCOLS)}

    @property
    def scram(self) -> list[str]:
        """The users, as ``kafka-storage format --add-scram`` takes them."""
        return [
            f"{mechanism}=[name={user},password={password}]"
            for user, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]

    @property
    def properties(self) -> dict[str, object]:
        """What the broker is told beside the listeners' addresses."""
        users = " ".join(f'user_{user}="{password}"' for user, password in self.users.items())
        logins = {
            "plain": f"plain.PlainLoginModule required {users};",
            "scram-sha-256": "scram.ScramLoginModule required;",
            "scram-sha-512": "scram.ScramLoginModule required;",
            "oauthbearer": "oauthbearer.OAuthBearerLoginModule required "
            'unsecuredLoginStringClaim_sub="broker";',
        }
        settings: dict[str, object] = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.keystore,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.truststore,
            "listener.name.ssl.ssl.client.auth": "required",
        }
        for listener in ("sasl_ssl", "sasl_plaintext"):
            prefix = f"listener.name.{listener}"
            settings[f"{prefix}.sasl.enabled.mechanisms"] = ",".join(logins).upper()
            for mechanism, login in logins.items():
                settings[f"{prefix}.{mechanism}.sasl.jaas.config"] = f"{SECURITY}.{login}"
        return settings


class BrokerError(Exception):
    """Says what is wrong and what to do about it."""


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    with socket.socket() as probe:  # another interface's wildcard may hold it all the same
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def free_port(start: int = DEFAULT_PORT, count: int = 1) -> int:
    """The first of `count` neighbouring ports, none of them taken, at or after `start`."""
    for first in range(start, FIRST_EPHEMERAL_PORT - count, count):
        if not any(is_taken(port) for port in range(first, first + count)):
            return first
    raise BrokerError(f"no {count} free ports between {start} and {FIRST_EPHEMERAL_PORT}")


def properties(
    node: int,
    ports: Sequence[int],
    controllers: Sequence[int],
    data: Path,
    secured: Secured | None = None,
) -> str:
    copies = len(ports)
    open_to = {"PLAINTEXT": ports[node - 1], **(secured.ports if secured else {})}
    addresses = ",".join(f"{name}://{HOST}:{port}" for name, port in open_to.items())
    kinds = ",".join(f"{name}:{name}" for name in open_to)
    in_sync = min(2, copies)
    voters = ",".join(f"{index}@{HOST}:{port}" for index, port in enumerate(controllers, 1))
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node,
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{addresses},CONTROLLER://{HOST}:{controllers[node - 1]}",
        "advertised.listeners": addresses,
        "listener.security.protocol.map": f"{kinds},CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 4,
        "offsets.retention.minutes": 43_200,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # a node that was killed comes back only after its old session has run out
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        **(secured.properties if secured else {}),
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def cluster_seen_by(port: int) -> tuple[str, int]:
    """The cluster id and how many live brokers a node names in answer to Metadata (version 7)."""
    body = struct.pack(">hhihi?", 3, 7, 1, -1, 0, False)  # no client id, no topics, create none
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answer:
                _size, _correlation, _throttle, brokers = struct.unpack(">iiii", answer.read(16))
                for _ in range(brokers):
                    answer.read(4)  # its id
                    _read_text(answer)  # its host
                    answer.read(4)  # its port
                    _read_text(answer)  # its rack
                return _read_text(answer), brokers
    except (OSError, struct.error):
        return "", 0


def _read_text(answer: BinaryIO) -> str:
    """A nullable string of Kafka's protocol."""
    (length,) = struct.unpack(">h", answer.read(2))
    return answer.read(max(0, length)).decode()


def command_line(pid: int) -> str:
    """Empty when there is no such process, or only its exit code is left."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
    command = ["ps", "-ww", "-p", str(pid), "-o", "command="]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
