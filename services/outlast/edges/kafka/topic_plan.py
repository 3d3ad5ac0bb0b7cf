"""What must change in Kafka so that it agrees with the table of topics; values only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from outlast.core.errors import TopicsError
from outlast.core.policy import Catalogue
from outlast.edges.settings import Kafka
from outlast_schemas.topics import Topic, Topics

__all__ = [
    "Beginning",
    "Change",
    "Creation",
    "Found",
    "Growth",
    "Plan",
    "compare",
    "refuse_starving_pools",
    "table",
]

AT_LEAST: Final = frozenset({"retention.ms", "min.insync.replicas"})
"""Settings that are raised where they are too low, and left where somebody set them higher."""
DURABLE: Final = 3
"""Replicas from which on two of them must have a record before it is acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A topic as it is in Kafka; ``own`` are the settings that were set on the topic itself."""

    partitions: int
    replicas: int
    settings: Mapping[str, str]
    own: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """A topic that is missing."""

    topic: str
    partitions: int
    replicas: int
    settings: Mapping[str, str]

    def __str__(self) -> str:
        """One line for an operator."""
        return f"create {self.topic}: {self.partitions} partition(s), {self.replicas} replica(s)"

    def to_json(self) -> dict[str, object]:
        """The line of ``outlast topics plan --json``."""
        about = {"partitions": self.partitions, "replicas": self.replicas}
        return {"kind": "create", "topic": self.topic, **about, "settings": dict(self.settings)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A setting that differs."""

    topic: str
    setting: str
    found: str | None
    wanted: str

    def __str__(self) -> str:
        """One line for an operator."""
        return f"set {self.setting} of {self.topic}: {self.found} → {self.wanted}"

    def to_json(self) -> dict[str, object]:
        """The line of ``outlast topics plan --json``."""
        about = {"setting": self.setting, "is": self.found, "wanted": self.wanted}
        return {"kind": "set", "topic": self.topic, **about}


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A topic with fewer partitions than it shall have."""

    topic: str
    found: int
    wanted: int

    def __str__(self) -> str:
        """One line for an operator."""
        return f"grow {self.topic}: {self.found} → {self.wanted} partitions"

    def to_json(self) -> dict[str, object]:
        """The line of ``outlast topics plan --json``."""
        return {"kind": "grow", "topic": self.topic, "is": self.found, "wanted": self.wanted}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A group without a committed offset on some partitions; ``records`` lie there already."""

    group: str
    topic: str
    partitions: tuple[int, ...]
    records: int = 0

    def __str__(self) -> str:
        """One line for an operator."""
        again = f"; it will read {self.records} records there" if self.records else ""
        count = len(self.partitions)
        return f"commit offset 0 for {self.group}: {count} partition(s) of {self.topic}{again}"

    def to_json(self) -> dict[str, object]:
        """The line of ``outlast topics plan --json``."""
        about = {"partitions": list(self.partitions), "records": self.records}
        return {"kind": "begin", "topic": self.topic, "group": self.group, **about}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All differences; ``notes`` are what the command cannot or need not change."""

    creations: tuple[Creation, ...] = ()
    changes: tuple[Change, ...] = ()
    growths: tuple[Growth, ...] = ()
    beginnings: tuple[Beginning, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether ``apply`` has anything to do."""
        return bool(self.creations or self.changes or self.growths or self.beginnings)

    @property
    def steps(self) -> tuple[Creation | Change | Growth | Beginning, ...]:
        """What ``apply`` does, in its order."""
        return (*self.creations, *self.changes, *self.growths, *self.beginnings)

    def lines(self) -> tuple[str, ...]:
        """What ``apply`` does, a line each."""
        return tuple(map(str, self.steps))


def table(kafka: Kafka, catalogue: Catalogue) -> tuple[Topic, ...]:
    """Every topic that this configuration needs."""
    results = ("default", *sorted(catalogue.results - {"default"}))
    return Topics(kafka.prefix).table(tuple(catalogue.providers), results)


def compare(
    kafka: Kafka, catalogue: Catalogue, found: Mapping[str, Found], *, replicas: int
) -> Plan:
    """Compare what is with what shall be; groups are looked at apart.

    Args:
        kafka: partitions, sizes, prefix.
        catalogue: providers and results, which have topics of their own.
        found: the topics of the cluster by name.
        replicas: the replication factor that new topics get.

    Raises:
        TopicsError: when a pool has fewer permits than its topic has partitions.
    """
    topics = table(kafka, catalogue)
    refuse_starving_pools(kafka, catalogue, {n: each.partitions for n, each in found.items()})
    missing = [topic for topic in topics if topic.name not in found]
    there = [(topic, found[topic.name]) for topic in topics if topic.name in found]
    return Plan(
        creations=tuple(_creation(topic, kafka, catalogue, replicas) for topic in missing),
        changes=tuple(each for topic, is_ in there for each in _changes(topic, is_, kafka)),
        growths=tuple(each for topic, is_ in there for each in _growth(topic, is_, kafka)),
        notes=tuple(_notes(there, replicas)),
    )


def _creation(topic: Topic, kafka: Kafka, catalogue: Catalogue, replicas: int) -> Creation:
    return Creation(
        topic=topic.name,
        partitions=_partitions(topic, kafka, catalogue),
        replicas=replicas,
        settings=_settings(topic, kafka, replicas),
    )


def _settings(topic: Topic, kafka: Kafka, replicas: int) -> dict[str, str]:
    # A topic of one replica that asked for two in sync could not be written any more.
    in_sync = 2 if replicas >= DURABLE else 1
    return topic.settings(max_body_bytes=kafka.max_body_bytes, min_insync_replicas=in_sync)


def _partitions(topic: Topic, kafka: Kafka, catalogue: Catalogue) -> int:
    configured = _configured(topic, kafka)
    if configured is not None:
        return configured
    if topic.provider is not None:
        return min(kafka.partitions, catalogue.providers[topic.provider].limits.concurrency)
    return 1 if _is_table(topic, Topics(kafka.prefix)) else kafka.partitions


def _is_table(topic: Topic, topics: Topics) -> bool:
    """Topics that every process reads whole and without a group gain nothing by partitions."""
    return topic.name in (topics.control, topics.health, topics.lent)


def _configured(topic: Topic, kafka: Kafka) -> int | None:
    return kafka.topic_partitions.get(topic.name.removeprefix(f"{kafka.prefix}."))


def _changes(topic: Topic, found: Found, kafka: Kafka) -> Iterator[Change]:
    for setting, wanted in _settings(topic, kafka, found.replicas).items():
        is_ = found.settings.get(setting)
        if setting in AT_LEAST and is_ is not None and _is_more(is_, wanted):
            continue  # an operator's longer retention is never cut
        if is_ is None or set(is_.split(",")) != set(wanted.split(",")):
            yield Change(topic=topic.name, setting=setting, found=is_, wanted=wanted)


def _is_more(found: str, wanted: str) -> bool:
    """Whether a setting allows more than is wanted; -1 is without limit."""
    return found == "-1" or (found.isdigit() and int(found) > int(wanted))


def _growth(topic: Topic, found: Found, kafka: Kafka) -> Iterator[Growth]:
    """What the configuration says of a topic holds later too; a pool's default does not."""
    wanted = _configured(topic, kafka)
    if wanted is None and topic.provider is None and not _is_table(topic, Topics(kafka.prefix)):
        wanted = kafka.partitions
    if wanted is not None and wanted > found.partitions:
        yield Growth(topic=topic.name, found=found.partitions, wanted=wanted)


def _notes(there: list[tuple[Topic, Found]], replicas: int) -> Iterator[str]:
    if replicas < DURABLE:
        yield "fewer than three brokers: one replica of each topic, gone when its disk is"
    thin = [topic.name for topic, is_ in there if is_.replicas < replicas]
    if thin:
        yield (
            f"{len(thin)} topics have fewer than {replicas} replicas ({', '.join(thin[:3])} …): "
            "kafka-reassign-partitions adds them, then `outlast topics apply` again"
        )


def refuse_starving_pools(
    kafka: Kafka, catalogue: Catalogue, partitions: Mapping[str, int]
) -> None:
    """Raise ``TopicsError`` when a pool has fewer permits than its topic has partitions.

    ``partitions`` are those of the topics that exist.
    """
    starving = [
        mistake
        for topic in table(kafka, catalogue)
        if (mistake := _starving(topic, kafka, catalogue, partitions.get(topic.name, 0)))
    ]
    if starving:
        raise TopicsError("\n".join(starving))


def _starving(topic: Topic, kafka: Kafka, catalogue: Catalogue, there: int) -> str | None:
    if topic.provider is None:
        return None
    partitions = max(there, _configured(topic, kafka) or 0)
    concurrency = catalogue.providers[topic.provider].limits.concurrency
    if concurrency >= partitions:
        return None
    has = "has" if there == partitions else "shall have"
    way_out = ", or delete the topic once it is empty" if there == partitions else ""
    return (
        f"providers.{topic.provider}.limits.concurrency is {concurrency}, but {topic.name} {has} "
        f"{partitions} partitions, and each needs a permit: raise the concurrency{way_out}"
    )
