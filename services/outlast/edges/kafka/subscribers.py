"""FastStream's part: connections, security and lifecycle of our consumers, and their AsyncAPI.

Its handlers and ack policies are never used on jobs, because they lose work (a handler's ack
commits the position of everything handed out); the feed drives the consumer underneath.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import orjson
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.security import (
    BaseSecurity,
    SASLOAuthBearer,
    SASLPlaintext,
    SASLScram256,
    SASLScram512,
)

from outlast.edges.kafka import private
from outlast.edges.kafka.clients import subscribe_with_ours
from outlast.edges.kafka.connection import METADATA_MS, fetch_bytes, named
from outlast.edges.kafka.membership import Membership
from outlast.edges.kafka.security import tls, token_provider
from outlast.edges.settings import Kafka
from outlast_schemas.vitals import Vitals

__all__ = ["Subscriber", "connected_broker", "feed_subscriber", "vitals_subscriber"]

log = structlog.get_logger()

SESSION_MS: Final = 45_000
HEARTBEAT_MS: Final = 500
"""A joiner waits for the others' next heartbeat: half a second keeps a rebalance short."""
REBALANCE_MS: Final = 6_000
"""So long the whole group waits for a member that died while it was agreeing; a live one needs two
seconds, one of them for its last commit."""
REQUEST_MS: Final = 20_000
"""Above the rebalance timeout, because aiokafka applies it to JoinGroup too."""
A_DAY_MS: Final = 86_400_000


class Subscriber:
    """A FastStream subscriber without a handler, or with ours, and its consumer."""

    def __init__(self, subscriber: Any) -> None:
        """Wrap what ``broker.subscriber`` gave."""
        self._subscriber = subscriber

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The connected consumer; a restarted subscriber has a new one."""
        consumer = self._subscriber.consumer
        if consumer is None:
            raise RuntimeError("the subscriber is not started")
        return consumer

    @property
    def is_started(self) -> bool:
        """Whether there is a consumer to stop."""
        return self._subscriber.consumer is not None

    async def start(self) -> None:
        """Connect and join; returns with the first assignment."""
        await self._subscriber.start()

    async def leave(self) -> None:
        """Leave the group and disconnect: the partitions move at once, and nobody waits for us."""
        private.forget_instance(self.consumer)
        await self._subscriber.stop()


async def connected_broker(kafka: Kafka) -> KafkaBroker:
    """A broker that only consumes; our own producer writes."""
    broker = KafkaBroker(
        # As a list: FastStream takes a text for one address, whatever commas are in it.
        **{**named(kafka), "bootstrap_servers": kafka.bootstrap_servers.split(",")},
        metadata_max_age_ms=METADATA_MS,
        security=_security(kafka),
        sasl_oauth_token_provider=token_provider(kafka),
        request_timeout_ms=REQUEST_MS,
        allow_auto_create_topics=False,
        consumer_only=True,
        logger=_errors_only(),
    )
    await broker.connect()
    subscribe_with_ours(broker)
    return broker


def _security(kafka: Kafka) -> BaseSecurity:
    """The same as :func:`.security.secured`, in FastStream's words."""
    context = tls(kafka)
    user, password = kafka.sasl_username or "", kafka.sasl_password or ""
    match kafka.sasl_mechanism:
        case None:
            return BaseSecurity(context)
        case "PLAIN":
            return SASLPlaintext(user, password, context)
        case "SCRAM-SHA-256":
            return SASLScram256(user, password, context)
        case "SCRAM-SHA-512":
            return SASLScram512(user, password, context)
        case "OAUTHBEARER":
            return SASLOAuthBearer(context)


def _errors_only() -> logging.Logger:
    """FastStream swallows what a handler raises and only logs it: that much must be seen."""
    logger = logging.getLogger("faststream.kafka")
    logger.setLevel(logging.ERROR)
    return logger


def feed_subscriber(
    broker: KafkaBroker,
    kafka: Kafka,
    topics: tuple[str, ...],
    *,
    group: str,
    instance: str,
    listener: ConsumerRebalanceListener,
    membership: Membership,
) -> Subscriber:
    """The consumer of a feed: a static member that commits nothing by itself."""
    return Subscriber(
        broker.subscriber(
            *topics,
            group_id=group,
            group_instance_id=instance,
            ack_policy=AckPolicy.MANUAL,
            listener=listener,
            partition_assignment_strategy=cast(Any, [membership]),  # an instance serves as a class
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=fetch_bytes(kafka),
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            max_poll_interval_ms=A_DAY_MS,
            persistent=False,
        )
    )


def vitals_subscriber(
    broker: KafkaBroker,
    topic: str,
    *,
    group: str,
    instance: str,
    saw: Callable[[list[tuple[Vitals, int]]], Awaitable[None]],
) -> Subscriber:
    """Vitals go stale in seconds, so here, and only here, a handler may ack first.

    ``saw`` is given all that have come, each with its partition: in a process whose loop is full of
    moving jobs one at a time would take longer than the next ones take to come.
    """
    subscriber = broker.subscriber(
        topic,
        group_id=group,
        group_instance_id=instance,
        batch=True,
        ack_policy=AckPolicy.ACK_FIRST,
        auto_offset_reset="latest",
        fetch_max_wait_ms=100,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=HEARTBEAT_MS,
        rebalance_timeout_ms=REBALANCE_MS,
        persistent=False,
        title="Vitals",
    )

    @subscriber
    async def fold(message: KafkaMessage) -> None:
        raw = message.raw_message
        records = raw if isinstance(raw, tuple) else (raw,)
        found = ((_vitals(each.value), each.partition) for each in records)
        await saw([(vitals, partition) for vitals, partition in found if vitals is not None])

    return Subscriber(subscriber)


def _vitals(value: bytes | None) -> Vitals | None:
    """What a worker saw; ``None`` for what cannot be read."""
    try:
        return Vitals.from_json(orjson.loads(value or b""))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        log.warning("vitals.unreadable", error=repr(error)[:200])
        return None
