"""A process's share of a pool's permits: by the partitions it owns, counted at each rebalance."""

from dataclasses import dataclass, field
from typing import cast

from aiokafka import TopicPartition

from outlast.edges.kafka.assignment import Assignment
from outlast.edges.pool import Share


@dataclass
class Owned:
    """What a feed knows of its partitions."""

    owned: frozenset[TopicPartition]
    partitions: int = 4
    epoch: int = 0
    topics_asked: list[str] = field(default_factory=list)

    @property
    def consumer(self) -> "Owned":
        return self

    def partitions_for_topic(self, topic: str) -> set[int]:
        self.topics_asked.append(topic)
        return set(range(self.partitions))

    def own(self, *numbers: int, topic: str = "work") -> None:
        self.owned = frozenset(TopicPartition(topic, number) for number in numbers)
        self.epoch += 1


def test_the_share_follows_the_partitions_after_each_rebalance() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=10, most=1_000)
    shares = [share()]
    for numbers in ((0, 1, 2, 3), (0, 2), (1, 3), (3,), ()):
        owned.own(*numbers)
        shares.append(share())

    # 10 over 4 partitions: 3, 3, 2, 2
    assert shares == [0, 10, 5, 5, 2, 0]


def test_a_process_may_bound_its_share_and_counts_only_its_topic() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=1_000, most=100)
    owned.own(0, 1, 2, 3)
    bounded = share()
    owned.own(0, 1, 2, 3, topic="other")

    assert (bounded, share()) == (100, 0)


def test_between_rebalances_the_share_is_not_counted_anew() -> None:
    owned = Owned(frozenset())
    share = Share(cast(Assignment, owned), "work", limit=10, most=1_000)
    owned.own(0)
    for _ in range(100):
        share()

    assert owned.topics_asked == ["work"]
