"""How every client of ours connects: one place for addresses, sizes, timeouts and durability.

What it is secured by is in :mod:`.security`, and comes with the addresses.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from outlast.core.errors import KafkaUnreachable
from outlast.edges.kafka import private
from outlast.edges.kafka.clients import Consumer, PatientAdmin, Producer
from outlast.edges.kafka.security import secured
from outlast.edges.kafka.unreachable import explanation, nobody
from outlast.edges.settings import Kafka
from outlast_schemas.topics import HEADER_BYTES

__all__ = [
    "METADATA_MS",
    "PATIENCE_SECONDS",
    "Cluster",
    "addresses",
    "admin",
    "connect",
    "fetch_bytes",
    "groupless_consumer",
    "largest_record",
    "named",
    "producer",
    "unreachable",
]

PATIENCE_SECONDS: Final = 8.0
"""How long to wait for a first answer of a broker."""
HEARD_SECONDS: Final = 9.5
"""Within ten seconds the user hears why there was none."""
LOOKED_SECONDS: Final = 3.0
"""How long the cause is looked for where another client has waited already."""
BATCH_BYTES: Final = 512 * 1024
"""The 16 KiB default costs ten times the CPU: all senders of a full batch wait for its drain."""
BROKERS_FOR_DURABILITY: Final = 3
METADATA_MS: Final = 15_000
"""A topic that was made anew, or has grown, is noticed within this time, not within minutes."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the cluster said of itself."""

    id: str
    brokers: int

    @property
    def replication_factor(self) -> int:
        """Three where the cluster has three brokers, else one."""
        return 3 if self.brokers >= BROKERS_FOR_DURABILITY else 1


def named(kafka: Kafka) -> dict[str, Any]:
    """Where the cluster is, and who we are."""
    return {"bootstrap_servers": kafka.bootstrap_servers, "client_id": "outlast"}


def addresses(kafka: Kafka) -> dict[str, Any]:
    """The arguments every aiokafka client takes.

    Raises ``SettingsError`` when a certificate or its key cannot be used.
    """
    return {**named(kafka), **secured(kafka)}


async def connect(kafka: Kafka) -> Cluster:
    """Ask the cluster who it is.

    Raises:
        KafkaUnreachable: within ten seconds, naming the address, the cause as far as it can be
            told, and the setting to look at.
        SettingsError: a certificate or its key cannot be used.
    """
    end = asyncio.get_running_loop().time() + HEARD_SECONDS
    try:
        return await _asked(kafka)
    except (KafkaError, OSError, TimeoutError, ValueError) as error:
        raise await unreachable(kafka, error, end) from error


async def unreachable(kafka: Kafka, error: Exception, end: float | None = None) -> KafkaUnreachable:
    """What to raise when a client cannot connect: the cause is looked for.

    Args:
        kafka: how it tried to.
        error: what it said.
        end: when to give the search up, by the loop's clock; else soon.
    """
    try:
        async with asyncio.timeout_at(end or asyncio.get_running_loop().time() + LOOKED_SECONDS):
            return KafkaUnreachable(await explanation(kafka, error))
    except TimeoutError:
        return KafkaUnreachable(nobody(kafka, error))


async def _asked(kafka: Kafka) -> Cluster:
    client = admin(kafka)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await client.start()
            about = await private.metadata(client, ())
    finally:
        await client.close()
    return Cluster(str(about["cluster_id"]), len(about["brokers"]))


def admin(kafka: Kafka) -> AIOKafkaAdminClient:
    """An admin client, not yet started."""
    return PatientAdmin(**addresses(kafka), request_timeout_ms=20_000)


def producer(kafka: Kafka) -> AIOKafkaProducer:
    """A producer whose acks mean: on all in-sync replicas, once. Not yet started."""
    made = Producer(
        **addresses(kafka),
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        compression_type="zstd",
        max_batch_size=min(BATCH_BYTES, largest_record(kafka)),
        max_request_size=largest_record(kafka),
        request_timeout_ms=8_000,
        metadata_max_age_ms=METADATA_MS,
    )
    private.never_expire(made)
    return made


def groupless_consumer(kafka: Kafka, *topics: str) -> AIOKafkaConsumer:
    """A consumer of all partitions that belongs to no group and commits nothing."""
    return Consumer(
        *topics,
        **addresses(kafka),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=fetch_bytes(kafka),
    )


def largest_record(kafka: Kafka) -> int:
    """Bytes a record may have in any topic of ours, its headers included."""
    return kafka.max_body_bytes + HEADER_BYTES


def fetch_bytes(kafka: Kafka) -> int:
    """What one partition may bring in one fetch: at least one record of the largest size."""
    return max(1024 * 1024, largest_record(kafka) + 1024)
