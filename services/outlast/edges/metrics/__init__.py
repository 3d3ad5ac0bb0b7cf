"""What a process says of itself in Prometheus's language: ``/metrics``."""

from outlast.edges.metrics.collector import Metrics, Source
from outlast.edges.metrics.families import FAMILIES

__all__ = ["FAMILIES", "Metrics", "Source"]
