"""The dealing of partitions: fair, sticky, and nothing moves that is not handed over."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outlast.core.assignor import Claim, Portion, assign

JOBS = frozenset({"jobs"})
TIERS = ("a", "b", "c")


def a_claim(name: str, *jobs: int, generation: int = 1, kept: Iterable[int] = ()) -> Claim:
    return Claim(
        incarnation=name,
        topics=JOBS,
        generation=generation,
        owned={"jobs": frozenset(jobs)},
        kept={"jobs": frozenset(kept)},
    )


def a_newcomer(name: str, topics: Iterable[str] = JOBS) -> Claim:
    return Claim(incarnation=name, topics=frozenset(topics))


def deal(*claims: Claim, jobs: int) -> dict[str, tuple[int, ...]]:
    """Incarnation → its partitions of the one topic."""
    portions = assign({claim.incarnation: claim for claim in claims}, {"jobs": jobs})
    return {member: portion.partitions.get("jobs", ()) for member, portion in portions.items()}


def wanted(*claims: Claim, jobs: int) -> dict[str, tuple[int, ...]]:
    portions = assign({claim.incarnation: claim for claim in claims}, {"jobs": jobs})
    return {m: portion.wanted["jobs"] for m, portion in portions.items() if portion.wanted}


def next_claims(
    claims: Mapping[str, Claim], portions: Mapping[str, Portion], generation: int
) -> dict[str, Claim]:
    """What the members claim after that assignment, all of it handed over."""
    return {
        member: replace(claim, generation=generation, owned=owned_by(portions[member]), kept={})
        for member, claim in claims.items()
    }


def owned_by(portion: Portion) -> dict[str, frozenset[int]]:
    return {topic: frozenset(numbers) for topic, numbers in portion.partitions.items()}


def owners(portions: Mapping[str, Portion]) -> dict[tuple[str, int], str]:
    """Place → its owner. Two owners of one are a failure."""
    places = [
        ((topic, number), member)
        for member, portion in portions.items()
        for topic, numbers in portion.partitions.items()
        for number in numbers
    ]
    assert len(dict(places)) == len(places), "a partition has two owners"
    return dict(places)


# By example.


def test_a_first_start_deals_by_name() -> None:
    found = deal(a_newcomer("w-2.b"), a_newcomer("w-1.a"), a_newcomer("w-3.c"), jobs=8)

    assert found == {"w-1.a": (0, 1, 2), "w-2.b": (3, 4, 5), "w-3.c": (6, 7)}


def test_names_count_not_the_ids_that_the_broker_gives() -> None:
    claims = {"id-9": a_newcomer("w-1.a"), "id-1": a_newcomer("w-2.b")}

    portions = assign(claims, {"jobs": 3})

    assert portions["id-9"].partitions == {"jobs": (0, 1)}
    assert portions["id-1"].partitions == {"jobs": (2,)}


def test_who_joins_gets_what_the_others_have_too_many() -> None:
    found = deal(a_claim("w-1", 0, 1, 2), a_claim("w-2", 3, 4, 5), a_newcomer("w-0"), jobs=6)

    assert found == {"w-1": (0, 1), "w-2": (3, 4), "w-0": (2, 5)}


def test_what_a_dead_member_had_is_spread_over_the_others() -> None:
    found = deal(a_claim("w-1", 0, 3), a_claim("w-3", 2, 5), jobs=6)

    assert found == {"w-1": (0, 1, 3), "w-3": (2, 4, 5)}


def test_the_left_over_stays_with_whoever_owns_more() -> None:
    found = deal(a_claim("w-1", 0), a_claim("w-2", 1, 2), jobs=3)

    assert found == {"w-1": (0,), "w-2": (1, 2)}


def test_the_left_overs_of_several_topics_even_out() -> None:
    claims = {name: a_newcomer(name, TIERS) for name in ("w-1", "w-2", "w-3")}

    portions = assign(claims, {"a": 4, "b": 4, "c": 4})

    most = {
        topic: max(portions, key=lambda m: len(portions[m].partitions[topic])) for topic in TIERS
    }
    assert totals(portions) == {"w-1": 4, "w-2": 4, "w-3": 4}
    assert most == {"a": "w-1", "b": "w-2", "c": "w-3"}


def test_a_lone_owner_of_many_small_topics_shares_them() -> None:
    owned = {topic: frozenset({0}) for topic in TIERS}
    first = Claim(incarnation="w-1", topics=frozenset(TIERS), generation=4, owned=owned)
    claims = {"w-1": first, "w-2": a_newcomer("w-2", TIERS)}

    portions = assign(claims, {"a": 1, "b": 1, "c": 1})

    assert totals(portions) == {"w-1": 2, "w-2": 1}


def test_of_several_left_overs_that_could_go_on_goes_the_one_that_moves_least() -> None:
    start = {name: a_newcomer(name, TIERS) for name in ("w-1", "w-2", "w-3")}
    counts = {"a": 1, "b": 5, "c": 2}
    before = assign(start, counts)
    claims = next_claims(start, before, 1) | {"w-4": a_newcomer("w-4", TIERS)}

    portions = assign(claims, counts)

    had, has = owners(before), owners(portions)
    assert totals(portions) == {"w-1": 2, "w-2": 2, "w-3": 2, "w-4": 2}
    assert {has[place] for place in had if has[place] != had[place]} == {"w-4"}


def test_more_members_than_partitions_leave_some_without() -> None:
    found = deal(a_claim("w-2", 0), a_newcomer("w-1"), a_newcomer("w-3"), jobs=2)

    assert found == {"w-1": (1,), "w-2": (0,), "w-3": ()}


def test_a_topic_without_partitions_gives_nobody_any() -> None:
    assert deal(a_newcomer("w-1"), a_claim("w-2", 0), jobs=0) == {"w-1": (), "w-2": ()}


def test_without_members_there_is_nothing_to_deal() -> None:
    assert assign({}, {"jobs": 3}) == {}


def test_of_two_claims_that_of_the_later_generation_holds() -> None:
    thawed = a_claim("w-1", 0, 1, generation=4, kept=(0, 1))
    owner = a_claim("w-2", 0, 1, generation=5)

    assert deal(thawed, owner, jobs=2) == {"w-1": (1,), "w-2": (0,)}
    assert wanted(thawed, owner, jobs=2) == {}


def test_of_two_claims_of_one_generation_one_holds_whatever_the_ids() -> None:
    low, high = a_claim("w-1", 0, kept=(0,)), a_claim("w-2", 0, kept=(0,))

    for claims in ({"x": low, "y": high}, {"y": low, "x": high}):
        found = owners(assign(claims, {"jobs": 1}))
        assert claims[found["jobs", 0]].incarnation == "w-2"


def test_what_is_not_handed_over_stays_and_is_wanted() -> None:
    holder = a_claim("w-1", 0, 1, 2, 3, kept=(0, 1, 3))

    assert deal(holder, a_newcomer("w-2"), jobs=4) == {"w-1": (0, 1, 3), "w-2": (2,)}
    assert wanted(holder, a_newcomer("w-2"), jobs=4) == {"w-1": (3,)}


def test_what_cannot_move_is_what_its_owner_goes_on_with() -> None:
    holder = a_claim("w-1", 0, 1, 2, 3, kept=(2, 3))

    assert deal(holder, a_newcomer("w-2"), jobs=4) == {"w-1": (2, 3), "w-2": (0, 1)}
    assert wanted(holder, a_newcomer("w-2"), jobs=4) == {}


def test_what_is_wanted_moves_once_it_is_handed_over() -> None:
    waiting = a_claim("w-2", 2)

    assert deal(a_claim("w-1", 0, 1, 3), waiting, jobs=4) == {"w-1": (0, 1), "w-2": (2, 3)}


def test_who_leaves_gets_nothing() -> None:
    leaver = replace(a_claim("w-1", 0, 1), leaving=True)

    assert deal(leaver, a_claim("w-2", 2, 3), jobs=4) == {"w-1": (), "w-2": (0, 1, 2, 3)}


def test_who_leaves_goes_on_with_what_it_could_not_hand_over() -> None:
    leaver = replace(a_claim("w-1", 0, 1, kept=(1,)), leaving=True)

    assert deal(leaver, a_claim("w-2", 2, 3), jobs=4) == {"w-1": (1,), "w-2": (0, 2, 3)}
    assert wanted(leaver, a_claim("w-2", 2, 3), jobs=4) == {"w-1": (1,)}


def test_when_all_leave_they_keep_what_they_own_and_the_rest_goes_nowhere() -> None:
    first = replace(a_claim("w-1", 0, kept=(0,)), leaving=True)
    second = replace(a_claim("w-2", 2), leaving=True)

    assert deal(first, second, jobs=4) == {"w-1": (0,), "w-2": (2,)}
    assert wanted(first, second, jobs=4) == {}


@pytest.mark.parametrize("kept", [(), (0,)])
def test_nobody_gets_a_topic_that_it_does_not_read_any_more(kept: tuple[int, ...]) -> None:
    former = replace(a_claim("w-1", 0, kept=kept), topics=frozenset({"other"}))

    assert deal(former, a_newcomer("w-2"), jobs=1) == {"w-1": (), "w-2": (0,)}
    assert deal(former, jobs=1) == {"w-1": ()}


def test_claims_of_what_is_not_there_are_passed_over() -> None:
    confused = Claim(
        incarnation="w-1",
        topics=frozenset({"jobs", "gone"}),
        generation=7,
        owned={"jobs": frozenset({-1, 1, 99}), "gone": frozenset({0})},
        kept={"jobs": frozenset({-1, 0, 99}), "else": frozenset({3})},
    )

    assert deal(confused, a_newcomer("w-2"), jobs=2) == {"w-1": (1,), "w-2": (0,)}


# For all claims, however wild.

names = st.sampled_from(["w-1.a", "w-1.b", "w-2.a", "w-3.a", "w-4.a"])
topics = st.frozensets(st.sampled_from([*TIERS, "gone"]))
numbers = st.frozensets(st.integers(-1, 9), max_size=8)
places = st.dictionaries(st.sampled_from([*TIERS, "gone"]), numbers)
counts = st.fixed_dictionaries(dict.fromkeys(TIERS, st.integers(0, 9)))
wild_claims = st.dictionaries(
    st.sampled_from(["id-1", "id-2", "id-3", "id-4", "id-5", "id-6"]),
    st.builds(
        Claim,
        incarnation=names,
        topics=topics,
        generation=st.integers(-1, 3),
        owned=places,
        kept=places,
        leaving=st.booleans(),
    ),
)


@settings(max_examples=250, deadline=None)
@given(wild_claims, counts)
def test_any_claims_give_every_partition_one_owner_who_may_have_it(
    claims: dict[str, Claim], counts: dict[str, int]
) -> None:
    portions = assign(claims, counts)

    assert portions.keys() == claims.keys()
    check_owned_once(claims, counts, portions)
    check_kept(claims, portions)
    check_evenness_of_what_is_meant(claims, portions)


@settings(max_examples=100, deadline=None)
@given(wild_claims, counts, st.randoms(use_true_random=False))
def test_the_order_in_which_members_are_named_changes_nothing(
    claims: dict[str, Claim], counts: dict[str, int], dice: Random
) -> None:
    shuffled = dict(sorted(claims.items(), key=lambda _: dice.random()))
    counts_reversed = dict(reversed(counts.items()))

    assert assign(shuffled, counts_reversed) == assign(claims, counts)


@settings(max_examples=200, deadline=None)
@given(wild_claims, counts)
def test_two_rounds_settle_a_group_and_then_nothing_moves(
    claims: dict[str, Claim], counts: dict[str, int]
) -> None:
    second = next_claims(claims, assign(claims, counts), 10)
    third = next_claims(second, assign(second, counts), 11)

    portions = assign(third, counts)

    assert not any(portion.wanted for portion in portions.values())
    check_totals(third, portions)
    assert next_claims(third, portions, 11) == third


@settings(max_examples=200, deadline=None)
@given(
    members=st.permutations([f"w-{n}" for n in range(1, 8)]).flatmap(
        lambda order: st.integers(1, 7).map(lambda size: order[:size])
    ),
    count=st.integers(0, 25),
    newcomer=st.sampled_from(["w-0", "w-3x", "w-9"]),
)
def test_a_join_moves_a_fair_share_to_the_newcomer_and_a_leave_gives_just_that_back(
    members: list[str], count: int, newcomer: str
) -> None:
    few = settled(members, count)
    before = owners(assign(few, {"jobs": count}))
    more = few | {newcomer: a_newcomer(newcomer)}

    joined = assign(more, {"jobs": count})

    after = owners(joined)
    moved = {place for place in before if after[place] != before[place]}
    assert len(moved) <= -(-count // len(more))
    assert {after[place] for place in moved} <= {newcomer}

    left = next_claims(more, joined, 3)
    del left[newcomer]

    again = owners(assign(left, {"jobs": count}))
    assert {place for place in after if again[place] != after[place]} == {
        place for place, owner in after.items() if owner == newcomer
    }


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), counts)
def test_a_join_moves_little_in_a_group_of_several_topics(
    size: int, counts: dict[str, int]
) -> None:
    start = {f"w-{n}": a_newcomer(f"w-{n}", TIERS) for n in range(size)}
    before = assign(start, counts)
    claims = next_claims(start, before, 1) | {"w-x": a_newcomer("w-x", TIERS)}

    portions = assign(claims, counts)

    had, has = owners(before), owners(portions)
    moved = Counter(topic for topic, number in had if has[topic, number] != had[topic, number])
    # A left-over of one topic may have to go on, so that the totals stay even.
    for topic, count in counts.items():
        assert moved[topic] <= -(-count // (size + 1)) + 1
    assert moved.total() <= totals(portions)["w-x"] + 1


def settled(members: Iterable[str], count: int) -> dict[str, Claim]:
    """A group that grew one by one, all handed over."""
    claims: dict[str, Claim] = {}
    for member in members:
        claims[member] = a_newcomer(member)
        claims = next_claims(claims, assign(claims, {"jobs": count}), 2)
    return claims


# What holds of every assignment.


def totals(portions: Mapping[str, Portion]) -> dict[str, int]:
    return {m: sum(map(len, portion.partitions.values())) for m, portion in portions.items()}


def rightful(claims: Mapping[str, Claim]) -> dict[tuple[str, int], str]:
    """Place → who has it, of several the one of the highest generation (and name, and id)."""
    ranked = sorted(claims, key=lambda m: (claims[m].generation, claims[m].incarnation, m))
    return {
        (topic, number): member
        for member in ranked
        for topic, numbers in claims[member].owned.items()
        for number in numbers
    }


def readers(claims: Mapping[str, Claim], topic: str) -> list[str]:
    return [m for m in claims if topic in claims[m].topics and not claims[m].leaving]


def check_owned_once(
    claims: Mapping[str, Claim], counts: Mapping[str, int], portions: Mapping[str, Portion]
) -> None:
    found = owners(portions)
    for (topic, number), owner in found.items():
        assert 0 <= number < counts[topic]
        assert topic in claims[owner].topics
    for topic, count in counts.items():
        if readers(claims, topic):
            assert {number for t, number in found if t == topic} == set(range(count))
    for portion in portions.values():
        assert all(numbers == tuple(sorted(numbers)) for numbers in portion.partitions.values())
        assert all(portion.partitions.values())


def check_kept(claims: Mapping[str, Claim], portions: Mapping[str, Portion]) -> None:
    """What is not handed over stays; nothing else is wanted, or left to one who leaves."""
    rights, found = rightful(claims), owners(portions)
    for (topic, number), owner in rights.items():
        is_kept = number in claims[owner].kept.get(topic, ())
        if is_kept and (topic, number) in found and topic in claims[owner].topics:
            assert found[topic, number] == owner
    for member, portion in portions.items():
        for topic, numbers in portion.wanted.items():
            assert set(numbers) <= claims[member].kept[topic] & set(portion.partitions[topic])
        if claims[member].leaving:
            for topic, numbers in portion.partitions.items():
                assert {rights.get((topic, number)) for number in numbers} == {member}
                if readers(claims, topic):
                    assert portion.wanted[topic] == numbers


def check_evenness_of_what_is_meant(
    claims: Mapping[str, Claim], portions: Mapping[str, Portion]
) -> None:
    """Without what is wanted nobody has more than a fair share, and only that is missing."""
    for topic in TIERS:
        fair = readers(claims, topic)
        everything = sum(len(portion.partitions.get(topic, ())) for portion in portions.values())
        for member in fair:
            portion = portions[member]
            own = len(portion.partitions.get(topic, ())) - len(portion.wanted.get(topic, ()))
            waiting = sum(len(p.wanted.get(topic, ())) for p in portions.values())
            assert everything // len(fair) - waiting <= own <= -(-everything // len(fair))


def check_totals(claims: Mapping[str, Claim], portions: Mapping[str, Portion]) -> None:
    """Of members that read the same, none has two more than another; nor of any one topic."""
    found = totals(portions)
    alike: dict[frozenset[str], list[int]] = {}
    for member, claim in claims.items():
        if not claim.leaving:
            alike.setdefault(claim.topics & frozenset(TIERS), []).append(found[member])
    for sizes in alike.values():
        assert max(sizes) - min(sizes) <= 1
    for topic in TIERS:
        fair = [len(portions[m].partitions.get(topic, ())) for m in readers(claims, topic)]
        assert not fair or max(fair) - min(fair) <= 1


# A group over its whole life.


@dataclass
class Process:
    """One process, as it sees itself."""

    claim: Claim
    is_stuck: bool = False
    """Its commits are not acknowledged."""


class Group(RuleBasedStateMachine):
    """Processes that join, leave, die, freeze and fail to commit; whoever leads deals alike."""

    @initialize(counts=counts)
    def start(self, counts: dict[str, int]) -> None:
        self.counts = counts
        self.generation = 0
        self.born = 0
        self.members: dict[str, Process] = {}
        self.frozen: dict[str, Process] = {}
        self.dealt: dict[str, Claim] = {}
        """The claims of the last round."""
        self.portions: Mapping[str, Portion] = {}

    @rule(slot=st.integers(1, 4), topics=st.sampled_from([TIERS, TIERS, TIERS[:2]]))
    def join(self, slot: int, topics: tuple[str, ...]) -> None:
        self.born += 1
        incarnation = f"w-{slot}.{self.born:08x}"
        self.members[f"id-{-self.born}"] = Process(a_newcomer(incarnation, topics))

    def pick(self, data: st.DataObject, group: Mapping[str, Process]) -> str:
        return data.draw(st.sampled_from(sorted(group)))

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        process = self.members[self.pick(data, self.members)]
        process.claim = replace(process.claim, leaving=True)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        del self.members[self.pick(data, self.members)]

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def freeze(self, data: st.DataObject) -> None:
        member = self.pick(data, self.members)
        self.frozen[member] = self.members.pop(member)
        # Whoever is evicted cannot commit: what it believes to own is not handed over.
        self.frozen[member].is_stuck = True

    @precondition(lambda self: self.frozen)
    @rule(data=st.data())
    def thaw(self, data: st.DataObject) -> None:
        member = self.pick(data, self.frozen)
        self.members[member] = self.frozen.pop(member)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def get_stuck_or_recover(self, data: st.DataObject) -> None:
        process = self.members[self.pick(data, self.members)]
        process.is_stuck = not process.is_stuck

    @rule(data=st.data())
    def rebalance(self, data: st.DataObject) -> None:
        """Some may miss the assignment: they claim next time what they had before."""
        missed = data.draw(st.sets(st.sampled_from(sorted(self.members)))) if self.members else ()
        self.round(missed)

    def round(self, missed: Iterable[str] = ()) -> None:
        for process in self.members.values():
            self.revoke(process)
        self.generation += 1
        self.dealt = {member: process.claim for member, process in self.members.items()}
        self.portions = assign(self.dealt, self.counts)
        for member in self.members.keys() - set(missed):
            owned = owned_by(self.portions[member])
            claim = replace(self.dealt[member], generation=self.generation, owned=owned, kept={})
            self.members[member].claim = claim
        self.see_off()

    def revoke(self, process: Process) -> None:
        kept = process.claim.owned if process.is_stuck else {}
        process.claim = replace(process.claim, kept=kept)

    def see_off(self) -> None:
        """Who leaves is gone once it has nothing left to hand over."""
        for member, process in list(self.members.items()):
            if process.claim.leaving and not any(process.claim.owned.values()):
                del self.members[member]

    @rule()
    def recover_and_settle(self) -> None:
        """Once all commits work, a round hands over all that is wanted, and the next nothing."""
        for process in self.members.values():
            process.is_stuck = False
        self.round()
        assert not any(portion.wanted for portion in self.portions.values())
        check_totals(self.dealt, self.portions)
        settled = self.owned()
        self.round()
        assert self.owned() == settled

    def owned(self) -> dict[str, Mapping[str, frozenset[int]]]:
        return {member: process.claim.owned for member, process in self.members.items()}

    @invariant()
    def every_partition_has_one_owner(self) -> None:
        check_owned_once(self.dealt, self.counts, self.portions)

    @invariant()
    def nothing_moves_that_is_not_handed_over(self) -> None:
        check_kept(self.dealt, self.portions)

    @invariant()
    def what_can_be_even_is_even(self) -> None:
        check_evenness_of_what_is_meant(self.dealt, self.portions)

    @invariant()
    def who_has_not_too_much_loses_nothing(self) -> None:
        """A member keeps what it owns up to its share of the topic."""
        rights = rightful(self.dealt)
        for member, claim in self.dealt.items():
            for topic in claim.topics if not claim.leaving else ():
                mine = {n for n in range(self.counts[topic]) if rights.get((topic, n)) == member}
                has = set(self.portions[member].partitions.get(topic, ()))
                fair = self.counts[topic] // len(readers(self.dealt, topic))
                assert len(mine & has) >= min(len(mine), fair)
                assert mine <= has or has <= mine


Group.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestGroup = Group.TestCase
