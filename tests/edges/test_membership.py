"""Claims and lists of the living, through the structs that aiokafka puts on the wire."""

from collections.abc import Callable, Iterable, Mapping

import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.protocol.metadata import MetadataResponse_v1

from outlast.edges.kafka.membership import Membership

JOBS = "outlast.jobs"
FIRST, SECOND = "host.local-0.0000000a", "host.local-1.0000000b"


def a_cluster(**counts: int) -> ClusterMetadata:
    """Topics as the client knows them; underscores stand for the dots of a name."""
    cluster = ClusterMetadata()
    topics = [
        (0, name.replace("_", "."), False, [(0, n, 1, [1], [1]) for n in range(count)])
        for name, count in counts.items()
    ]
    cluster.update_metadata(MetadataResponse_v1([(1, "localhost", 9092, None)], 1, topics))
    return cluster


EIGHT = a_cluster(outlast_jobs=8)


def jobs(*numbers: int) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(JOBS, number) for number in numbers)


def sent_by(member: Membership, topics: Iterable[str] = (JOBS,)) -> ConsumerProtocolMemberMetadata:
    """What the leader reads of it."""
    return ConsumerProtocolMemberMetadata.decode(member.metadata(topics).encode())


def rebalance(
    *members: Membership, cluster: ClusterMetadata = EIGHT
) -> dict[str, frozenset[TopicPartition]]:
    """All join, the last one leads, all learn what they get: incarnation → partitions."""
    joined = {member.incarnation: sent_by(member) for member in members}
    dealt = learn(members, members[-1].assign(cluster, joined))
    return {member.incarnation: dealt[member.incarnation] for member in members}


def learn(
    members: Iterable[Membership], dealt: Mapping[str, ConsumerProtocolMemberAssignment]
) -> dict[str, frozenset[TopicPartition]]:
    found = {}
    for member in members:
        raw = dealt[member.incarnation].encode()
        assignment = ConsumerProtocolMemberAssignment.decode(raw)
        member.on_assignment(assignment)
        found[member.incarnation] = frozenset(assignment.partitions())
    return found


def what_is_dealt(
    leader: Membership, joined: Mapping[str, ConsumerProtocolMemberMetadata]
) -> dict[str, frozenset[TopicPartition]]:
    dealt = leader.assign(EIGHT, joined)
    return {member: frozenset(assignment.partitions()) for member, assignment in dealt.items()}


def user_data(raw: bytes | None) -> ConsumerProtocolMemberMetadata:
    return ConsumerProtocolMemberMetadata(0, [JOBS], raw)


def a_list(**fields: object) -> ConsumerProtocolMemberAssignment:
    return ConsumerProtocolMemberAssignment(0, [], orjson.dumps(fields))


def test_the_protocol_is_known_by_a_name_of_its_own() -> None:
    assert Membership(FIRST).name == "outlast-lending-1"


def test_the_slot_is_all_before_the_last_dot() -> None:
    assert Membership(FIRST).slot == "host.local-0"


def test_a_first_start_shares_the_topic() -> None:
    found = rebalance(Membership(SECOND), Membership(FIRST))

    assert found == {FIRST: jobs(0, 1, 2, 3), SECOND: jobs(4, 5, 6, 7)}


def test_everybody_learns_who_is_alive() -> None:
    first, second = Membership(FIRST), Membership(SECOND)

    rebalance(first, second)

    assert first.live == second.live == {FIRST, SECOND}
    assert first.is_listed
    assert second.is_listed


def test_what_is_handed_over_moves_at_once() -> None:
    first, second = Membership(FIRST), Membership(SECOND)
    first.assigned(3, jobs(0, 1, 2, 3, 4, 5, 6, 7))
    first.revoked(())

    found = rebalance(first, second)

    assert found == {FIRST: jobs(0, 1, 2, 3), SECOND: jobs(4, 5, 6, 7)}
    assert not first.wanted


def test_what_is_not_handed_over_is_wanted_until_it_is() -> None:
    first, second = Membership(FIRST), Membership(SECOND)
    first.assigned(3, jobs(0, 1, 2, 3, 4, 5, 6, 7))
    first.revoked(jobs(0, 1, 2, 3, 4, 5))

    found = rebalance(first, second)

    assert found == {FIRST: jobs(0, 1, 2, 3, 4, 5), SECOND: jobs(6, 7)}
    assert first.wanted == jobs(4, 5)
    assert not second.wanted

    first.assigned(4, found[FIRST])
    second.assigned(4, found[SECOND])
    first.revoked(())

    assert rebalance(first, second) == {FIRST: jobs(0, 1, 2, 3), SECOND: jobs(4, 5, 6, 7)}
    assert not first.wanted


def test_only_what_one_owned_can_be_kept() -> None:
    first, second = Membership(FIRST), Membership(SECOND)
    first.assigned(3, jobs(0))
    first.revoked(jobs(0, 1, 2, 3, 4, 5, 6, 7))

    assert rebalance(first, second)[FIRST] == jobs(0, 1, 2, 3)
    assert orjson.loads(first.metadata([JOBS]).user_data)["kept"] == {JOBS: [0]}


def test_a_new_assignment_keeps_nothing_back() -> None:
    first = Membership(FIRST)
    first.assigned(3, jobs(0, 1))
    first.revoked(jobs(0, 1))

    first.assigned(4, jobs(1, 2))

    said = orjson.loads(sent_by(first).user_data)
    assert said["generation"] == 4
    assert said["owned"] == {JOBS: [1, 2]}
    assert said["kept"] == {}


def test_the_later_generation_has_the_partition() -> None:
    frozen, owner = Membership(SECOND), Membership(FIRST)
    frozen.assigned(3, jobs(0, 1, 2, 3, 4, 5, 6, 7))
    owner.assigned(4, jobs(0, 1, 2, 3))

    assert rebalance(frozen, owner) == {FIRST: jobs(0, 1, 2, 3), SECOND: jobs(4, 5, 6, 7)}


def test_who_leaves_is_rid_of_all_and_still_counts_as_alive() -> None:
    first, second = Membership(FIRST), Membership(SECOND)
    first.assigned(3, jobs(0, 1, 2, 3))
    first.leave()

    found = rebalance(first, second)

    assert first.is_leaving
    assert found == {FIRST: jobs(), SECOND: jobs(0, 1, 2, 3, 4, 5, 6, 7)}
    assert second.is_live(FIRST)


def test_each_member_gets_only_topics_that_it_reads() -> None:
    first, second = Membership(FIRST), Membership(SECOND)
    joined = {
        FIRST: sent_by(first, ["outlast.retry.5s", JOBS]),
        SECOND: sent_by(second, [JOBS, "not.there"]),
    }
    cluster = a_cluster(outlast_jobs=3, outlast_retry_5s=2)

    dealt = learn([first, second], first.assign(cluster, joined))

    retries = {TopicPartition("outlast.retry.5s", number) for number in (0, 1)}
    assert dealt == {FIRST: jobs(0) | retries, SECOND: jobs(1, 2)}


def test_the_same_claim_is_the_same_bytes_so_that_only_a_wish_makes_a_rebalance() -> None:
    first, again = Membership(FIRST), Membership(FIRST)
    first.assigned(3, sorted(jobs(*range(40))))
    again.assigned(3, sorted(jobs(*range(40)), reverse=True))

    sent = first.metadata([JOBS, "a", "b"])
    encoded = sent.encode()

    assert orjson.loads(sent.user_data)["owned"] == {JOBS: list(range(40))}
    assert again.metadata(["b", JOBS, "a"]).encode() == encoded

    again.ask()

    assert again.metadata(["b", JOBS, "a"]).encode() != encoded


# Counters.


def test_nothing_is_owed_before_anything_is_asked() -> None:
    first = Membership(FIRST)

    rebalance(first)

    assert not first.owes_rejoin


@pytest.mark.parametrize("wish", [Membership.ask, Membership.leave])
def test_an_assignment_answers_what_was_asked_before_the_join(
    wish: Callable[[Membership], None],
) -> None:
    first = Membership(FIRST)
    wish(first)
    assert first.owes_rejoin

    rebalance(first)

    assert not first.owes_rejoin


def test_what_is_asked_during_a_join_is_still_owed_after_it() -> None:
    first = Membership(FIRST)
    first.ask()
    joined = {FIRST: sent_by(first)}
    first.ask()

    learn([first], first.assign(EIGHT, joined))

    assert first.owes_rejoin

    rebalance(first)

    assert not first.owes_rejoin


def test_a_join_that_failed_answers_nothing() -> None:
    first = Membership(FIRST)
    first.ask()
    sent_by(first)

    assert first.owes_rejoin

    rebalance(first)

    assert not first.owes_rejoin


def test_an_old_assignment_that_the_broker_repeats_answers_nothing() -> None:
    first, second = Membership(FIRST), Membership(SECOND)
    dealt = second.assign(EIGHT, {FIRST: sent_by(first), SECOND: sent_by(second)})
    learn([first, second], dealt)
    first.leave()
    unseen = sent_by(first).user_data

    learn([first], dealt)

    assert first.owes_rejoin
    assert sent_by(first).user_data != unseen  # else the broker would repeat it for ever

    rebalance(first, second)

    assert not first.owes_rejoin


# Who is alive.


def test_one_is_alive_oneself_even_before_any_assignment() -> None:
    first = Membership(FIRST)

    assert first.is_live(FIRST)
    assert not first.is_listed
    assert not first.is_live(SECOND)


def test_who_is_not_listed_is_not_alive() -> None:
    first = Membership(FIRST)

    rebalance(first, Membership(SECOND))
    assert first.is_live(SECOND)

    rebalance(first)
    assert not first.is_live(SECOND)


def test_ones_own_former_life_is_over_though_it_is_listed() -> None:
    former, other = Membership("host.local-0.0000000f"), Membership(SECOND)
    dealt = other.assign(EIGHT, {former.incarnation: sent_by(former), SECOND: sent_by(other)})
    returned = Membership(FIRST)
    sent_by(returned)

    returned.on_assignment(dealt[former.incarnation])

    assert former.incarnation in returned.live
    assert not returned.is_live(former.incarnation)
    assert returned.is_live(FIRST)
    assert returned.is_live(SECOND)
    assert not returned.is_listed
    assert returned.owes_rejoin


# Garbage.

GARBAGE = [
    None,
    b"",
    b"\xff\x00",
    b"[]",
    b"null",
    b"{}",
    b'{"incarnation": 7, "generation": 1, "owned": {}, "kept": {}, "leaving": false}',
    b'{"incarnation": "x.1", "generation": "9", "owned": {}, "kept": {}, "leaving": false}',
    b'{"incarnation": "x.1", "generation": 9, "owned": [], "kept": {}, "leaving": false}',
    b'{"incarnation": "x.1", "generation": 9, "owned": {"outlast.jobs": ["0"]}, "kept": {},'
    b' "leaving": false}',
    b'{"incarnation": "x.1", "generation": 9, "owned": {"outlast.jobs": 0}, "kept": {},'
    b' "leaving": false}',
    b'{"incarnation": "x.1", "generation": 9, "owned": {"outlast.jobs": ""}, "kept": {},'
    b' "leaving": false}',
    b'{"incarnation": "x.1", "generation": 9, "owned": {}, "kept": {"outlast.jobs": [[0]]},'
    b' "leaving": false}',
    b'{"incarnation": "x.1", "generation": 9, "owned": {}, "kept": {}}',
]


@pytest.mark.parametrize("raw", GARBAGE)
def test_who_cannot_be_understood_claims_nothing_and_gets_a_share(raw: bytes | None) -> None:
    leader = Membership(FIRST)
    leader.assigned(3, jobs(0, 1, 2, 3, 4, 5, 6, 7))
    joined = {FIRST: sent_by(leader), "id-9": user_data(raw)}

    found = what_is_dealt(leader, joined)

    assert found == {FIRST: jobs(0, 1, 2, 3), "id-9": jobs(4, 5, 6, 7)}
    learn([leader], leader.assign(EIGHT, joined))
    assert leader.live == {FIRST, "id-9"}


def test_who_subscribes_to_nothing_at_all_gets_nothing() -> None:
    leader = Membership(FIRST)
    strange = ConsumerProtocolMemberMetadata(0, None, None)
    null_topic = ConsumerProtocolMemberMetadata(0, [None, JOBS], None)

    found = what_is_dealt(leader, {FIRST: sent_by(leader), "id-8": strange, "id-9": null_topic})

    assert found == {FIRST: jobs(0, 1, 2, 3), "id-8": jobs(), "id-9": jobs(4, 5, 6, 7)}


@pytest.mark.parametrize(
    "unreadable",
    [
        ConsumerProtocolMemberAssignment(0, [], None),
        ConsumerProtocolMemberAssignment(0, [], b""),
        ConsumerProtocolMemberAssignment(0, [], b"{"),
        ConsumerProtocolMemberAssignment(0, [], b"[]"),
        a_list(live=[SECOND]),
        a_list(live="nobody", wanted={}),
        a_list(live=[1], wanted={}),
        a_list(live=[SECOND], wanted=[JOBS]),
        a_list(live=[SECOND], wanted={JOBS: "3"}),
    ],
)
def test_a_list_that_cannot_be_read_is_no_news_of_anybodys_death(
    unreadable: ConsumerProtocolMemberAssignment,
) -> None:
    first, second = Membership(FIRST), Membership(SECOND)
    first.assigned(3, jobs(0, 1, 2, 3, 4, 5, 6, 7))
    first.revoked(jobs(0, 1, 2, 3, 4, 5, 6, 7))
    rebalance(first, second)
    assert first.wanted

    first.on_assignment(unreadable)

    assert first.live == {FIRST, SECOND}
    assert not first.wanted
