"""A process's standing in its group: what it claims, what it is given, and who else is alive.

Given to an ``AIOKafkaConsumer`` as its only partition assignor. Every member sends its claim along
when it joins; one of them, the group's leader, deals by ``core/assignor.py`` and sends everybody
the list of the living with its partitions.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import orjson
from aiokafka import TopicPartition
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from outlast.core.assignor import Claim, assign
from outlast.edges.logs import Log

__all__ = ["Membership"]

log = Log(__name__)

_VERSION: Final = 0
"""Of the consumer protocol: subscription or assignment, then user data."""
_MISFITS: Final = (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError)


class Membership:
    """One member of one group, for the life of the process; its methods raise nothing."""

    # Rename it when the user data comes to mean something else. Both names can then be served
    # side by side; a leader of the old kind under the same name would pass over the claims and
    # move partitions that are not handed over, and calls in flight would be repeated.
    name: Final = "outlast-lending-1"

    def __init__(self, incarnation: str) -> None:
        """``incarnation`` is ``<instance id>.<8 hex>``, new with every process start."""
        self.incarnation: Final = incarnation
        self.slot: Final = _slot(incarnation)
        self.live: frozenset[str] = frozenset()
        """The incarnations that took part in the last assignment."""
        self.wanted: frozenset[TopicPartition] = frozenset()
        """Our partitions that are meant for another member, once they are handed over."""
        self.is_leaving = False
        self._generation = -1
        self._owned: frozenset[TopicPartition] = frozenset()
        self._kept: frozenset[TopicPartition] = frozenset()
        self._asked = self._sent = self._served = 0
        self._mark = 0

    @property
    def owes_rejoin(self) -> bool:
        """Whether something was asked that no assignment has answered yet."""
        return self._asked != self._served

    @property
    def is_listed(self) -> bool:
        """Whether the last assignment knows this very process."""
        return self.incarnation in self.live

    def is_live(self, incarnation: str) -> bool:
        """Whether that process still runs, as far as the last assignment tells.

        A static member that was killed and returns is given its old assignment without a
        rebalance, so the list may still name its former self, which is surely dead.
        """
        if _slot(incarnation) == self.slot:
            return incarnation == self.incarnation
        return incarnation in self.live

    def assigned(self, generation: int, owned: Iterable[TopicPartition]) -> None:
        """These are ours from now on, by the assignment of that generation of the group."""
        self._generation = generation
        self._owned = frozenset(owned)
        self._kept = frozenset()

    def revoked(self, kept: Collection[TopicPartition]) -> None:
        """All of ours are handed over but ``kept``, whose last commit was not acknowledged."""
        self._kept = self._owned.intersection(kept)

    def ask(self) -> None:
        """Want another rebalance: a broker grants one only to a claim that has changed."""
        self._asked += 1

    def leave(self) -> None:
        """Want to be rid of all partitions, and go on as a member without any."""
        self.is_leaving = True
        self.ask()

    # What aiokafka calls at every join, in this order; assign only on the leader.

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What is sent with a join. The same claim is the same bytes, hence all the sorting."""
        self._sent = self._asked
        claim = {
            "incarnation": self.incarnation,
            "generation": self._generation,
            "owned": _by_topic(self._owned),
            "kept": _by_topic(self._kept),
            "leaving": self.is_leaving,
            "asked": self._asked,
        }
        sent = ConsumerProtocolMemberMetadata(_VERSION, sorted(topics), orjson.dumps(claim))
        self._mark = _mark(sent)
        return sent

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Deal for the whole group; an exception here would stop all of it."""
        claims = {member: _claim(member, sent) for member, sent in members.items()}
        topics = {topic for claim in claims.values() for topic in claim.topics}
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        live = sorted({claim.incarnation for claim in claims.values()})
        return {
            member: ConsumerProtocolMemberAssignment(
                _VERSION,
                [(topic, list(found)) for topic, found in portion.partitions.items()],
                orjson.dumps(
                    {"live": live, "wanted": portion.wanted, "answers": _mark(members[member])}
                ),
            )
            for member, portion in assign(claims, counts).items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Learn from the leader. An unreadable list tells of nobody's death: the last one stays."""
        self._served = self._sent
        self.wanted = frozenset()
        try:
            said = orjson.loads(assignment.user_data)
            live, wanted = _texts(said["live"]), _places(said["wanted"])
        except _MISFITS as error:
            log.warning("group.unreadable_assignment", error=type(error).__name__)
            return
        self.live = live
        self.wanted = frozenset(TopicPartition(t, number) for t in wanted for number in wanted[t])
        if said.get("answers", self._mark) != self._mark:
            # The broker repeated an old assignment, as it does for a static member that joins
            # without its member id: no leader has seen the claim, and it stands there unchanged.
            self.ask()


def _mark(sent: ConsumerProtocolMemberMetadata) -> int:
    """Tells one claim from another."""
    return zlib.crc32(sent.user_data or b"")


def _slot(incarnation: str) -> str:
    return incarnation.rpartition(".")[0]


def _by_topic(owned: Iterable[TopicPartition]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for tp in sorted(owned):
        found.setdefault(tp.topic, []).append(tp.partition)
    return found


def _claim(member: str, sent: ConsumerProtocolMemberMetadata) -> Claim:
    """What that member claims; nothing when what it sent cannot be read."""
    topics = frozenset(filter(None, sent.subscription or ()))
    try:
        said = orjson.loads(sent.user_data)
        (incarnation,) = _texts([said["incarnation"]])
        (generation,) = _numbers([said["generation"]])
        return Claim(
            incarnation=incarnation,
            topics=topics,
            generation=generation,
            owned=_places(said["owned"]),
            kept=_places(said["kept"]),
            leaving=said["leaving"] is True,
        )
    except _MISFITS as error:
        log.warning("group.unreadable_claim", member=member, error=type(error).__name__)
        return Claim(incarnation=member, topics=topics)


def _texts(found: Any) -> frozenset[str]:
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise TypeError("texts were expected")
    return frozenset(found)


def _numbers(found: Any) -> frozenset[int]:
    if not isinstance(found, list) or not all(isinstance(number, int) for number in found):
        raise TypeError("whole numbers were expected")
    return frozenset(found)


def _places(found: dict[str, list[Any]]) -> dict[str, frozenset[int]]:
    return {topic: _numbers(numbers) for topic, numbers in found.items()}
