"""Every metric there is: its name, what kind it is, what it means and by what it is told apart.

No label ever holds a job, a user or a tenant: their number has no bound.
"""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FAMILIES", "Family", "Kind", "Reading"]

Kind = Literal["counter", "gauge", "summary"]
PREFIX: Final = "outlast_"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. ``name`` is as Prometheus has it; of a summary there are ``_count`` and ``_sum``.

    Counters begin at 0 with the process.
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()

    def of(self, *labels: str, value: float, count: int = 0) -> "Reading":
        """What is read of it now; ``count`` is a summary's, whose ``value`` is the sum."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} is told apart by {self.labels}, not {labels}")
        return Reading(self, labels, float(value), count)

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a rule may ask for."""
        if self.kind == "summary":
            return (f"{self.name}_count", f"{self.name}_sum")
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Reading:
    """One value at this moment."""

    family: Family
    labels: tuple[str, ...]
    value: float
    count: int = 0


def _counter(name: str, meaning: str, *labels: str) -> Family:
    return Family(f"{PREFIX}{name}_total", "counter", meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Family:
    return Family(f"{PREFIX}{name}", "gauge", meaning, labels)


def _summary(name: str, meaning: str, *labels: str) -> Family:
    return Family(f"{PREFIX}{name}", "summary", meaning, labels)


# Where jobs wait. Each process tells of the partitions it owns: sum the jobs, take the highest age.
AGE = _gauge(
    "oldest_uncommitted_age_seconds",
    "Age of the oldest record of the topic that is not done, read or not, by the brokers' clock.",
    "topic",
)
LAG = _gauge("lag_jobs", "Records of the topic that are not done.", "topic")
PARKED = _gauge("parked_jobs", "Jobs that wait until some provider can serve them.")
RETENTION = _gauge("retention_seconds", "How long the topic keeps a record, done or not.", "topic")
LOST = _counter(
    "records_lost", "Records of the topic that were deleted before anybody had read them.", "topic"
)

# Stages.
HELD = _gauge("held_jobs", "Jobs that the stage works on, or that wait in it.", "feed")
PARTITIONS = _gauge("partitions", "Partitions that the process owns in the stage's group.", "feed")
COMMIT_AGE = _gauge(
    "commit_age_seconds", "For how long something done has not been committed.", "feed"
)
REBALANCES = _counter("rebalances", "Assignments by the stage's group.", "feed")
DUPLICATES = _counter("duplicates_suppressed", "Copies of a record that were not run.", "feed")

# What became of jobs.
RESULTS = _counter("results", "Runs of jobs that ended, by how.", "status")
DEAD_LETTERS = _counter("dead_letters", "Dead letters written, by why.", "reason")
RETRIES = _counter("retries_scheduled", "Jobs sent to a tier to wait; 0s is at once.", "tier")
FAILOVERS = _counter(
    "failovers", "Jobs sent on from a provider that failed them, or gave them up.", "from", "to"
)

# Providers, as this process sees its own part of their pools.
INFLIGHT = _gauge("inflight", "Calls under way.", "provider")
INFLIGHT_LIMIT = _gauge("inflight_limit", "How many may be, by this process.", "provider")
ATTEMPTS = _counter(
    "attempts", "Calls that ended, by their verdict.", "provider", "model", "verdict"
)
DURATION = _summary("attempt_duration_seconds", "How long calls took.", "provider", "model")
RATE_LIMIT = _gauge(
    "ratelimit_per_minute",
    "What this process may use in a minute, of requests or tokens.",
    "provider",
    "kind",
)
RATE_REMAINING = _gauge(
    "ratelimit_remaining", "What it may use of them at once; below 0 is owed.", "provider", "kind"
)

# The fleet, as every process knows it.
BREAKER = _gauge(
    "breaker_state",
    "The fleet's verdict: 0 closed (well), 1 half-open, 2 open, 3 ramp; model * is the whole "
    "provider. Absent while nobody has judged for 30 s.",
    "provider",
    "model",
)
VERDICT_AGE = _gauge(
    "verdict_age_seconds", "Since when the fleet's verdict was not written anew.", "provider"
)
PAUSED = _gauge(
    "provider_paused_seconds", "For how long the provider still wishes no calls.", "provider"
)
ROUTE_TARGETS = _gauge("route_targets", "Targets of the route.", "route")
ROUTE_UP = _gauge("route_targets_up", "Those of them that jobs may be sent to.", "route")

# The process.
BUILD = _gauge("build_info", "1; its label is the version.", "version")
READY = _gauge("ready", "Whether /ready says yes.")
LOOP_LAG = _gauge("loop_lag_seconds", "By how much the event loop was late, of late at most.")
WRITES_BLOCKED = _gauge(
    "writes_blocked", "Whether Kafka refuses or delays writes, so that nothing new is taken."
)
OLDEST_WRITE = _gauge("oldest_write_seconds", "For how long a write has not been acknowledged.")

FAMILIES: Final = tuple(each for each in list(globals().values()) if isinstance(each, Family))
"""All of them, in this order."""
