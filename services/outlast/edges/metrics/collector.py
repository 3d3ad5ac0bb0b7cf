"""Turns what the parts of a process say of themselves into Prometheus's text, when it is asked for.

Nothing is kept up to date between two scrapes: live objects are read, so that a job costs nothing.
"""

from collections.abc import Callable, Iterable, Iterator

import structlog
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from outlast.edges.metrics.families import FAMILIES, Family, Reading

__all__ = ["Metrics", "Source"]

log = structlog.get_logger()

Source = Callable[[], Iterable[Reading]]
"""What one part of the process says of itself now."""


class Metrics(Collector):
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        """Begin with what the system knows of the process: CPU, memory, open files."""
        self._sources: list[Source] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def watch(self, *sources: Source) -> None:
        """Ask these, too, at each scrape."""
        self._sources += sources

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """What a scrape is answered with, and its content type, as its header ``Accept`` wishes."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> Iterator[Metric]:
        """The names, so that nothing else in the registry takes one."""
        yield from map(_metric, FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """What all sources say now, family by family."""
        found: dict[Family, Metric] = {}
        for reading in self._readings():
            if reading.family not in found:
                found[reading.family] = _metric(reading.family)
            _add(found[reading.family], reading)
        yield from found.values()

    def _readings(self) -> Iterator[Reading]:
        for source in self._sources:
            try:
                yield from tuple(source())
            except Exception:  # what one part cannot say must not hide what the others do
                log.exception("metrics.source_failed")


def _metric(family: Family) -> Metric:
    match family.kind:
        case "counter":
            return CounterMetricFamily(family.name, family.meaning, labels=family.labels)
        case "gauge":
            return GaugeMetricFamily(family.name, family.meaning, labels=family.labels)
        case "summary":
            return SummaryMetricFamily(family.name, family.meaning, labels=family.labels)


def _add(metric: Metric, reading: Reading) -> None:
    if isinstance(metric, SummaryMetricFamily):
        metric.add_metric(reading.labels, count_value=reading.count, sum_value=reading.value)
    elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily):
        metric.add_metric(reading.labels, reading.value)
