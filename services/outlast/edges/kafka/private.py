"""Every touch of a private attribute of aiokafka or FastStream, checked at start.

But for those in :mod:`.clients`, which see to it that nothing stays open.

aiokafka is pinned below 0.15 and FastStream below 0.8 for the sake of this page. Why each is
needed: the public ``commit()`` repeats an old request under a new generation and can rewind the
next owner's commit; ``committed()`` drops the metadata, and takes a coordinator that is still
loading for one that knows of no commits; nothing public tells that a background task died; a
static member cannot leave its group.
"""

import asyncio
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from outlast.edges.kafka import clients
from outlast.edges.logs import Log

__all__ = [
    "abandon",
    "append",
    "batch_bytes",
    "check",
    "commit",
    "committed",
    "fail_pending",
    "fail_vanished",
    "forget_instance",
    "generation",
    "is_buffered",
    "member_id",
    "metadata",
    "never_expire",
    "position",
    "producer_stands_still",
    "stands_still",
    "take_error",
]


log = Log(__name__)

_FOR_EVER = float("inf")


def check() -> None:
    """Fail at start, not at the first commit, when the installed aiokafka has another shape."""
    if not inspect.iscoroutinefunction(GroupCoordinator._do_commit_offsets):
        raise RuntimeError("this aiokafka has no GroupCoordinator._do_commit_offsets")
    wanted = list(inspect.signature(GroupCoordinator._do_commit_offsets).parameters)
    if wanted != ["self", "assignment", "offsets"]:
        raise RuntimeError(f"aiokafka's _do_commit_offsets takes {wanted}")
    for name in (
        "_send_req",
        "check_errors",
        "coordinator_dead",
        "ensure_coordinator_known",
        "request_rejoin",
    ):
        if not hasattr(GroupCoordinator, name):
            raise RuntimeError(f"this aiokafka has no GroupCoordinator.{name}")
    clients.check()


def generation(consumer: AIOKafkaConsumer) -> int:
    """The group generation of this member; below 0 when it is no member."""
    return int(_coordinator(consumer).generation)


async def commit(
    consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, tuple[int, str]]
) -> None:
    """One commit request, never repeated: its generation is that of the first step.

    Raises the ``KafkaError`` of the first partition that failed; the others are committed.
    """
    await _coordinator(consumer)._do_commit_offsets(
        None, {tp: OffsetAndMetadata(offset, note) for tp, (offset, note) in offsets.items()}
    )


async def committed(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, tuple[int, str]]:
    """The group's committed offsets with their metadata; uncommitted partitions are absent.

    Raises the ``KafkaError`` that the group's coordinator answers with: while it is loading, or
    is no coordinator any more, its answer names no partition, and means nothing.
    """
    coordinator = _coordinator(consumer)
    wanted: dict[str, list[int]] = {}
    for tp in partitions:
        wanted.setdefault(tp.topic, []).append(tp.partition)
    await coordinator.ensure_coordinator_known()
    request = OffsetFetchRequest(coordinator.group_id, list(wanted.items()))
    response = await coordinator._send_req(request)
    found: dict[TopicPartition, tuple[int, str]] = {}
    codes = [response.error_code]
    for topic, offsets in response.topics:
        for partition, offset, note, code in offsets:
            codes.append(code)
            if offset >= 0:
                found[TopicPartition(topic, partition)] = (offset, note or "")
    _raise_first(codes, coordinator)
    return found


def _raise_first(codes: Iterable[int], coordinator: Any) -> None:
    error = next((for_code(code)() for code in codes if code), None)
    if isinstance(error, GroupCoordinatorNotAvailableError | NotCoordinatorForGroupError):
        coordinator.coordinator_dead()
    if error is not None:
        raise error


async def metadata(admin: AIOKafkaAdminClient, topics: Iterable[str] | None) -> dict[str, Any]:
    """What the cluster says of itself and of these topics; of all of them for ``None``.

    Topics that are not there have an ``error_code``. The public ``describe_topics()`` can create
    those, and without names it brings every topic of the cluster, as ``describe_cluster()`` does.
    """
    names = None if topics is None else list(topics)
    response = await admin._send_request(MetadataRequest(names, allow_auto_topic_creation=False))
    found: dict[str, Any] = response.to_object()
    return found


def forget_instance(consumer: AIOKafkaConsumer) -> None:
    """Make a static member leave its group when it stops, as a dynamic one does."""
    if _coordinator(consumer) is not None:  # there is none yet while it connects
        _coordinator(consumer)._group_instance_id = None


def request_rejoin(consumer: AIOKafkaConsumer) -> None:
    """Ask for a rebalance: the group agrees anew as soon as its members' heartbeats tell them."""
    coordinator = _coordinator(consumer)
    if coordinator is not None:
        coordinator.request_rejoin()


def stands_still(consumer: AIOKafkaConsumer) -> str | None:
    """Which background task of the consumer died without telling anybody, if one did."""
    fetcher = consumer._fetcher
    if fetcher is not None and fetcher._fetch_task.done():
        return "fetcher"
    # A consumer without a group has a coordinator without this task.
    coordination = getattr(_coordinator(consumer), "_coordination_task", None)
    if coordination is not None and coordination.done():
        return "coordinator"
    return None


def take_error(consumer: AIOKafkaConsumer) -> KafkaError | None:
    """What the coordinator stands still for until somebody hears of it; it goes on then.

    It is ``getmany`` that hears of it else, and a feed without partitions does not call that.
    """
    coordinator = _coordinator(consumer)
    if coordinator is None or coordinator._pending_exception is None:
        return None
    try:
        coordinator.check_errors()
    except KafkaError as error:
        return error
    return None


def member_id(consumer: AIOKafkaConsumer) -> str:
    """By which name the group knows this member; empty while it is none."""
    return str(_coordinator(consumer).member_id)


def position(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
    """The next offset to read; nothing while that is being found out, or when it is not ours.

    The public ``position()`` waits until there is one.
    """
    if not consumer._subscription.is_assigned(tp):
        return None
    state = consumer._subscription.subscription.assignment.state_value(tp)
    return int(state.position) if state.has_valid_position else None


def is_buffered(consumer: AIOKafkaConsumer, tp: TopicPartition) -> bool:
    """Whether records of the partition were fetched that nobody has asked for."""
    return tp in consumer._fetcher._records


async def append(
    producer: AIOKafkaProducer,
    tp: TopicPartition,
    key: bytes,
    value: bytes,
    headers: Sequence[tuple[str, bytes | None]],
) -> "asyncio.Future[Any]":
    """What ``send()`` does once it knows the partition: the future of the record's answer.

    For each record ``send()`` copies the names of all topics of the cluster first. Raises
    ``KafkaError`` when the producer is closed, or has no room in time.
    """
    seconds = producer._request_timeout_ms / 1000
    accumulator = producer._message_accumulator
    ack: asyncio.Future[Any] = await accumulator.add_message(
        tp, key, value, seconds, headers=headers
    )
    return ack


def never_expire(producer: AIOKafkaProducer) -> None:
    """Keep what was sent until it is answered, however long its partition has no leader.

    A batch that is older than a request's time is failed else, also when it was sent before and
    only its answer is missing; sent again by another producer it would stand there twice.
    """
    producer._message_accumulator._batch_ttl = _FOR_EVER


def fail_vanished(producer: AIOKafkaProducer) -> None:
    """Fail what waits for partitions that are gone: their log is, so nothing can stand there twice.

    A batch without a leader waits for one, and here none will come.
    """
    accumulator, cluster = producer._message_accumulator, producer.client.cluster
    for tp in list(accumulator._batches):
        known = cluster.partitions_for_topic(tp.topic)
        if known and tp.partition not in known:
            while tp in accumulator._batches:
                accumulator._pop_batch(tp).failure(KafkaError("its partition is gone"))


def producer_stands_still(producer: AIOKafkaProducer) -> str | None:
    """Which background task of a started producer died without telling anybody, if one did."""
    for name, task in (
        ("sender", producer._sender.sender_task),
        ("metadata", producer.client._sync_task),
    ):
        if task is not None and task.done():
            return name
    return None


def fail_pending(producer: AIOKafkaProducer) -> None:
    """Fail what waits in a producer that stands still, and all that would be sent with it."""
    producer._message_accumulator.fail_all(KafkaError("the producer stands still"))
    waiting = producer.client._md_update_fut
    if waiting is not None and not waiting.done():
        waiting.set_result(False)  # nobody else would, and what closes the producer waits for it


async def abandon(producer: AIOKafkaProducer) -> None:
    """Disconnect a producer whose ``stop()`` was given up; what it still held is unknown."""
    sender, client = producer._sender.sender_task, producer.client
    # Closing, it would ask for news of the cluster, and nobody is left to bring them.
    client._md_update_fut = asyncio.get_running_loop().create_future()
    client._md_update_fut.set_result(False)
    if sender is not None:
        sender.cancel()
    await client.close()
    if sender is not None:
        await asyncio.wait({sender}, timeout=1.0)


def batch_bytes(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
) -> int:
    """An upper bound of a batch of this one record, as the producer and the broker count it."""
    return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, list(headers)))


def _coordinator(consumer: AIOKafkaConsumer) -> Any:
    return consumer._coordinator
