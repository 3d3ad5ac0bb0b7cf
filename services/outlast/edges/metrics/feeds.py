"""What a feed says of itself: its partitions, what waits in them, and how far it is committed."""

from collections.abc import Iterator, Mapping

from outlast.edges.metrics import families as m
from outlast.edges.metrics.backlogs import Backlog
from outlast.edges.metrics.families import Reading
from outlast.edges.process import Moving
from outlast_schemas.topics import Topics

__all__ = ["backlog_readings", "feed_readings"]


def feed_readings(moving: Moving) -> Iterator[Reading]:
    """The feed of now."""
    feed, assignment = moving.feed, moving.assignment
    yield m.HELD.of(feed.name, value=feed.in_flight)
    yield m.PARTITIONS.of(feed.name, value=len(assignment.owned))
    yield m.COMMIT_AGE.of(feed.name, value=assignment.commits.behind_seconds)
    yield m.REBALANCES.of(feed.name, value=assignment.assigned)
    yield m.DUPLICATES.of(feed.name, value=feed.copies.dropped)
    lost = assignment.holes.lost
    for topic in sorted({*lost, *(tp.topic for tp in assignment.owned)}):
        yield m.LOST.of(topic, value=lost[topic])


def backlog_readings(
    backlog: Backlog, topics: Topics, retention: Mapping[str, float]
) -> Iterator[Reading]:
    """What is not done; ``retention`` is by topic, in seconds."""
    for topic, standing in backlog.standings().items():
        yield m.LAG.of(topic, value=standing.jobs)
        yield m.AGE.of(topic, value=standing.oldest_seconds)
        if topic in retention:
            yield m.RETENTION.of(topic, value=retention[topic])
        if topic == topics.parked:
            yield m.PARKED.of(value=standing.jobs)
