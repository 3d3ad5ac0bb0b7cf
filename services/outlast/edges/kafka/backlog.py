"""How many records wait in the partitions that a feed owns."""

from outlast.edges.kafka import private
from outlast.edges.kafka.assignment import Assignment

__all__ = ["queued"]


def queued(assignment: Assignment) -> int:
    """Records that were written and not yet handed out here, as of the last fetch."""
    if not assignment.is_open:
        return 0
    consumer, waiting = assignment.consumer, 0
    for tp in assignment.owned:
        end, position = consumer.highwater(tp), private.position(consumer, tp)
        if end is not None and position is not None:
            waiting += max(0, end - position)
    return waiting
