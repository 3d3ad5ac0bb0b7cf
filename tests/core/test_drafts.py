"""What is made as a draft is no different from what the constructor makes."""

import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, Final

import pytest

from outlast.core.admission import Terms
from outlast.core.decide import Situation, View, facing
from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.job import Job, Origin
from outlast_schemas.state import State
from tests.core.given import CATALOGUE, CHAT, HOUR, NOW, PRIVATE, a_fleet

ATTEMPT: Final = Attempt(
    n=1,
    provider="deepseek",
    model="flash",
    at=NOW + 1,
    ms=2,
    verdict=VerdictWord.AMBIGUOUS,
    status=504,
    note="HTTP 504",
    request_id="r-1",
    extra={"region": "eu"},
)
STATE: Final = State(
    accepted=NOW,
    deadline=NOW + HOUR,
    route="chat",
    hop=3,
    replays=4,
    target="deepseek/flash",
    charged=5,
    calls=6,
    deferrals=7,
    due=NOW + 8,
    avoid={"openai": NOW + 9},
    attempts=(ATTEMPT,),
    extra={"lane": "batch"},
)
JOB: Final = Job(
    id="job-1",
    body=b"{}",
    headers=(("ce_id", b"job-1"),),
    state=STATE,
    origin=Origin("outlast.parked", 3, 42, NOW),
    key=b"customer-9",
)
VIEW: Final = View(catalogue=CATALOGUE, fleet=a_fleet("openai"), now=NOW + 1, roll=0.25)
LATER: Final = View(
    catalogue=replace(CATALOGUE, max_body_bytes=7), fleet=a_fleet(), now=NOW + 2, roll=0.75
)
ASKED: Final = Terms(operation="embeddings", scope=frozenset({"openai"}), on_ambiguous="hold")
FACED: Final = Situation(
    route=CHAT,
    operation="embeddings",
    scope=frozenset({"openai"}),
    on_ambiguous="hold",
    fleet=VIEW.fleet,
    catalogue=CATALOGUE,
    now=NOW + 1,
    roll=0.25,
)

DRAFTED: Final[list[tuple[Any, Any]]] = [
    (State.from_json(STATE.to_json()), STATE),
    (State.begun(NOW), State(accepted=NOW, deadline=NOW, route="")),
    (STATE.routed("west", NOW + 1), replace(STATE, route="west", deadline=NOW + 1)),
    (STATE.called((), 9), replace(STATE, attempts=(), charged=9, calls=7)),
    (STATE.appended(due=None, target="a/b"), replace(STATE, hop=4, due=None, target="a/b")),
    (
        STATE.deferred({"local": 1}),
        replace(STATE, deferrals=8, avoid={"openai": NOW + 9, "local": 1}),
    ),
    (STATE.avoiding({"local": 1}), replace(STATE, avoid={"local": 1})),
    (Attempt.from_json(ATTEMPT.to_json()), ATTEMPT),
    (Job.read(JOB.origin, "job-1", b"customer-9", JOB.headers, b"{}", STATE), JOB),
    (JOB.with_state(State.begun(NOW)), replace(JOB, state=State.begun(NOW))),
    (facing(CHAT, ASKED, VIEW), FACED),
    (
        facing(PRIVATE, Terms(), VIEW),
        replace(
            FACED,
            route=PRIVATE,
            operation="chat.completions",
            scope=None,
            on_ambiguous=PRIVATE.on_ambiguous,
        ),
    ),
    (FACED.at(LATER), replace(FACED, fleet=LATER.fleet, now=NOW + 2, roll=0.75)),
]


@pytest.mark.parametrize(("drafted", "made"), DRAFTED)
def test_a_drafted_value_is_as_one_that_was_made(drafted: Any, made: Any) -> None:
    assert drafted == made
    assert type(drafted) is type(made)
    assert repr(drafted) == repr(made)
    assert pickle.loads(pickle.dumps(drafted)) == made


@pytest.mark.parametrize(("drafted", "made"), DRAFTED)
def test_a_drafted_value_is_frozen(drafted: Any, made: Any) -> None:
    for each in fields(made):
        with pytest.raises(FrozenInstanceError):
            setattr(drafted, each.name, None)

    assert drafted == made
