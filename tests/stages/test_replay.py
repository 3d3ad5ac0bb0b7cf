"""Replay: which dead letters go back to work, and as what."""

from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from outlast.core.lifecycle import Hop, Outgoing
from outlast.ports import EndedRun, Open
from outlast.replay import (
    CONFLICT,
    NOT_WHOLE,
    SERVED,
    UNDER_WAY,
    History,
    Wish,
    look,
    next_run,
    replay,
    select,
)
from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.headers import Headers
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Status
from outlast_schemas.state import State
from outlast_schemas.topics import Topics

ATTEMPT = Attempt(n=1, provider="p", model="m", at=1, ms=2, verdict=VerdictWord.PROVIDER_DOWN)
HEADERS: Headers = (
    ("ce_id", b"a"),
    ("outlast-route", b"chat"),
    ("outlast-deadline", b"2026-01-01T00:00:00Z"),
    ("outlast-ttl-seconds", b"60"),
    ("outlast-replay", b"earlier"),
    ("outlast-reason", b"deadline"),
    ("outlast-detail", b"x"),
    ("outlast-from", b"x/0/0"),
    ("traceparent", b"t"),
    ("tracestate", b"s"),
    ("customer", b"c"),
    ("nothing", None),
)


def letter(
    job_id: str,
    run: int = 0,
    reason: Reason = Reason.JOB_REJECTED,
    offset: int = 0,
    headers: Headers = (),
) -> DeadLetter:
    state = State(
        accepted=1,
        deadline=2,
        route="chat",
        hop=7,
        replays=run,
        target="p/m",
        charged=3,
        calls=4,
        deferrals=5,
        due=6,
        avoid={"p": 1},
        attempts=(ATTEMPT,),
        extra={"later": 1},
    )
    origin = Origin("outlast.dead-letters", 0, offset, 1)
    job = Job(
        id=job_id, body=b'{"x": 1}', headers=headers, state=state, origin=origin, key=b"customer"
    )
    return DeadLetter(job=job, reason=reason, detail="")


def chosen(wish: Wish, letters: Sequence[DeadLetter], history: History) -> list[tuple[str, int]]:
    return [
        (each.job.id, each.job.state.replays) for each in select(wish, letters, history).letters
    ]


POISON, LATE = Reason.POISON, Reason.DEADLINE


@pytest.mark.parametrize(
    ("wish", "letters", "expected"),
    [
        (Wish(), [letter("a"), letter("b")], [("a", 0), ("b", 0)]),
        (Wish(ids=frozenset({"b"})), [letter("a"), letter("b")], [("b", 0)]),
        (Wish(reason=LATE), [letter("a"), letter("b", reason=LATE)], [("b", 0)]),
        (Wish(ids=frozenset({"a"}), reason=LATE), [letter("a")], []),
        # only the latest run's letter, whichever comes first
        (Wish(), [letter("a", 1), letter("a", 0)], [("a", 1)]),
        (Wish(), [letter("a", 0), letter("a", 1)], [("a", 1)]),
        # a crash wrote the letter twice
        (Wish(), [letter("a"), letter("a", offset=1)], [("a", 0)]),
        # the filter looks at the latest letter alone
        (Wish(reason=POISON), [letter("a", 0, POISON), letter("a", 1, LATE)], []),
    ],
)
def test_the_latest_letter_of_each_wanted_id_is_chosen(
    wish: Wish, letters: Sequence[DeadLetter], expected: list[tuple[str, int]]
) -> None:
    assert chosen(wish, letters, History()) == expected


@pytest.mark.parametrize(
    ("the_letter", "succeeded", "accepted", "why"),
    [
        (letter("a", 1), {"a": 1}, {"a": 1}, SERVED),
        (letter("a", 1), {"a": 2}, {"a": 2}, SERVED),
        (letter("a", 1), {"a": 0}, {"a": 1}, None),
        (letter("a", 1), {}, {"a": 2}, UNDER_WAY),
        (letter("a", 1), {}, {"a": 1}, None),
        (letter("a", 1), {"b": 9}, {}, None),
        (letter("a", reason=Reason.TOO_LARGE), {}, {}, NOT_WHOLE),
        (letter("a", reason=Reason.CONFLICT), {}, {}, CONFLICT),
    ],
)
def test_what_is_served_or_runs_again_is_skipped(
    the_letter: DeadLetter,
    succeeded: Mapping[str, int],
    accepted: Mapping[str, int],
    why: str | None,
) -> None:
    history = History(succeeded=succeeded, accepted=accepted)

    selection = select(Wish(), [the_letter], history)

    assert selection.skipped.get("a") == why
    assert bool(selection.letters) is (why is None)


def test_the_letter_of_a_conflict_does_not_hide_the_job_it_took_the_id_of() -> None:
    letters = [letter("a", reason=LATE), letter("a", reason=Reason.CONFLICT, offset=1)]

    for order in (letters, letters[::-1]):
        [found] = select(Wish(), order, History()).letters
        assert found.reason is LATE


def test_ids_without_a_letter_are_told() -> None:
    selection = select(Wish(ids=frozenset({"a", "x"})), [letter("a")], History())

    assert selection.unknown == ("x",)


def test_the_next_run_begins_anew_and_remembers() -> None:
    before = letter("a", run=2, headers=HEADERS).job

    after = next_run(before, "run-1", ttl_seconds=90.5)

    assert (after.id, after.body, after.key) == ("a", before.body, b"customer")
    assert after.headers == (
        ("ce_id", b"a"),
        ("outlast-route", b"chat"),
        ("customer", b"c"),
        ("nothing", None),
        ("outlast-replay", b"run-1"),
        ("outlast-ttl-seconds", b"90.5"),
    )
    state = after.state
    assert (state.replays, state.hop, state.charged, state.calls, state.deferrals) == (
        3,
        0,
        0,
        0,
        0,
    )
    assert (state.due, state.target, state.avoid) == (None, None, {})
    assert (state.attempts, state.extra) == ((ATTEMPT,), {"later": 1})


def test_without_a_ttl_the_route_decides() -> None:
    names = [name for name, _ in next_run(letter("a", headers=HEADERS).job, "run-1").headers]

    assert "outlast-ttl-seconds" not in names
    assert "outlast-deadline" not in names


class Sent:
    """Keeps what was sent."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []

    async def send(self, records: Sequence[Outgoing]) -> None:
        self.records += records


async def test_replay_publishes_each_job_to_the_jobs_topic() -> None:
    sent = Sent()
    letters = [letter(f"job-{number}") for number in range(1_200)]

    count = await replay(letters, Wish(ttl_seconds=5.0), "run-1", sent, Topics())

    assert count == len(sent.records) == 1_200
    hops = [each for each in sent.records if isinstance(each, Hop)]
    assert {each.topic for each in hops} == {"outlast.jobs"}
    assert [each.job.id for each in hops] == [each.job.id for each in letters]


class FakeArchive:
    """A job ``a`` that was replayed and served, ``b`` that was not, ``c`` that runs again."""

    def __init__(self) -> None:
        self.read: list[str] = []

    async def dead_letters(self) -> AsyncIterator[DeadLetter]:
        self.read.append("dead_letters")
        for job_id in "abc":
            yield letter(job_id)

    async def ended(self) -> AsyncIterator[EndedRun]:
        self.read.append("ended")
        yield EndedRun(job_id="a", replays=1, status=Status.SUCCEEDED)
        yield EndedRun(job_id="b", replays=0, status=Status.DEAD_LETTERED)

    async def accepted(self) -> AsyncIterator[Job]:
        self.read.append("accepted")
        for job_id, run in (("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 1)):
            yield letter(job_id, run).job

    async def open(self) -> AsyncIterator[Open]:
        raise AssertionError("replay does not look at what is open")
        yield


async def test_look_reads_the_jobs_topic_last_so_that_no_begun_run_is_missed() -> None:
    archive = FakeArchive()

    selection = await look(archive, Wish())

    assert [each.job.id for each in selection.letters] == ["b"]
    assert selection.skipped == {"a": SERVED, "c": UNDER_WAY}
    assert archive.read == ["dead_letters", "ended", "accepted"]
