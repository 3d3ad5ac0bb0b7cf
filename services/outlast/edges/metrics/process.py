"""What the process as a whole says of itself."""

from collections.abc import Iterator
from importlib.metadata import version

from outlast.edges.condition import Condition
from outlast.edges.kafka.outbox import Outbox
from outlast.edges.metrics import families as m
from outlast.edges.metrics.families import Reading
from outlast.edges.metrics.loop_lag import LoopLag

__all__ = ["process_readings"]


def process_readings(condition: Condition, outbox: Outbox, lag: LoopLag) -> Iterator[Reading]:
    """The process of now."""
    yield m.BUILD.of(version("outlast"), value=1)
    yield m.READY.of(value=condition.unready is None)
    yield m.LOOP_LAG.of(value=lag.seconds)
    yield m.WRITES_BLOCKED.of(value=outbox.is_blocked)
    yield m.OLDEST_WRITE.of(value=outbox.oldest_seconds)
