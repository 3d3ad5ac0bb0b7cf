"""How far the broker's clock is from ours.

Kafka tells the time in one way only: by the append time of a record (``LogAppendTime``). So one
empty record is written to the topic of lent calls, where no stage heeds it and which keeps it for
an hour. The newest record that is there already would not do: it may be old.
"""

import time
from collections.abc import Iterable
from typing import Final

from outlast.core.errors import PublishRefused, PublishUnknown
from outlast.edges.codec import Encoded
from outlast.edges.kafka.publish import Publisher
from outlast.edges.settings import Kafka
from outlast_schemas.topics import Topics

__all__ = ["skew"]

LOG_APPEND_TIME: Final = 1
"""``timestamp_type`` of a record whose time the broker set."""
KEY: Final = b"doctor"
PATIENCE_SECONDS: Final = 8.0


async def skew(kafka: Kafka, there: Iterable[str]) -> int | None:
    """The broker's clock less ours in ms, as close to 0 as the round trip allows.

    ``None`` when the topic is not among those that are ``there``, lets producers set the time, or
    takes no record now.
    """
    topic = Topics(kafka.prefix).lent
    if topic not in there:
        return None
    publisher = Publisher(kafka, patience_seconds=PATIENCE_SECONDS)
    before = _now()
    try:
        ack = await publisher.publish(Encoded(topic, KEY, b"", []), "the doctor's record")
        after = _now()
    except (PublishRefused, PublishUnknown):
        return None
    finally:
        await publisher.close()
    if ack.timestamp_type != LOG_APPEND_TIME:
        return None
    return _outside(ack.timestamp, before, after)


def _outside(at: int, before: int, after: int) -> int:
    """How far ``at`` lies outside the span in which it was made; 0 within."""
    return min(0, at - before) + max(0, at - after)


def _now() -> int:
    return int(time.time() * 1000)
