"""What is under way in a feed: tasks, the records that each carries, and the room these take."""

import asyncio
from collections.abc import Collection, Coroutine, Sequence

from aiokafka import TopicPartition

from outlast.edges.codec import Record
from outlast.edges.kafka.room import Room

__all__ = ["Tasks"]

Placed = tuple[TopicPartition, Record]


class Tasks:
    """Of one feed."""

    def __init__(self, room: Room, changed: asyncio.Event) -> None:
        """``room`` is counted here; ``changed`` is set when some of it is free again."""
        self.room = room
        self.failed: BaseException | None = None
        """What the first one raised that raised: nobody catches it but who runs the feed."""
        self._changed = changed
        self._carried: dict[asyncio.Task[None], Sequence[Placed]] = {}

    @property
    def all(self) -> Collection[asyncio.Task[None]]:
        """The tasks."""
        return self._carried.keys()

    @property
    def records(self) -> Sequence[Record]:
        """What they carry."""
        return [record for carried in self._carried.values() for _, record in carried]

    def enters(self, tp: TopicPartition, record: Record) -> None:
        """A task will carry it, and until that ends it takes room."""
        self.room.enters(tp, len(record.value or b""))

    def begin(self, work: Coroutine[object, object, None], carried: Sequence[Placed]) -> None:
        """Run what carries these."""
        task = asyncio.create_task(work)
        self._carried[task] = carried
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        for tp, record in self._carried.pop(task):
            self.room.leaves(tp, len(record.value or b""))
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed = self.failed or error
