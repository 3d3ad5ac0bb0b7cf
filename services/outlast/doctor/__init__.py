"""What is wrong with an installation, and what to do about it: a judgement on facts.

Reads nothing itself: the edges bring the facts, this page says what they mean.
"""

from collections.abc import Callable, Iterator
from typing import Final

from outlast.core.facts import ClusterFacts, Facts
from outlast.doctor import cluster, here, providers, topics
from outlast.doctor.finding import Finding, Severity

__all__ = ["Finding", "Severity", "examine"]

HERE: Final[tuple[Callable[[Facts], Iterator[Finding]], ...]] = (
    here.settings,
    here.keys,
    here.open_files,
    here.transport,
)
THERE: Final[tuple[Callable[[ClusterFacts], Iterator[Finding]], ...]] = (
    cluster.brokers,
    topics.topics,
    topics.replicas,
    cluster.offsets,
    cluster.broker_settings,
    cluster.clock,
    cluster.stages,
)


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Every check's findings in a fixed order; a check without any says that all is well.

    What needs the cluster is left out where no broker answered.
    """
    found = [each for check in HERE for each in check(facts)]
    if facts.cluster is not None:
        found += [each for check in THERE for each in check(facts.cluster)]
    return (*found, *providers.called(facts.called))
