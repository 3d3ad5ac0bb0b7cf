"""Who waits until a commit has said that something was started."""

import asyncio
from collections.abc import Collection, Mapping

from aiokafka import TopicPartition

from outlast.core.errors import Released

__all__ = ["Recording"]


class Recording:
    """The starts that have to be in a commit before anything else happens."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._waiting: list[tuple[TopicPartition, int, asyncio.Future[None]]] = []

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """Where somebody waits."""
        return frozenset(tp for tp, _, _ in self._waiting)

    async def named(self, tp: TopicPartition, starts: int) -> None:
        """Return when a commit knows so many starts. Raises ``Released`` when it is lost before."""
        named = asyncio.get_running_loop().create_future()
        self._waiting.append((tp, starts, named))
        await named

    def lose(self, ours: Collection[TopicPartition]) -> None:
        """Who waits for a partition that is not ours any more need not wait any longer."""
        for tp, _, named in self._waiting:
            if tp not in ours and not named.done():
                named.set_exception(Released())
        self._waiting = [each for each in self._waiting if not each[2].done()]

    def tell(self, known: Mapping[TopicPartition, int]) -> None:
        """So many starts of each partition are in a commit that is acknowledged."""
        for tp, starts, named in self._waiting:
            if known.get(tp, -1) >= starts and not named.done():
                named.set_result(None)
        self._waiting = [each for each in self._waiting if not each[2].done()]
