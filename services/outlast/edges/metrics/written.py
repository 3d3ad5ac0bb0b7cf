"""What became of jobs, by what this process has written."""

from collections.abc import Iterator

from outlast.edges.kafka.written import Written
from outlast.edges.metrics import families as m
from outlast.edges.metrics.families import Reading
from outlast_schemas.dead_letter import Reason
from outlast_schemas.result import Status
from outlast_schemas.topics import TIERS, Topics

__all__ = ["written_readings"]


def written_readings(written: Written, topics: Topics) -> Iterator[Reading]:
    """The counts of now, those at 0 included: a rise from nothing is a rise."""
    for status in Status:
        yield m.RESULTS.of(status.value, value=written.results[status])
    for reason in Reason:
        yield m.DEAD_LETTERS.of(reason.value, value=written.dead_letters[reason])
    for tier in TIERS:
        yield m.RETRIES.of(tier.name, value=written.hops[topics.retry(tier.name)])
    for (before, to), count in written.failovers.items():
        yield m.FAILOVERS.of(before, to, value=count)
