"""The one producer of a process, built anew when a refusal has broken it."""

import asyncio
from collections.abc import Callable
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from outlast.edges.kafka import private
from outlast.edges.logs import Log

__all__ = ["Producers"]

log = Log(__name__)

REBUILD_SECONDS: Final = 30.0
"""A producer that starts asks one broker after the other, eight seconds each: then it is said."""
CLOSE_SECONDS: Final = 5.0


class Producers:
    """An idempotent producer; whoever was refused asks for another one."""

    def __init__(self, build: Callable[[], AIOKafkaProducer], pending: Callable[[], int]) -> None:
        """Prepare one.

        Args:
            build: makes a producer that is not yet started.
            pending: counts what is not answered, for the log.
        """
        self._build = build
        self._pending = pending
        self.current = build()
        self._rebuilding: asyncio.Task[None] | None = None
        self._retiring: dict[asyncio.Task[None], AIOKafkaProducer] = {}

    async def start(self) -> None:
        """Connect."""
        await self.current.start()

    async def stop(self) -> None:
        """Flush and disconnect, as far as that goes within five seconds."""
        if self._rebuilding is not None and not self._rebuilding.done():
            self._rebuilding.cancel()
            await asyncio.wait({self._rebuilding})
        self._retire(self.current)
        await asyncio.wait(set(self._retiring), timeout=CLOSE_SECONDS)
        stuck = dict(self._retiring)
        if stuck:
            log.error("outbox.not_flushed", producers=len(stuck), records=self._pending())
        for task in stuck:
            task.cancel()
        await asyncio.gather(*map(private.abandon, stuck.values()))

    def rebuild_soon(self, broken: AIOKafkaProducer) -> "asyncio.Task[None] | None":
        """The task that puts another one in its place; ``None`` when that is done already.

        A task of its own: whoever was refused may be cancelled, a half-built one may not. After
        any refusal an idempotent producer answers OutOfOrderSequenceNumber for ever.
        """
        if self.current is not broken:
            return None
        if self._rebuilding is None or self._rebuilding.done():
            self._rebuilding = asyncio.ensure_future(self._rebuild(broken))
        return self._rebuilding

    async def _rebuild(self, broken: AIOKafkaProducer) -> None:
        try:
            fresh = await self._started()
        except Exception as error:  # noqa: BLE001  # whatever it is, those who wait must try again
            log.error("outbox.not_rebuilt", error=type(error).__name__)
            return
        self.current = fresh
        log.warning("outbox.rebuilt")
        self._retire(broken)

    async def _started(self) -> AIOKafkaProducer:
        """However long that takes: given up in the middle, a client leaves connections behind."""
        fresh = self._build()
        starting = asyncio.ensure_future(fresh.start())
        try:
            while not (await asyncio.wait({starting}, timeout=REBUILD_SECONDS))[0]:
                log.error("outbox.rebuilds_slowly")
                if private.producer_stands_still(fresh) is not None:
                    raise KafkaError("the new producer stands still")
            starting.result()
        except BaseException:
            starting.cancel()
            await asyncio.wait({starting})
            await fresh.stop()
            raise
        return fresh

    def _retire(self, producer: AIOKafkaProducer) -> None:
        """No time limit: what is still pending in it is unknown, not failed, and is waited for."""
        if private.producer_stands_still(producer) is not None:
            private.fail_pending(producer)
        task = asyncio.ensure_future(_closed(producer))
        self._retiring[task] = producer
        task.add_done_callback(self._retiring.pop)

    def tend(self) -> None:
        """While something is not answered: fail what never will be, replace what stands still."""
        for producer in (self.current, *self._retiring.values()):
            private.fail_vanished(producer)
        for producer in self._retiring.values():
            if private.producer_stands_still(producer) is not None:
                private.fail_pending(producer)
        if private.producer_stands_still(self.current) is not None:
            self.rebuild_soon(self.current)


async def _closed(producer: AIOKafkaProducer) -> None:
    try:
        await producer.stop()
    except (KafkaError, OSError) as error:
        log.warning("outbox.not_closed", error=type(error).__name__)
