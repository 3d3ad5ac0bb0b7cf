"""What of a process can be seen from outside: which part tells the monitor what."""

from functools import partial

from outlast.app.parts import Parts
from outlast.edges.kafka.glance import Glance
from outlast.edges.metrics.backlogs import Backlog, look_at
from outlast.edges.metrics.feeds import backlog_readings, feed_readings
from outlast.edges.metrics.fleet import fleet_readings
from outlast.edges.metrics.loop_lag import LoopLag
from outlast.edges.metrics.pool import pool_readings
from outlast.edges.metrics.process import process_readings
from outlast.edges.metrics.written import written_readings
from outlast.edges.monitor import Monitor

__all__ = ["watch"]


def watch(parts: Parts, monitor: Monitor) -> None:
    """Let the monitor see all that was added to the parts so far."""
    lag, glance, now = LoopLag(), Glance(parts.kafka), parts.clock.now
    backlogs = [Backlog(one.feed, one.assignment, glance, now) for one in parts.moving]
    parts.background += [lag.run, partial(look_at, backlogs)]
    monitor.condition.watch(partial(_blocked, parts))
    monitor.metrics.watch(
        partial(process_readings, monitor.condition, parts.outbox, lag),
        partial(written_readings, parts.outbox.written, parts.topics),
        partial(fleet_readings, parts.catalogue, parts.health.fleet, now),
        *(partial(pool_readings, name, pool) for name, pool in parts.pools.items()),
        *(partial(feed_readings, one) for one in parts.moving),
        *(partial(backlog_readings, each, parts.topics, _retention(parts)) for each in backlogs),
    )


def _blocked(parts: Parts) -> str | None:
    return "Kafka refuses or delays writes" if parts.outbox.is_blocked else None


def _retention(parts: Parts) -> dict[str, float]:
    """Seconds by topic, as `outlast topics apply` sets them."""
    table = parts.topics.table(tuple(parts.catalogue.providers))
    return {each.name: each.retention_ms / 1000 for each in table if each.retention_ms is not None}
