"""aiokafka's clients, made to leave no connection and no task behind, wherever they are cut off.

Theirs lose a connection when ``start()`` is cancelled while it asks the first broker, when
``stop()`` is cancelled or fails halfway (a second one does nothing), and when something asks once
more after the stop, which connects anew. What is lost so stays open until it is collected, and
says so then. As in :mod:`.private`, private attributes are touched here, and only here beside it.
"""

import asyncio
import inspect
import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError
from aiokafka.protocol.metadata import MetadataRequest

if TYPE_CHECKING:  # whoever only publishes loads no framework
    from faststream.kafka import KafkaBroker

__all__ = ["Consumer", "PatientAdmin", "Producer", "check", "subscribe_with_ours"]

log = logging.getLogger("aiokafka")

_FIRST = ("bootstrap", ConnectionGroup.DEFAULT)
_WAY_IN = (
    *("client_id", "request_timeout_ms", "ssl_context", "security_protocol"),
    *("sasl_mechanism", "sasl_plain_username", "sasl_plain_password"),
    *("sasl_kerberos_service_name", "sasl_kerberos_domain_name", "sasl_oauth_token_provider"),
)
_OTHERS = 8


def check() -> None:
    """Fail at start when the installed aiokafka has another shape."""
    for name in ("_get_conn", "_md_synchronizer", "bootstrap", "close"):
        if not asyncio.iscoroutinefunction(getattr(AIOKafkaClient, name, None)):
            raise RuntimeError(f"this aiokafka has no AIOKafkaClient.{name}")
    if missing := {*_WAY_IN, "max_idle_ms"} - set(inspect.signature(create_conn).parameters):
        raise RuntimeError(f"aiokafka's create_conn does not take {missing}")
    if not asyncio.iscoroutinefunction(AIOKafkaAdminClient._send_request):
        raise RuntimeError("this aiokafka has no AIOKafkaAdminClient._send_request")


class Connections(AIOKafkaClient):  # type: ignore[misc]  # aiokafka has no types
    """The connections of one client: it holds every one it makes, and makes none once closed."""

    _is_closed = False
    _sync_task: "asyncio.Task[None] | None"

    @classmethod
    def of(cls, client: AIOKafkaClient) -> "Connections":
        """The same client: aiokafka's others make it themselves, and can be given none."""
        client.__class__ = cls
        return client  # type: ignore[no-any-return]

    async def bootstrap(self) -> None:
        """Learn the cluster from the first broker that answers. Raises ``KafkaConnectionError``."""
        for host, port, _ in self.hosts:
            if await self._learnt(host, port):
                break
        else:
            raise KafkaConnectionError(f"Unable to bootstrap from {self.hosts}")
        if self._is_closed:
            self.cut()
            raise KafkaConnectionError("closed while it connected")
        if self._sync_task is None:
            self._sync_task = asyncio.create_task(self._md_synchronizer())

    async def _learnt(self, host: str, port: int) -> bool:
        try:
            first = await create_conn(host, port, **self._way_in())
        except (OSError, KafkaError, TimeoutError) as error:
            log.error('Unable connect to "%s:%s": %s', host, port, error)
            return False
        self._conns[_FIRST] = first
        is_answered = False
        try:
            self.cluster.update_metadata(await first.send(MetadataRequest([])))
            is_answered = True
        except (KafkaError, TimeoutError) as error:
            log.warning('Unable to request metadata from "%s:%s": %s', host, port, error)
        finally:
            # Kept only for a cluster that names no broker yet.
            if not is_answered or self.cluster.brokers():
                self._conns.pop(_FIRST).close()
        return is_answered

    def _way_in(self) -> dict[str, Any]:
        found: dict[str, Any] = {name: getattr(self, f"_{name}") for name in _WAY_IN}
        return {**found, "max_idle_ms": self._connections_max_idle_ms}

    async def _get_conn(self, node_id: Any, **how: Any) -> Any:
        """A connection to that broker; none, which is ``NodeNotReadyError``, once closed."""
        if self._is_closed:
            return None
        group = how.get("group", ConnectionGroup.DEFAULT)
        before = self._conns.get((node_id, group))
        if before is not None and not before.connected():
            before.close()  # the broker has ended it; nobody else would, it is only forgotten
        connection = await super()._get_conn(node_id, **how)
        if self._is_closed and connection is not None:
            connection.close(reason=CloseReason.SHUTDOWN)
            return None
        return connection

    async def close(self) -> None:
        """Disconnect, and connect no more."""
        self._is_closed = True
        try:
            await super().close()
        finally:
            self.cut()

    def cut(self) -> None:
        """Disconnect at once, whatever is under way."""
        self._is_closed = True
        if self._sync_task is not None:
            self._sync_task.cancel()
        for connection in self._conns.values():
            connection.close(reason=CloseReason.SHUTDOWN)


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer whose ``stop()`` ends it, however that ends itself."""

    _client: Connections

    def __init__(self, *topics: str, **how: Any) -> None:
        """As aiokafka's."""
        super().__init__(*topics, **how)
        self._client = Connections.of(self._client)

    async def start(self) -> None:
        """Connect; one without a group that does not get so far needs no stop."""
        try:
            await super().start()
        except BaseException:
            if self._group_id is None:
                self.cut()
            raise

    async def stop(self) -> None:
        """Leave the group, commit what is committed automatically, disconnect."""
        if self._closed:
            return
        try:
            await super().stop()
        finally:
            self.cut()

    def cut(self) -> None:
        """End it at once and without a word to anybody, as the death of its process would."""
        self._closed = True
        for task in self._tasks():
            task.cancel()
        self._client.cut()

    def _tasks(self) -> Iterator["asyncio.Task[Any]"]:
        names = (
            *("_coordination_task", "_heartbeat_task"),
            *("_commit_refresh_task", "_reset_committed_task"),
        )
        known = (getattr(self._coordinator, name, None) for name in names)
        yield from (task for task in known if task is not None)
        if self._fetcher is not None:
            yield from (self._fetcher._fetch_task, *self._fetcher._pending_tasks)


class Producer(AIOKafkaProducer):  # type: ignore[misc]
    """A producer whose ``stop()`` ends it, however that ends itself."""

    client: Connections

    def __init__(self, **how: Any) -> None:
        """As aiokafka's."""
        super().__init__(**how)
        self.client = Connections.of(self.client)

    async def stop(self) -> None:
        """Flush and disconnect; what is cut off in the middle is unknown."""
        if self._closed:
            return
        try:
            await super().stop()
        finally:
            if self._sender.sender_task is not None:
                self._sender.sender_task.cancel()
            self.client.cut()


class PatientAdmin(AIOKafkaAdminClient):  # type: ignore[misc]
    """Asks another broker when the one that was picked at random is down."""

    _client: Connections

    def __init__(self, **how: Any) -> None:
        """As aiokafka's."""
        super().__init__(**how)
        self._client = Connections.of(self._client)

    async def _send_request(self, request: Any, node_id: int | None = None) -> Any:
        if node_id is None:
            for _ in range(_OTHERS):
                try:
                    return await super()._send_request(request)
                except NodeNotReadyError:
                    continue
        return await super()._send_request(request, node_id)


def subscribe_with_ours(broker: "KafkaBroker") -> None:
    """Let a broker that is connected make its consumers of this kind."""
    config = broker.config.broker_config
    theirs = cast("partial[AIOKafkaConsumer]", config.builder)
    config.builder = partial(Consumer, **theirs.keywords)
