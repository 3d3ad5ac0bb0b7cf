"""The one table of topics: who writes them, who reads them, how long they keep what.

README's table, ``outlast topics plan|apply`` and the access rules are all read from here.
"""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["TIERS", "Cleanup", "Tier", "Topic", "Topics"]

Cleanup = Literal["delete", "compact", "compact,delete"]

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
HEADER_BYTES: Final = 64 * 1024
"""Room above the body for all headers of a record, the state included."""
SHORT_SEGMENT_MS: Final = 600_000
"""Retention and compaction only touch closed segments, so the short-lived topics roll theirs."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One retry topic: a record in it waits behind others for at most ``seconds``."""

    name: str
    seconds: int


TIERS: Final = (
    Tier("0s", 0),
    Tier("5s", 5),
    Tier("30s", 30),
    Tier("2m", 120),
    Tier("10m", 600),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it should be: its row in README and its settings in Kafka."""

    name: str
    key: str
    written_by: str
    read_by: str
    cleanup: Cleanup = "delete"
    retention_ms: int | None = None
    short_lived: bool = False
    provider: str | None = None

    def settings(self, *, max_body_bytes: int, min_insync_replicas: int) -> dict[str, str]:
        """The topic's Kafka settings, as ``outlast topics apply`` writes them."""
        settings = {
            "cleanup.policy": self.cleanup,
            "compression.type": "zstd",
            "max.message.bytes": str(max_body_bytes + HEADER_BYTES),
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": str(min_insync_replicas),
            "unclean.leader.election.enable": "false",
        }
        if self.retention_ms is not None:
            settings["retention.ms"] = str(self.retention_ms)
        if self.short_lived:
            settings["segment.ms"] = str(SHORT_SEGMENT_MS)
        return settings


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of all topics under one prefix."""

    prefix: str = "outlast"

    @property
    def jobs(self) -> str:
        """Where publishers write."""
        return f"{self.prefix}.jobs"

    @property
    def parked(self) -> str:
        """Where jobs wait that nobody can serve now."""
        return f"{self.prefix}.parked"

    @property
    def dead_letters(self) -> str:
        """Where jobs end that cannot be served, and expired ones beside their result."""
        return f"{self.prefix}.dead-letters"

    @property
    def vitals(self) -> str:
        """What each worker saw of its provider, every second."""
        return f"{self.prefix}.vitals"

    @property
    def lent(self) -> str:
        """Notes about calls that outlived the ownership of their partition."""
        return f"{self.prefix}.lent"

    @property
    def health(self) -> str:
        """The fleet's verdict on each provider."""
        return f"{self.prefix}.health"

    @property
    def control(self) -> str:
        """Operators' orders."""
        return f"{self.prefix}.control"

    def work(self, provider: str) -> str:
        """Where the pool of one provider takes its jobs from."""
        return f"{self.prefix}.work.{provider}"

    def retry(self, tier: str) -> str:
        """One tier of waiting."""
        return f"{self.prefix}.retry.{tier}"

    def results(self, name: str = "default") -> str:
        """Where results go; ``default`` has no suffix."""
        return f"{self.prefix}.results" if name == "default" else f"{self.prefix}.results.{name}"

    @property
    def retries(self) -> tuple[str, ...]:
        """All tiers, shortest first."""
        return tuple(self.retry(tier.name) for tier in TIERS)

    def tier_for(self, delay_ms: int) -> str:
        """The shortest tier that a wait of ``delay_ms`` fits; the last one for all longer waits."""
        for tier in TIERS:
            if delay_ms <= tier.seconds * 1000:
                return self.retry(tier.name)
        return self.retry(TIERS[-1].name)

    def table(
        self, providers: tuple[str, ...] = (), results: tuple[str, ...] = ("default",)
    ) -> tuple[Topic, ...]:
        """Every topic, given the configured providers and result topics."""
        return (
            Topic(
                name=self.jobs,
                key="any (clients: job id)",
                written_by="publishers, replay",
                read_by="route",
                retention_ms=7 * DAY_MS,
            ),
            *(
                Topic(
                    name=self.work(provider),
                    key="job id",
                    written_by="route, work, retry, park",
                    read_by="that provider's pool",
                    retention_ms=14 * DAY_MS,
                    provider=provider,
                )
                for provider in providers
            ),
            *(
                Topic(
                    name=name,
                    key="job id",
                    written_by="work, retry",
                    read_by="retry",
                    retention_ms=14 * DAY_MS,
                )
                for name in self.retries
            ),
            Topic(
                name=self.parked,
                key="job id",
                written_by="route, work, retry, park",
                read_by="park",
                retention_ms=14 * DAY_MS,
            ),
            *(
                Topic(
                    name=self.results(name),
                    key="job id",
                    written_by="whoever ends a job",
                    read_by="backends",
                    retention_ms=7 * DAY_MS,
                )
                for name in results
            ),
            Topic(
                name=self.dead_letters,
                key="job id",
                written_by="whoever ends a job",
                read_by="replay, operators",
                retention_ms=30 * DAY_MS,
            ),
            Topic(
                name=self.vitals,
                key="provider",
                written_by="work",
                read_by="health, route",
                retention_ms=HOUR_MS,
                short_lived=True,
            ),
            Topic(
                name=self.lent,
                key="topic/partition",
                written_by="route, work, retry, park",
                read_by="route, work, retry, park",
                retention_ms=HOUR_MS,
                short_lived=True,
            ),
            Topic(
                name=self.health,
                key="provider",
                written_by="health",
                read_by="every stage",
                cleanup="compact",
                short_lived=True,
            ),
            Topic(
                name=self.control,
                key="`provider:` `route:` `tenant:` `job:` `run:` + name",
                written_by="operators, replay",
                read_by="every stage",
                cleanup="compact,delete",
                retention_ms=30 * DAY_MS,
                short_lived=True,
            ),
        )
