"""Three real brokers for the chaos suite, each of which can be killed, frozen and brought back."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.kafka.broker import Broker, free_port
from outlast.edges.kafka import private
from outlast.edges.kafka.connection import admin
from outlast.edges.settings import Kafka

__all__ = ["Cluster", "running"]

NODES: Final = 3
WHOLE_SECONDS: Final = 90.0


class Cluster:
    """RF 3, min ISR 2; nodes are numbered from 1."""

    def __init__(self, broker: Broker) -> None:
        """``broker`` runs already."""
        self._broker = broker
        self._frozen: set[int] = set()

    @property
    def bootstrap_servers(self) -> str:
        """Of all three, whether they run or not."""
        return self._broker.bootstrap_servers

    @property
    def running(self) -> list[int]:
        """The nodes with a process, frozen ones included."""
        return sorted(self._broker.pids)

    async def kill(self, *nodes: int) -> None:
        """SIGKILL; the data stays."""
        for node in nodes:
            await asyncio.to_thread(self._broker.kill, node)
            self._frozen.discard(node)

    async def restart(self) -> None:
        """Bring back every node that was killed; returns when all three answer."""
        self.thaw(*self._frozen)
        await asyncio.to_thread(self._broker.start)

    def freeze(self, node: int) -> None:
        """SIGSTOP: its connections stay open and nothing answers."""
        os.kill(self._broker.pids[node], signal.SIGSTOP)
        self._frozen.add(node)

    def thaw(self, *nodes: int) -> None:
        """SIGCONT."""
        for node in nodes:
            os.kill(self._broker.pids[node], signal.SIGCONT)
            self._frozen.discard(node)

    async def heal(self) -> None:
        """Whole again, whatever a test did: all nodes up, every replica in sync."""
        if self._frozen or len(self.running) < NODES:
            await self.restart()
        await self.until_in_sync()

    async def until_in_sync(self, seconds: float = WHOLE_SECONDS) -> None:
        """Wait until every partition of every topic has all its replicas in sync."""
        client = admin(Kafka(bootstrap_servers=self.bootstrap_servers))
        await client.start()
        try:
            async with asyncio.timeout(seconds):
                while not await _in_sync(client):
                    await asyncio.sleep(0.2)
        finally:
            await client.close()


async def _in_sync(client: AIOKafkaAdminClient) -> bool:
    try:
        about: dict[str, Any] = await private.metadata(client, None)
    except KafkaError:
        return False
    partitions = [each for topic in about["topics"] for each in topic["partitions"]]
    return len(about["brokers"]) == NODES and all(
        len(each["isr"]) == len(each["replicas"]) for each in partitions
    )


@contextmanager
def running(directory: Path) -> Iterator[Cluster]:
    """Three brokers with their data in the directory, until the end of the block."""
    with Broker(directory, port=free_port(count=2 * NODES), nodes=NODES) as broker:
        cluster = Cluster(broker)
        yield cluster
        cluster.thaw(*cluster._frozen)
