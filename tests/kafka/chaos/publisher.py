"""Publishes jobs at an even pace and keeps what is known of each: acked, unknown, failed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from outlast import AsyncClient, PublishUnknown
from outlast.core.errors import OutlastError
from outlast.edges.settings import Kafka
from tests.e2e.scene import chat

__all__ = ["Publisher"]


class Publisher:
    """A backend: job ids are the texts of their messages."""

    def __init__(self, kafka: Kafka, name: str) -> None:
        """``name`` begins every id."""
        self.acked: dict[str, float] = {}
        self.unknown: set[str] = set()
        self.failed: set[str] = set()
        self._client = AsyncClient(kafka)
        self._name = name
        self._count = 0
        self._under_way: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def at(self, per_second: float) -> AsyncIterator[None]:
        """Publish for as long as the block lasts; leaves when every publish has ended."""
        pace = asyncio.create_task(self._publish_evenly(1 / per_second))
        try:
            yield
        finally:
            pace.cancel()
            await asyncio.gather(pace, return_exceptions=True)
            await asyncio.gather(*self._under_way)

    async def some(self, count: int) -> None:
        """Publish so many at once; returns when every publish has ended."""
        await asyncio.gather(*(self._publish() for _ in range(count)))

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    async def _publish_evenly(self, gap: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            task = asyncio.create_task(self._publish())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            due += gap
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _publish(self) -> None:
        self._count += 1
        job = f"{self._name}-{self._count}"
        try:
            await self._client.publish(chat(job), job_id=job)
        except PublishUnknown:
            self.unknown.add(job)
        except OutlastError:
            self.failed.add(job)
        else:
            self.acked[job] = asyncio.get_running_loop().time()
