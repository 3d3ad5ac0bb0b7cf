"""How many of a pool's permits this process has, by the partitions it owns."""

from collections.abc import Collection

from outlast.core.limits import rotated_share, share
from outlast.edges.kafka.assignment import Assignment

__all__ = ["Share"]


class Share:
    """This process's part of whatever the whole pool may do."""

    def __init__(self, assignment: Assignment, topic: str, limit: int, most: int) -> None:
        """``limit`` is the whole pool's; ``most`` this process's own bound."""
        self._assignment = assignment
        self._topic = topic
        self._limit = limit
        self._most = most
        self._epoch = (-1, -1, -1)
        self._permits = 0

    def __call__(self) -> int:
        """The permits; counted anew only when something moved.

        A call that a lender still makes counts here, where its partition is, and not there.
        """
        records = self._assignment.records
        if not records.marks:
            return 0  # nor need there be a consumer yet
        count = self._count()
        epoch = (self._assignment.epoch, records.version, count)
        if self._epoch != epoch:
            self._epoch = epoch
            self._permits = max(0, min(self._most, self._counted(count)))
        return self._permits

    def of_ramp(self, permits: int, turn: int) -> int:
        """This process's part of the few permits of a ramp; ``turn`` rises with time."""
        return rotated_share(permits, self._count(), self._owned(), turn)

    @property
    def epoch(self) -> tuple[int, int]:
        """Changes when partitions move, or their number does."""
        return (self._assignment.epoch, self.partitions)

    @property
    def partitions(self) -> int:
        """How many the pool's topic has; 0 while nothing is known of it."""
        return self._count()

    @property
    def owned(self) -> Collection[int]:
        """The numbers of those that this process owns."""
        return self._owned()

    def _count(self) -> int:
        # Nothing is known of a topic that is gone: then none of its jobs are here either.
        if not self._assignment.records.marks:
            return 0
        return len(self._assignment.consumer.partitions_for_topic(self._topic) or ())

    def _owned(self) -> Collection[int]:
        return [tp.partition for tp in self._assignment.owned if tp.topic == self._topic]

    def _counted(self, count: int) -> int:
        """By partition, so that what was lent never takes more than its partition has."""
        counted, owned = 0, self._assignment.owned
        for tp, mark in self._assignment.records.marks.items():
            if tp.topic == self._topic:
                permits = share(self._limit, count, [tp.partition])
                if tp in owned:
                    counted += permits - min(mark.lent, permits)
                else:
                    counted += min(mark.running, permits)
        return counted
