"""What a doctor looks at, as values: this host, the keys, the cluster, the providers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from outlast.core.policy import Catalogue
from outlast.core.verdict import Verdict

__all__ = ["Called", "ClusterFacts", "Facts", "GroupFacts", "SecretFacts", "TopicFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFacts:
    """A secret that the configuration names; never its value.

    Attributes:
        key: the dotted key of the setting that names it, such as ``providers.openai.api_key_env``.
        mistake: why it cannot be used; ``None`` when it can.
        file: the file it lies in, if it does.
        is_open: whether other users of this host may read that file.
    """

    key: str
    mistake: str | None = None
    file: str | None = None
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFacts:
    """A topic of ours that is there.

    Attributes:
        replicas: of the partition that has the fewest.
        behind: partitions of which a replica is not in sync.
        leaderless: partitions that nobody leads: they can be neither read nor written.
        retention_ms: below 0: without an end; ``None``: not known.
        min_in_sync: ``min.insync.replicas``; ``None``: not known.
    """

    name: str
    replicas: int
    behind: int = 0
    leaderless: int = 0
    retention_ms: int | None = None
    min_in_sync: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFacts:
    """A stage's consumer group: who is in it, and what its topics hold that is not done.

    Attributes:
        command: what starts a member.
        unbegun: partitions on which nothing is committed yet.
    """

    name: str
    command: str
    members: int
    waiting: int
    unbegun: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """The cluster and our part of it.

    Attributes:
        steps: what ``outlast topics apply`` would do, a line each.
        refusal: why it would refuse to, if it would.
        settings: a broker's own settings, as far as it tells them: name → value.
        largest_record: bytes that the largest record of ours may have.
        orphans: pools without a configured provider → records that nobody will do.
        clock_ms: the broker's clock less this host's; ``None`` where it could not be compared.
    """

    brokers: int
    steps: tuple[str, ...] = ()
    refusal: str | None = None
    topics: tuple[TopicFacts, ...] = ()
    groups: tuple[GroupFacts, ...] = ()
    read_by_groups: frozenset[str] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)
    largest_record: int = 0
    orphans: Mapping[str, int] = field(default_factory=dict)
    clock_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """One real call of one token; ``seconds`` it took. ``verdict`` is absent without a key."""

    provider: str
    model: str | None
    base_url: str
    verdict: Verdict | None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that was seen.

    Attributes:
        catalogue: the configured providers and routes.
        path: the settings file, if there was one.
        open_files: how many files this process may have open; ``None``: without a limit.
        cluster: absent when no broker answered.
        called: empty when no provider was to be called.
    """

    catalogue: Catalogue
    path: str | None = None
    secrets: tuple[SecretFacts, ...] = ()
    open_files: int | None = None
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    bootstrap_servers: str = ""
    cluster: ClusterFacts | None = None
    called: tuple[Called, ...] = ()
