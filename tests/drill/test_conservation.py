"""The account of a drill: each planted violation is named, and nothing else is."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final, Literal

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from outlast.drill.conservation import (
    Account,
    Allowance,
    Dump,
    End,
    Letter,
    Open,
    Published,
    Rule,
    check,
)
from outlast.drill.dump import calls_of
from outlast.drill.simulator.counters import Tally
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Origin
from outlast_schemas.result import Status

S, D, X, C = Status.SUCCEEDED, Status.DEAD_LETTERED, Status.EXPIRED, Status.CANCELLED
ALL_FORGIVEN: Final = Allowance(extra_calls=99, repeats=99)


def at(offset: int, topic: str = "outlast.results", partition: int = 0) -> Origin:
    return Origin(topic, partition, offset, 0)


def end(job_id: str, status: Status = S, offset: int = 0, run: int = 0, **more: object) -> End:
    provider = "p" if status is S else None
    fields = {"calls": 1, "charged": 0, "provider": provider, "place": at(offset), **more}
    return End(job_id=job_id, replays=run, status=status, **fields)  # type: ignore[arg-type]


def letter(
    job_id: str, reason: Reason = Reason.JOB_REJECTED, offset: int = 0, run: int = 0, calls: int = 1
) -> Letter:
    place = at(offset, "outlast.dead-letters")
    return Letter(job_id=job_id, replays=run, reason=reason, calls=calls, place=place)


def open_(job_id: str, offset: int = 0, run: int = 0, hop: int = 1, calls: int = 0) -> Open:
    topic = "outlast.work.p" if hop else "outlast.jobs"
    return Open(job_id=job_id, replays=run, hop=hop, calls=calls, place=at(offset, topic))


PUBLISHED: Final = Published(
    acked=frozenset(("served", "again", "late", "stopped", "waiting", "twice")),
    unknown=frozenset(("landed", "sunk")),
    failed=frozenset(("refused",)),
)
CLEAN: Final = Dump(
    accepted={
        **dict.fromkeys(("served", "again", "late", "stopped", "waiting", "landed"), 1),
        "twice": 2,
    },
    replayed={("again", 1): 1},
    ends=(
        end("served", offset=1),
        end("again", D, offset=2),
        end("again", offset=3, run=1),
        end("late", X, offset=4, calls=0),
        end("stopped", C, offset=5, calls=0),
        end("landed", offset=6, calls=2),
    ),
    letters=(
        letter("again", offset=1),
        letter("late", Reason.DEADLINE, offset=2, calls=0),
        letter("served", Reason.CONFLICT, offset=3, calls=0),
    ),
    open=(open_("waiting", calls=3), open_("twice", 1, hop=0), open_("twice", 2, hop=0)),
)
"""Every kind of life there is without a fault: two bodies under one id and two copies included."""
CALLS: Final = {
    "p": {"served": 1, "again": 2, "waiting": 3, "landed": 1},
    "q": {"landed": 1, "waiting": 0},
}


def account(
    *,
    published: Published = PUBLISHED,
    dump: Dump = CLEAN,
    calls: Mapping[str, Mapping[str, int]] = CALLS,
    allowance: Allowance = ALL_FORGIVEN,
) -> Account:
    return check(published, dump, calls, allowance)


def named(found: Account) -> set[tuple[Rule, str, int]]:
    return {(each.rule, each.job_id, each.count) for each in found.offenders}


def without(job_id: str) -> Dump:
    """The clean dump, but for what became of one job."""
    return replace(
        CLEAN,
        ends=tuple(each for each in CLEAN.ends if each.job_id != job_id),
        letters=tuple(each for each in CLEAN.letters if each.job_id != job_id),
        open=tuple(each for each in CLEAN.open if each.job_id != job_id),
    )


def with_(*more: End | Letter | Open, dump: Dump = CLEAN, accepted: Iterable[str] = ()) -> Dump:
    """Records beyond those of the dump."""
    return replace(
        dump,
        accepted={**dump.accepted, **dict.fromkeys(accepted, 1)},
        ends=(*dump.ends, *(each for each in more if isinstance(each, End))),
        letters=(*dump.letters, *(each for each in more if isinstance(each, Letter))),
        open=(*dump.open, *(each for each in more if isinstance(each, Open))),
    )


# --- nothing to say ---------------------------------------------------------------------------


def test_a_clean_drill_holds_without_any_allowance() -> None:
    found = account(allowance=Allowance())

    assert found.offenders == ()
    assert found.holds
    assert (found.acked, found.unknown, found.landed, found.failed) == (6, 2, 1, 1)
    assert found.ended == {S: 3, D: 1, X: 1, C: 1}
    assert (found.terminal, found.open, found.lost) == (6, 2, 0)
    assert (found.contradicted, found.repeats) == (0, 0)
    assert (found.calls, found.extra_calls) == (8, 0)


def test_nothing_at_all_holds() -> None:
    found = check(Published(), Dump(), {}, Allowance())

    assert found.holds
    assert found.terminal == found.open == found.acked == 0


def test_an_id_counts_by_the_best_that_its_publisher_learnt() -> None:
    learnt_twice = replace(
        PUBLISHED,
        unknown=PUBLISHED.unknown | {"served"},
        failed=PUBLISHED.failed | {"served", "landed"},
    )

    found = account(published=learnt_twice, allowance=Allowance())

    assert found.holds
    assert (found.acked, found.unknown, found.failed) == (6, 2, 1)


# --- what no fault excuses --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dump", "expected"),
    [
        # nothing of it is left but the record that route has done
        (without("served"), (Rule.LOST, "served", 1)),
        # not even that: the broker acknowledged it and has it no more
        (
            replace(without("waiting"), accepted={"served": 1, "twice": 2}),
            (Rule.LOST, "waiting", 1),
        ),
        # nobody knew whether it landed; it did, and is gone
        (with_(accepted=["sunk"]), (Rule.LOST, "sunk", 1)),
        # the first run ended well; the replay's has vanished
        (
            replace(CLEAN, ends=tuple(each for each in CLEAN.ends if each.replays == 0)),
            (Rule.LOST, "again", 1),
        ),
        # a conflict's dead letter belongs to another body
        (
            with_(letter("served", Reason.CONFLICT), dump=without("served")),
            (Rule.LOST, "served", 1),
        ),
        # nowhere
        (with_(end("strange", calls=0)), (Rule.UNKNOWN_ID, "strange", 1)),
        (with_(open_("strange")), (Rule.UNKNOWN_ID, "strange", 1)),
        (with_(letter("strange")), (Rule.UNKNOWN_ID, "strange", 1)),
        (with_(letter("strange", Reason.CONFLICT)), (Rule.UNKNOWN_ID, "strange", 1)),
        (with_(accepted=["strange"]), (Rule.UNKNOWN_ID, "strange", 1)),
        (
            replace(CLEAN, replayed={**CLEAN.replayed, ("strange", 1): 1}),
            (Rule.UNKNOWN_ID, "strange", 1),
        ),
        # refused
        (with_(end("refused")), (Rule.REFUSED, "refused", 1)),
        (with_(open_("refused")), (Rule.REFUSED, "refused", 1)),
        (with_(accepted=["refused"]), (Rule.REFUSED, "refused", 1)),
        # neither result nor dead letter
        (replace(CLEAN, foreign=(at(9),)), (Rule.FOREIGN, "no job", 1)),
        # a later result tells another story
        (
            with_(end("again", S, offset=9)),
            (Rule.CONTRADICTED, "again", 1),
        ),
        (with_(end("late", D, offset=9), letter("late")), (Rule.CONTRADICTED, "late", 1)),
        (
            with_(end("stopped", D, 8), end("stopped", D, 9), letter("stopped")),
            (Rule.CONTRADICTED, "stopped", 2),
        ),
        # two readers see two firsts
        (
            with_(end("served", offset=0, place=at(0, "outlast.results.west"))),
            (Rule.SCATTERED, "served", 1),
        ),
        (with_(end("served", place=at(0, partition=1))), (Rule.SCATTERED, "served", 1)),
        # dead letters and results go together
        (
            replace(CLEAN, letters=tuple(each for each in CLEAN.letters if each.job_id != "again")),
            (Rule.NO_LETTER, "again", 1),
        ),
        (
            replace(CLEAN, letters=tuple(each for each in CLEAN.letters if each.job_id != "late")),
            (Rule.NO_LETTER, "late", 1),
        ),
        # one that belongs to another end will not do
        (
            with_(
                *(end("again", D), end("again", offset=1, run=1)),
                letter("again", Reason.DEADLINE),
                dump=without("again"),
            ),
            (Rule.NO_LETTER, "again", 1),
        ),
        (with_(letter("waiting"), dump=without("waiting")), (Rule.NO_RESULT, "waiting", 1)),
        (
            with_(letter("waiting", Reason.DEADLINE), dump=without("waiting")),
            (Rule.NO_RESULT, "waiting", 1),
        ),
        # limits: in a result, in an open record, in a dead letter
        (with_(end("sunk", C, calls=41)), (Rule.TOO_MANY_CALLS, "sunk", 1)),
        (with_(open_("sunk", calls=42)), (Rule.TOO_MANY_CALLS, "sunk", 2)),
        (
            with_(letter("waiting", calls=41)),
            (Rule.TOO_MANY_CALLS, "waiting", 1),
        ),
        (with_(end("sunk", C, charged=9)), (Rule.TOO_MANY_CHARGED, "sunk", 1)),
        # answers from nowhere
        (with_(end("sunk")), (Rule.UNSEEN, "sunk", 1)),
        (with_(end("served", offset=9, provider="q")), (Rule.UNSEEN, "served", 1)),
        (
            with_(end("waiting", offset=9, provider="q"), dump=without("waiting")),
            (Rule.UNSEEN, "waiting", 1),
        ),
        (with_(end("served", offset=9, provider=None)), (Rule.UNSEEN, "served", 1)),
    ],
)
def test_what_no_fault_excuses_is_named_whatever_is_allowed(
    dump: Dump, expected: tuple[Rule, str, int]
) -> None:
    found = account(dump=dump)

    assert named(found) == {expected}
    assert not found.holds


def test_lost_and_contradicted_are_counted() -> None:
    gone = without("served")
    found = account(
        dump=with_(end("stopped", S, 8), end("stopped", D, 9), letter("stopped"), dump=gone)
    )

    assert (found.lost, found.contradicted, found.repeated) == (1, 2, 0)


def test_limits_are_those_of_the_scenario_and_reached_they_are_not_passed() -> None:
    most = with_(end("sunk", C, calls=3, charged=2))

    def within(calls: int, charged: int) -> set[tuple[Rule, str, int]]:
        return named(account(dump=most, allowance=Allowance(max_calls=calls, max_charged=charged)))

    assert within(3, 2) == set()
    assert within(2, 2) == {
        *((Rule.TOO_MANY_CALLS, each, 1) for each in ("sunk", "waiting")),
    }
    assert within(3, 1) == {(Rule.TOO_MANY_CHARGED, "sunk", 1)}


def test_a_provider_that_nobody_asked_bears_no_witness() -> None:
    found = account(calls={"p": CALLS["p"]}, dump=with_(end("sunk", provider="q")))

    assert found.holds


# --- what faults excuse, up to a number -------------------------------------------------------


@pytest.mark.parametrize(
    ("dump", "expected"),
    [
        # results
        (with_(end("served", offset=9)), (Rule.REPEATED, "served", 1)),
        (with_(end("served", offset=8), end("served", offset=9)), (Rule.REPEATED, "served", 2)),
        (with_(end("again", D, 9), letter("again", offset=9)), (Rule.REPEATED, "again", 1)),
        (with_(end("again", S, 9, run=1)), (Rule.REPEATED, "again", 1)),
        # once served, whatever follows is dropped
        (
            with_(end("served", X, 9), letter("served", Reason.DEADLINE)),
            (Rule.REPEATED, "served", 1),
        ),
        (with_(end("served", C, 9)), (Rule.REPEATED, "served", 1)),
        # open records
        (with_(open_("served", calls=1)), (Rule.OPEN_TWICE, "served", 1)),
        (with_(open_("served", hop=0)), (Rule.OPEN_TWICE, "served", 1)),
        (with_(open_("waiting", 9)), (Rule.OPEN_TWICE, "waiting", 1)),
        (with_(open_("twice", 9)), (Rule.OPEN_TWICE, "twice", 1)),
        (with_(open_("twice", 9, hop=0)), (Rule.OPEN_TWICE, "twice", 1)),
        (with_(open_("again", run=1, hop=0)), (Rule.OPEN_TWICE, "again", 1)),
        # dead letters
        (with_(letter("again", offset=9)), (Rule.SPARE_LETTER, "again", 1)),
        (with_(letter("again", Reason.DEADLINE, 9)), (Rule.SPARE_LETTER, "again", 1)),
        (with_(letter("late", Reason.DEADLINE, 9)), (Rule.SPARE_LETTER, "late", 1)),
        (with_(letter("served", offset=9)), (Rule.SPARE_LETTER, "served", 1)),
        (with_(letter("waiting", offset=9)), (Rule.SPARE_LETTER, "waiting", 1)),
    ],
)
def test_what_a_crash_repeats_is_named_beyond_what_is_allowed(
    dump: Dump, expected: tuple[Rule, str, int]
) -> None:
    times = expected[2]

    exceeded = account(dump=dump, allowance=Allowance(extra_calls=99, repeats=times - 1))
    allowed = account(dump=dump, allowance=Allowance(extra_calls=99, repeats=times))

    assert named(exceeded) == {expected}
    assert allowed.holds
    assert allowed.repeats == exceeded.repeats == times


def test_all_kinds_of_repeats_share_one_bound_and_are_counted_apart() -> None:
    dump = with_(end("served", offset=9), open_("landed"), letter("again", offset=9))

    exceeded = account(dump=dump, allowance=Allowance(repeats=2))

    assert named(exceeded) == {
        (Rule.REPEATED, "served", 1),
        (Rule.OPEN_TWICE, "landed", 1),
        (Rule.SPARE_LETTER, "again", 1),
    }
    assert (exceeded.repeated, exceeded.open_twice, exceeded.spare_letters) == (1, 1, 1)
    assert account(dump=dump, allowance=Allowance(repeats=3)).holds


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"served": 2}, (Rule.EXTRA_CALLS, "served", 1)),
        # the other provider saw it once, and two are told
        ({"landed": 4}, (Rule.EXTRA_CALLS, "landed", 3)),
        # two runs of one call each
        ({"again": 4}, (Rule.EXTRA_CALLS, "again", 2)),
        # it is open, and its record tells of three
        ({"waiting": 4}, (Rule.EXTRA_CALLS, "waiting", 1)),
        ({"late": 1}, (Rule.EXTRA_CALLS, "late", 1)),
        # no record tells of any
        ({"sunk": 2}, (Rule.EXTRA_CALLS, "sunk", 2)),
        ({"refused": 1}, (Rule.EXTRA_CALLS, "refused", 1)),
        ({"strange": 1}, (Rule.EXTRA_CALLS, "strange", 1)),
    ],
)
def test_calls_that_no_record_tells_of_are_named_beyond_what_is_allowed(
    seen: Mapping[str, int], expected: tuple[Rule, str, int]
) -> None:
    calls = {**CALLS, "p": {**CALLS["p"], **seen}}
    extra = expected[2]

    exceeded = account(calls=calls, allowance=Allowance(extra_calls=extra - 1))
    allowed = account(calls=calls, allowance=Allowance(extra_calls=extra))

    assert named(exceeded) == {expected}
    assert exceeded.extra_calls == allowed.extra_calls == extra
    assert allowed.holds


def test_calls_beyond_the_visible_result_are_extra_though_a_repeat_tells_of_them() -> None:
    calls = {**CALLS, "p": {**CALLS["p"], "served": 2}}

    found = account(calls=calls, dump=with_(end("served", offset=9, calls=2)))

    assert (found.extra_calls, found.repeated) == (1, 1)


def test_fewer_calls_seen_than_told_are_no_matter() -> None:
    """A connection that was refused is told as a call, and nobody saw it."""
    calls = {**CALLS, "p": {**CALLS["p"], "waiting": 0}}

    found = account(calls=calls, allowance=Allowance())

    assert found.holds
    assert found.extra_calls == 0


def test_the_first_result_is_the_one_with_the_lowest_offset_however_they_were_read() -> None:
    first, second = end("served", S, offset=1), end("served", X, offset=7)
    beside = letter("served", Reason.DEADLINE)

    for ends in ((first, second), (second, first)):
        found = account(
            dump=replace(
                with_(beside, dump=without("served")), ends=(*ends, *without("served").ends)
            )
        )

        assert (found.repeated, found.contradicted) == (1, 0)
        assert found.ended[S] == 3


# --- the report -------------------------------------------------------------------------------


def test_an_offender_is_told_with_the_rule_and_the_places() -> None:
    found = account(dump=with_(end("served", offset=9)), allowance=Allowance())

    assert found.lines() == [
        "published: 6 acked, 2 unknown (1 landed), 1 failed",
        "runs: 6 ended (3 succeeded, 1 dead_lettered, 1 expired, 1 cancelled), 2 open, 0 lost",
        "repeats: 1 results, 0 open records, 0 dead letters; allowed 0; "
        "0 results differ from the first",
        "calls: 8 seen, 0 extra; allowed 0",
        "served: more than one result (run 0: 1 in jobs, "
        "succeeded after 1 calls at outlast.results/0/1, "
        "succeeded after 1 calls at outlast.results/0/9)",
    ]


def test_a_stranger_and_an_extra_call_are_told_with_what_was_seen() -> None:
    calls = {"p": {**CALLS["p"], "landed": 2}, "q": {"landed": 1}}

    found = account(
        dump=with_(letter("strange", Reason.CONFLICT, 8), accepted=["strange"]),
        calls=calls,
        allowance=Allowance(),
    )

    assert [each.evidence for each in found.offenders] == [
        "1 in jobs, outlast.dead-letters/0/8",
        "p 2, q 1 calls seen, 2 told",
    ]


def test_twenty_offenders_are_listed_and_the_others_counted() -> None:
    def lines(lost: int) -> list[str]:
        published = Published(acked=frozenset(f"job-{each:02}" for each in range(lost)))
        return check(published, Dump(), {}, Allowance()).lines()[4:]

    listed = [
        f"job-{each:02}: accepted, and neither ended nor open (run 0: 0 in jobs)"
        for each in range(22)
    ]
    assert lines(20) == listed[:20]
    assert lines(22) == [*listed[:20], "and 2 more"]


# --- histories of a tiny queue that knows what it did wrong -----------------------------------

Fate = Literal["acked", "acked twice", "landed", "sunk", "refused", "refused yet there", "strange"]
PUBLISHED_TIMES: Final = {"acked twice": 2, "sunk": 0, "refused": 0}
LETTERED: Final = {D: Reason.JOB_REJECTED, X: Reason.DEADLINE}
Bag = frozenset[int]
"""Calls, each with a number of its own."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Somebody takes an open record of a job, may call for it, and does something with it.

    ``crash``: no record is written after the call, or no result after the dead letter, or all is
    written but the record that was taken is not done. An answer without a call is made up.
    """

    job: int
    record: int
    calls: Literal["p", "q"] | None
    does: Literal["hop", "vanish", "replay"] | Status
    crash: Literal["after the call", "after the letter", "before done"] | None


@dataclass(eq=False)
class Token:
    """An open record, and the calls it tells of."""

    hop: int
    told: Bag


@dataclass
class Story:
    """One run as it really was: ``heard`` are the calls that its first result tells of."""

    job_id: str
    run: int
    began: int
    tokens: list[Token]
    asides: list[Bag] = field(default_factory=list)
    orphans: int = 0
    first: Status | None = None
    heard: Bag = frozenset()
    repeated: int = 0
    contradicted: int = 0
    made_up: int = 0
    unlettered: set[Status] = field(default_factory=set)

    @property
    def spare_tokens(self) -> int:
        doors = sum(token.hop == 0 for token in self.tokens)
        beside = len(self.tokens) - min(doors, self.began - 1)
        return max(0, beside - (self.first is None))

    @property
    def visible(self) -> Bag:
        if self.first is not None:
            return self.heard
        return max((*(token.told for token in self.tokens), *self.asides), key=len, default=Bag())

    def wrongs(self) -> Mapping[Rule, int]:
        nowhere = self.first is None and not self.tokens
        return {
            Rule.LOST: nowhere and not self.asides,
            Rule.NO_RESULT: nowhere and bool(self.asides),
            Rule.NO_LETTER: len(self.unlettered),
            Rule.CONTRADICTED: self.contradicted,
        }

    def repeats(self) -> Mapping[Rule, int]:
        nowhere = self.first is None and not self.tokens
        return {
            Rule.REPEATED: self.repeated,
            Rule.OPEN_TWICE: self.spare_tokens,
            Rule.SPARE_LETTER: 0 if nowhere else self.orphans,
        }


class Queue:
    """Does what it is told, writes what it should, and remembers what really happened.

    The jobs in ``forgetful`` write no dead letters.
    """

    def __init__(self, fates: Mapping[str, Fate], forgetful: frozenset[str]) -> None:
        self.fates, self.forgetful = fates, forgetful
        self.number = count()
        self.stories: dict[str, list[Story]] = {}
        self.made: dict[str, set[int]] = {job_id: set() for job_id in fates}
        self.seen: dict[str, Counter[str]] = {"p": Counter(), "q": Counter()}
        self.ends: list[End] = []
        self.letters: list[Letter] = []
        for job_id, fate in fates.items():
            if times := PUBLISHED_TIMES.get(fate, 1):
                doors = [Token(0, Bag()) for _ in range(times)]
                self.stories[job_id] = [Story(job_id, 0, times, doors)]

    def take(self, step: Step) -> None:
        runs = self.stories.get(f"job-{step.job}", [])
        if step.does == "replay":
            if runs and runs[-1].first in LETTERED:
                runs.append(Story(runs[-1].job_id, runs[-1].run + 1, 1, [Token(0, Bag())]))
            return
        taken = [(story, token) for story in runs for token in story.tokens]
        if taken:
            self._run(*taken[step.record % len(taken)], step)

    def _run(self, story: Story, token: Token, step: Step) -> None:
        told = token.told | self._call(story.job_id, step.calls)
        if step.crash == "after the call":
            return
        if step.does == "hop":
            story.tokens.append(Token(token.hop + 1, told))
        elif isinstance(step.does, Status) and not self._ended(story, told, step.does, step):
            return
        if step.crash != "before done":
            story.tokens.remove(token)

    def _call(self, job_id: str, provider: str | None) -> Bag:
        if provider is None:
            return Bag()
        made = next(self.number)
        self.made[job_id].add(made)
        self.seen[provider][job_id] += 1
        return Bag({made})

    def _ended(self, story: Story, told: Bag, status: Status, step: Step) -> bool:
        """Whether it came as far as the result."""
        offset, job_id, run = next(self.number), story.job_id, story.run
        if status in LETTERED and job_id not in self.forgetful:
            self.letters.append(letter(job_id, LETTERED[status], offset, run, len(told)))
            story.asides.append(told)
            if step.crash == "after the letter":
                story.orphans += 1
                return False
        elif status in LETTERED:
            story.unlettered.add(status)
        provider = (step.calls or "p") if status is S else None
        ended = end(job_id, status, offset, run, calls=len(told), provider=provider)
        self.ends.append(ended)
        if story.first is None:
            story.first, story.heard = status, told
        elif story.first is not S and story.first is not status:
            story.contradicted += 1
        else:
            story.repeated += 1
        return True

    # what the checker is told

    def published(self) -> Published:
        def those(*fates: Fate) -> frozenset[str]:
            return frozenset(name for name, fate in self.fates.items() if fate in fates)

        return Published(
            acked=those("acked", "acked twice"),
            unknown=those("landed", "sunk"),
            failed=those("refused", "refused yet there"),
        )

    def dump(self) -> Dump:
        stories = [story for runs in self.stories.values() for story in runs]
        return Dump(
            accepted={each.job_id: each.began for each in stories if each.run == 0},
            replayed={(each.job_id, each.run): each.began for each in stories if each.run},
            ends=tuple(reversed(self.ends)),
            letters=tuple(self.letters),
            open=tuple(
                open_(each.job_id, next(self.number), each.run, token.hop, len(token.told))
                for each in stories
                for token in each.tokens
            ),
        )

    # what it must find

    def ours(self) -> list[Story]:
        there = self.published().acked | self.published().unknown
        return [story for name in there for story in self.stories.get(name, [])]

    def extra(self) -> Counter[tuple[Rule, str]]:
        """Calls that no visible record tells of."""
        found: Counter[tuple[Rule, str]] = Counter()
        for job_id, made in self.made.items():
            told = {call for story in self.stories.get(job_id, []) for call in story.visible}
            found[Rule.EXTRA_CALLS, job_id] = len(made - told)
        return +found

    def repeats(self) -> Counter[tuple[Rule, str]]:
        return _summed((story.job_id, story.repeats()) for story in self.ours())

    def wrongs(self) -> Counter[tuple[Rule, str]]:
        found = _summed((story.job_id, story.wrongs()) for story in self.ours())
        for job_id, fate in self.fates.items():
            if fate in ("strange", "refused yet there"):
                rule = Rule.UNKNOWN_ID if fate == "strange" else Rule.REFUSED
                found[rule, job_id] = 1
        for each in self.ends:
            if each.provider and not self.seen[each.provider][each.job_id]:
                found[Rule.UNSEEN, each.job_id] += each.job_id in {s.job_id for s in self.ours()}
        return +found


def _summed(told: Iterable[tuple[str, Mapping[Rule, int]]]) -> Counter[tuple[Rule, str]]:
    found: Counter[tuple[Rule, str]] = Counter()
    for job_id, counts in told:
        for rule, number in counts.items():
            found[rule, job_id] += number
    return +found


CAREFUL: Final = st.builds(
    Step,
    job=st.integers(0, 2),
    record=st.integers(0, 3),
    calls=st.sampled_from(("p", "q")),
    does=st.sampled_from(("hop", "replay", S, D, X, C)),
    crash=st.none(),
)
CARELESS: Final = st.builds(
    Step,
    job=st.integers(0, 2),
    record=st.integers(0, 3),
    calls=st.sampled_from(("p", "p", "q", None)),
    does=st.sampled_from(("hop", "hop", "vanish", "replay", S, S, D, X, C)),
    crash=st.sampled_from((None, None, "after the call", "after the letter", "before done")),
)
INNOCENT: Final[tuple[Fate, ...]] = ("acked", "landed", "sunk", "refused")
ALL: Final[tuple[Fate, ...]] = (*INNOCENT, "acked", "acked twice", "refused yet there", "strange")


@st.composite
def histories(draw: st.DrawFn, *, careful: bool = False) -> Queue:
    fates = st.sampled_from(INNOCENT if careful else ALL)
    queue = Queue(
        {f"job-{number}": draw(fates) for number in range(3)},
        frozenset(("job-1",)) if not careful and draw(st.booleans()) else frozenset(),
    )
    for step in draw(st.lists(CAREFUL if careful else CARELESS, min_size=5, max_size=20)):
        queue.take(step)
    return queue


BOUNDS: Final = st.builds(
    Allowance, extra_calls=st.integers(0, 4), repeats=st.integers(0, 4), max_calls=st.just(40)
)


@settings(max_examples=300, deadline=None)
@given(histories(), BOUNDS)
def test_the_account_is_what_really_happened(queue: Queue, allowance: Allowance) -> None:
    wrongs, repeats, extra = queue.wrongs(), queue.repeats(), queue.extra()
    expected = wrongs.copy()
    expected += repeats if repeats.total() > allowance.repeats else Counter()
    expected += extra if extra.total() > allowance.extra_calls else Counter()

    found = check(queue.published(), queue.dump(), queue.seen, allowance)

    assert _told(found) == expected
    assert found.holds is (not expected)
    assert (found.extra_calls, found.repeats) == (extra.total(), repeats.total())
    assert found.ended == Counter(each.first for each in queue.ours() if each.first)
    assert found.open == sum(each.first is None and bool(each.tokens) for each in queue.ours())
    figures = {
        Rule.LOST: found.lost,
        Rule.CONTRADICTED: found.contradicted,
        Rule.REPEATED: found.repeated,
        Rule.OPEN_TWICE: found.open_twice,
        Rule.SPARE_LETTER: found.spare_letters,
    }
    really: Counter[Rule] = Counter()
    for (rule, _), number in (*wrongs.items(), *repeats.items()):
        really[rule] += number
    assert figures == {rule: really[rule] for rule in figures}


def _told(found: Account) -> Counter[tuple[Rule, str]]:
    told: Counter[tuple[Rule, str]] = Counter()
    for each in found.offenders:
        told[each.rule, each.job_id] += each.count
    return told


def test_the_histories_break_every_rule_that_they_know() -> None:
    reached: Counter[Rule] = Counter()

    @settings(max_examples=200, deadline=None, derandomize=True, phases=[Phase.generate])
    @given(histories())
    def look(queue: Queue) -> None:
        told = queue.wrongs() + queue.repeats() + queue.extra()
        reached.update({rule for rule, _ in told})

    look()

    beyond_them = {Rule.FOREIGN, Rule.SCATTERED, Rule.TOO_MANY_CALLS, Rule.TOO_MANY_CHARGED}
    assert reached.keys() == set(Rule) - beyond_them
    assert min(reached.values()) > 1


@settings(deadline=None)
@given(histories(careful=True))
def test_a_queue_that_does_nothing_wrong_is_never_accused(queue: Queue) -> None:
    found = check(queue.published(), queue.dump(), queue.seen, Allowance())

    assert found.offenders == ()
    assert found.terminal == len(queue.ends)


# --- who called for which job -----------------------------------------------------------------


def test_calls_are_told_apart_by_the_text_of_the_last_message() -> None:
    tally = Tally()
    for text in ("hello", "how are you", "hello", "a probe"):
        tally.began(text)
    counted = {"p": tally.read().calls_by_content, "q": Tally().read().calls_by_content}

    calls = calls_of(counted, {"a": "hello", "b": "how are you", "c": "nobody called"})

    assert calls == {"p": {"a": 2, "b": 1}, "q": {}}


def test_jobs_that_look_the_same_to_a_provider_are_refused() -> None:
    with pytest.raises(ValueError, match="same last message"):
        calls_of({}, {"a": "hello", "b": "hello"})
