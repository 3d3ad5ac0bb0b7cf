"""Which member of a group works on which partition: fair, sticky, and nothing moves uncommitted.

Rules. Every topic is spread evenly over the members that subscribe to it and do not leave, and
so are the topics together. Within that evenness a member keeps what it owns. What it has to give
away moves at once when its last commit was acknowledged; otherwise it stays, marked as wanted,
and moves in a later round: an owner that is not sure of its commit must not have a successor.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

__all__ = ["Claim", "Portion", "assign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a member says of itself when it joins."""

    incarnation: str
    """Its process, as ``<instance id>.<8 hex>``."""
    topics: frozenset[str]
    """What it subscribes to."""
    generation: int = -1
    """The group's generation of its last assignment; -1: it had none yet."""
    owned: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Topic → partitions of that assignment."""
    kept: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Those of them whose last commit was not acknowledged: they are not handed over."""
    leaving: bool = False
    """Whether it wants to be rid of all it owns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What a member gets."""

    partitions: Mapping[str, tuple[int, ...]]
    """Topic → its partitions, ascending; topics without any are absent."""
    wanted: Mapping[str, tuple[int, ...]]
    """Those of them that are meant for another member and wait only to be handed over."""


_Place = tuple[str, int]
"""A topic and a partition of it."""
_Owned = Counter[tuple[str, str]]
"""How many partitions a member owns of a topic."""
_Quotas = dict[str, dict[str, int]]
"""Topic → member, by incarnation → how many partitions of it are meant for that member."""


def assign(claims: Mapping[str, Claim], partitions: Mapping[str, int]) -> Mapping[str, Portion]:
    """Deal the partitions to the members; the keys of ``claims`` are member ids.

    ``partitions`` is topic → how many it has. A partition is left to nobody only when all who
    subscribe to it leave and none of them owns it. Claims that make no sense are passed over.
    """
    order = sorted(claims, key=lambda member: (claims[member].incarnation, member))
    owners = _owners(order, claims, partitions)
    takers = {topic: _takers(topic, order, claims) for topic in sorted(partitions)}
    quotas = _quotas(takers, partitions, Counter((o, t) for (t, _), o in owners.items()))
    kept = {place for place, owner in owners.items() if _is_kept(place, claims[owner])}
    meant = owners | _meant(owners, kept, quotas, partitions)
    held = meant | {place: owners[place] for place in kept}
    wanted = {place: owner for place, owner in held.items() if meant[place] != owner}
    return {
        member: Portion(partitions=_portion(member, held), wanted=_portion(member, wanted))
        for member in order
    }


def _owners(
    order: Sequence[str], claims: Mapping[str, Claim], partitions: Mapping[str, int]
) -> dict[_Place, str]:
    """Who has each claimed partition: of several that claim it, the one who had it last.

    A process that was frozen meanwhile still claims what the group has given to another.
    """
    owners: dict[_Place, str] = {}
    for member in sorted(order, key=lambda member: claims[member].generation):
        for topic, numbers in claims[member].owned.items():
            count = partitions.get(topic, 0)
            owners.update({(topic, number): member for number in numbers if 0 <= number < count})
    # The client refuses a partition of a topic that it does not subscribe to.
    return {place: owner for place, owner in owners.items() if place[0] in claims[owner].topics}


def _takers(topic: str, order: Sequence[str], claims: Mapping[str, Claim]) -> list[str]:
    return [m for m in order if topic in claims[m].topics and not claims[m].leaving]


def _is_kept(place: _Place, claim: Claim) -> bool:
    topic, number = place
    return number in claim.kept.get(topic, ())


def _quotas(
    takers: Mapping[str, Sequence[str]], partitions: Mapping[str, int], owned: _Owned
) -> _Quotas:
    """Equal shares; what is left over goes to whoever owns more, then to whoever has fewest.

    Then left-overs are passed on until no two members of equal topics differ by more than one.
    """
    totals = Counter[str]()
    quotas: _Quotas = {}
    for topic, members in takers.items():
        whole, rest = divmod(partitions[topic], max(len(members), 1))
        ranks = {m: (-owned[m, topic], totals[m], rank) for rank, m in enumerate(members)}
        luckier = sorted(members, key=ranks.__getitem__)[:rest]
        quotas[topic] = {m: whole + (m in luckier) for m in members}
        totals.update(quotas[topic])
    while steps := list(_steps(quotas, totals)):
        topic, rich, poor = min(steps, key=lambda step: _cost(step, quotas, owned))
        quotas[topic][rich] -= 1
        quotas[topic][poor] += 1
        totals.update({rich: -1, poor: 1})
    return quotas


def _steps(quotas: _Quotas, totals: Mapping[str, int]) -> Iterator[tuple[str, str, str]]:
    """Each way to pass on a left-over that makes the totals more even: topic, from, to."""
    for topic, shares in quotas.items():
        for rich, poor in permutations(shares, 2):
            if shares[rich] > shares[poor] and totals[rich] - totals[poor] > 1:
                yield topic, rich, poor


def _cost(step: tuple[str, str, str], quotas: _Quotas, owned: _Owned) -> tuple[int, str]:
    """How many more partitions move by it; ties go by the topic's name."""
    topic, rich, poor = step
    gains = quotas[topic][poor] >= owned[poor, topic]
    gained = quotas[topic][rich] > owned[rich, topic]
    return gains - gained, topic


def _meant(
    owners: Mapping[_Place, str],
    kept: Collection[_Place],
    quotas: _Quotas,
    partitions: Mapping[str, int],
) -> dict[_Place, str]:
    """Who is to have each partition once everything is handed over.

    What cannot move yet fills its owner's share first, so that as little as possible waits.
    """
    meant: dict[_Place, str] = {}
    due = Counter({(m, topic): n for topic, shares in quotas.items() for m, n in shares.items()})
    for place in sorted(owners, key=lambda place: (place not in kept, place)):
        owner = owners[place]
        if due[owner, place[0]] > 0:
            due[owner, place[0]] -= 1
            meant[place] = owner
    for topic, shares in quotas.items():
        free = [(topic, n) for n in range(partitions[topic]) if (topic, n) not in meant]
        places = [member for member in shares for _ in range(due[member, topic])]
        meant.update(zip(free, places, strict=False))
    return meant


def _portion(member: str, owners: Mapping[_Place, str]) -> dict[str, tuple[int, ...]]:
    mine: dict[str, tuple[int, ...]] = {}
    for topic, number in sorted(place for place, owner in owners.items() if owner == member):
        mine[topic] = (*mine.get(topic, ()), number)
    return mine
