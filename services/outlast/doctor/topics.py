"""What can be judged of our topics: there, as they should be, and able to lose a broker."""

from collections.abc import Iterator, Sequence
from typing import Final

from outlast.core.facts import ClusterFacts, TopicFacts
from outlast.doctor.finding import Check, Finding, advice, or_well, problem

__all__ = ["APPLY", "DURABLE", "NO_TOPIC", "named", "replicas", "topics"]

DURABLE: Final = 3
"""Replicas that let one broker be lost while another is restarted."""
SHOWN: Final = 3
"""So many names stand in a finding; `outlast topics plan` names all."""
APPLY: Final = "run `outlast topics apply` (`outlast topics plan` shows each step)"
NO_TOPIC: Final = "no topic yet"


def topics(there: ClusterFacts) -> Iterator[Finding]:
    """There, and as the table of topics wants them."""
    yield from or_well(_topics(there), Check.TOPICS, f"{len(there.topics)}, as they should be")


def _topics(there: ClusterFacts) -> Iterator[Finding]:
    if there.refusal is not None:
        what, _, remedy = there.refusal.rpartition(": ")
        yield problem(Check.TOPICS, what or remedy, remedy if what else APPLY)
    if there.steps:
        count = len(there.steps)
        yield problem(Check.TOPICS, f"{count} step(s) to take: {named(there.steps)}", APPLY)
    for name, waiting in there.orphans.items():
        yield advice(
            Check.TOPICS,
            f"{name} belongs to no configured provider; {waiting:,} record(s) wait for nobody",
            "put the provider back until `outlast audit` shows none open"
            if waiting
            else f"delete {name} when nothing is to come any more",
        )


def replicas(there: ClusterFacts) -> Iterator[Finding]:
    """Every topic survives the loss of a broker, and can be written meanwhile."""
    yield from or_well(_replicas(there), Check.REPLICAS, _replicated(there))


def _replicated(there: ClusterFacts) -> str:
    fewest = min((topic.replicas for topic in there.topics), default=0)
    return f"{fewest} of each partition, all in sync" if there.topics else NO_TOPIC


def _replicas(there: ClusterFacts) -> Iterator[Finding]:
    thin = [topic for topic in there.topics if topic.replicas < DURABLE]
    if thin and there.brokers >= DURABLE:
        yield problem(
            Check.REPLICAS,
            f"{len(thin)} topic(s) have fewer than {DURABLE} replicas: {_topic_names(thin)}",
            "kafka-reassign-partitions adds them; then `outlast topics apply`",
        )
    dead = [topic for topic in there.topics if topic.leaderless]
    if dead:
        yield problem(
            Check.REPLICAS,
            f"partitions without a leader: {_topic_names(dead)}",
            "bring the broker back that held them; until then they are neither read nor written",
        )
    behind = [topic for topic in there.topics if topic.behind and not topic.leaderless]
    if behind:
        yield problem(
            Check.REPLICAS,
            f"replicas out of sync: {_topic_names(behind)}",
            "see whether a broker is down or its disk is full",
        )
    yield from _in_sync(there)


def _in_sync(there: ClusterFacts) -> Iterator[Finding]:
    strict = [each for each in there.topics if 1 < each.replicas <= (each.min_in_sync or 0)]
    if strict:
        yield advice(
            Check.REPLICAS,
            f"min.insync.replicas is as high as the replicas: {_topic_names(strict)}",
            "one broker down stops all writing there; 2 of 3 is enough",
        )


def _topic_names(topics: list[TopicFacts]) -> str:
    return named([topic.name for topic in topics])


def named(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more
