"""How much may be in flight here: jobs, and bytes of their bodies, for each topic or partition."""

from collections import Counter
from collections.abc import Callable, Hashable

from aiokafka import TopicPartition

__all__ = ["Room"]


class Room:
    """Counts what is in flight against what may be."""

    def __init__(
        self,
        jobs: Callable[[], int],
        body_bytes: int = 64 * 1024 * 1024,
        parts: Callable[[], int] | None = None,
    ) -> None:
        """Prepare; what is passed in is asked by :meth:`look` only.

        Args:
            jobs: how many per topic.
            body_bytes: how many bytes per topic.
            parts: into how many parts a topic's room is divided, one for each partition, so that
                none takes what another leaves; without, the partitions share it.
        """
        self._may = jobs
        self._body_bytes = body_bytes
        self._parts = parts
        self._most = 0
        self._most_bytes = body_bytes
        self._jobs: Counter[Hashable] = Counter()
        self._bytes: Counter[Hashable] = Counter()

    def look(self) -> None:
        """Ask anew how many there may be."""
        parts = max(1, self._parts()) if self._parts is not None else 1
        self._most = max(min(1, self._may()), self._may() // parts)
        self._most_bytes = self._body_bytes // parts

    def is_in(self, tp: TopicPartition) -> bool:
        """Whether one more has room."""
        return self._has_room(self._key(tp))

    def _key(self, tp: TopicPartition) -> Hashable:
        key: Hashable = tp.topic if self._parts is None else tp
        return key

    def _has_room(self, key: Hashable) -> bool:
        return self._jobs[key] < self._most and self._bytes[key] < self._most_bytes

    @property
    def is_crowded(self) -> bool:
        """Whether some topic, or some partition, has none left."""
        return any(not self._has_room(key) for key in self._jobs)

    def enters(self, tp: TopicPartition, size: int) -> None:
        """A job of so many bytes is in flight."""
        self._jobs[self._key(tp)] += 1
        self._bytes[self._key(tp)] += size

    def leaves(self, tp: TopicPartition, size: int) -> None:
        """It is no more."""
        self._jobs[self._key(tp)] -= 1
        self._bytes[self._key(tp)] -= size
