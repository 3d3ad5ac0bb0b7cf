"""Schemas, examples and dataclasses say the same, whichever of them one reads."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.dead_letter import Reason
from outlast_schemas.health import BreakerWord, Health, ModelHealth
from outlast_schemas.lent import Note
from outlast_schemas.result import Result, Status
from outlast_schemas.state import KEPT_ATTEMPTS, KNOWN, State
from outlast_schemas.vitals import Vitals, Window
from tests.core.given import a_job

ROOT: Final = Path(__file__).parents[2] / "schemas" / "outlast_schemas" / "v1"
SCHEMAS: Final = sorted(path.name.removesuffix(".schema.json") for path in ROOT.glob("*.json"))
EXAMPLES: Final = sorted(
    f"{path.parent.name}/{path.stem}" for path in (ROOT / "examples").glob("*/*.json")
)
Json = Mapping[str, Any]


def schema(name: str) -> dict[str, Any]:
    """A schema as it lies in the repository."""
    found: dict[str, Any] = json.loads((ROOT / f"{name}.schema.json").read_bytes())
    return found


VALIDATORS: Final = {name: Draft202012Validator(schema(name)) for name in SCHEMAS}


def example(name: str) -> dict[str, Any]:
    """An example as it lies in the repository."""
    found: dict[str, Any] = json.loads((ROOT / "examples" / f"{name}.json").read_bytes())
    return found


def an_error(fields: Json) -> Result:
    """A result that has this error body; the class has no reader, clients read the bytes."""
    error = fields["error"]
    cancelled = error["type"] == Status.CANCELLED
    return Result(
        job=a_job(),
        topic="outlast.results",
        status=Status.CANCELLED if cancelled else Status.DEAD_LETTERED,
        reason=None if cancelled else Reason(error["type"]),
        message=error["message"],
        verdict=error["code"],
    )


ROUND_TRIPS: Final[Mapping[str, Callable[[Json], dict[str, object]]]] = {
    "state": lambda fields: State.from_json(fields).to_json(),
    "vitals": lambda fields: Vitals.from_json(fields).to_json(),
    "health": lambda fields: Health.from_json(fields).to_json(),
    "error": lambda fields: an_error(fields).error_json(),
}


def known(fields: Any, rules: Json, definitions: Json) -> Any:
    """The fields that a schema names, so that what a later version adds can be set aside."""
    rules = definitions[rules["$ref"].rsplit("/", 1)[1]] if "$ref" in rules else rules
    if not isinstance(fields, dict):
        return fields
    named = rules.get("properties", {})
    others = rules.get("additionalProperties")
    return {
        name: known(value, named.get(name, others), definitions)
        for name, value in fields.items()
        if name in named or others is not None
    }


def test_there_is_a_schema_with_examples_for_all_that_travels() -> None:
    assert set(SCHEMAS) == set(ROUND_TRIPS)
    assert {name.split("/")[0] for name in EXAMPLES} == set(SCHEMAS)
    assert len(EXAMPLES) >= 3 * len(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_allows_unknown_fields(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))

    assert schema(name)["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert '"additionalProperties": false' not in json.dumps(schema(name))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_validates(name: str) -> None:
    VALIDATORS[name.split("/")[0]].validate(example(name))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_read_and_written_back_the_same(name: str) -> None:
    kind = name.split("/")[0]
    whole = example(name)
    rules = schema(kind)
    # only a state promises to keep what it does not know
    promised = whole if kind == "state" else known(whole, rules, rules.get("$defs", {}))

    assert ROUND_TRIPS[kind](whole) == promised


def test_some_examples_of_each_kind_hold_unknown_fields() -> None:
    assert {name.split("/")[0] for name in EXAMPLES if "later-version" in name} == set(SCHEMAS)


def test_what_a_state_does_not_know_is_kept() -> None:
    assert State.from_json(example("state/of-a-later-version")).extra == {
        "lane": "batch",
        "budget": {"spent": 0.0125, "of": ["a", None, True]},
    }


def test_what_an_attempt_does_not_know_is_kept_in_the_state() -> None:
    fields = example("state/waiting")
    fields["attempts"][0]["cost"] = 0.0125

    assert State.from_json(fields).to_json() == fields


def test_a_state_keeps_the_last_attempts_only() -> None:
    one = example("state/waiting")["attempts"][0]
    attempts = [{**one, "n": n} for n in range(1, KEPT_ATTEMPTS + 6)]
    state = State.from_json({**example("state/waiting"), "attempts": attempts})

    assert [attempt.n for attempt in state.attempts] == list(range(6, KEPT_ATTEMPTS + 6))


# --- fields and words -----------------------------------------------------------------------

ATTEMPT: Final = Attempt(
    n=1, provider="p", model="m", at=1, ms=2, verdict=VerdictWord.PROVIDER_DOWN
)
WHOLE_ATTEMPT: Final = replace(ATTEMPT, status=503, note="n", request_id="r")
STATE: Final = State(accepted=1, deadline=2, route="chat")
WHOLE_STATE: Final = replace(STATE, target="p/m", due=3, avoid={"p": 4}, attempts=(ATTEMPT,))
MODEL: Final = ModelHealth(state=BreakerWord.OPEN, since=1)
STATE_RULES: Final = schema("state")
LATER: Final = defaultdict(
    set[str],
    {
        "Health": {"paused_until"},
        "ModelHealth": {"permits", "setbacks"},
        "Vitals": {"models", "probe_of", "queued", "paused_until", "tripped", "failed_over"},
        "Window": set(Window().to_json()),
    },
)
"""Fields that were added since: always written, and optional for who reads."""


def without_later(fields: Json) -> dict[str, Any]:
    """A record as it was written before these fields were known."""
    is_health = "epoch" in fields
    old = {k: v for k, v in fields.items() if k not in LATER["Health" if is_health else "Vitals"]}
    if is_health:
        old["models"] = {
            name: {k: v for k, v in each.items() if k not in LATER["ModelHealth"]}
            for name, each in fields["models"].items()
        }
    return old


FIELDS: Final = [
    (STATE_RULES, STATE.to_json(), WHOLE_STATE.to_json()),
    (STATE_RULES["$defs"]["attempt"], ATTEMPT.to_json(), WHOLE_ATTEMPT.to_json()),
    (schema("health"), *[Health(provider="p", epoch=1, at=1).to_json()] * 2),
    (schema("health")["$defs"]["model"], *[MODEL.to_json()] * 2),
    (schema("vitals"), *[Vitals(provider="p", worker="w", at=1).to_json()] * 2),
    (schema("vitals")["$defs"]["window"], *[Window().to_json()] * 2),
    (
        schema("error")["properties"]["error"],
        *[an_error(example("error/cancelled")).error_json()["error"]] * 2,
    ),
]


@pytest.mark.parametrize(("rules", "least", "most"), FIELDS, ids=lambda each: each.get("title"))
def test_required_is_what_is_always_written_and_named_is_what_may_be(
    rules: Json, least: Json, most: Json
) -> None:
    assert set(rules.get("required", ())) == set(least) - LATER[rules.get("title", "")]
    assert set(rules["properties"]) == set(most)


@pytest.mark.parametrize("name", ["health/ramp", "health/half-open", "vitals/failing"])
def test_what_was_written_before_a_field_was_known_is_read_all_the_same(name: str) -> None:
    kind = name.split("/")[0]
    old = without_later(example(name))
    VALIDATORS[kind].validate(old)
    written = ROUND_TRIPS[kind](old)

    assert without_later(written) == old
    assert set(written) == set(example(name))


def test_the_fields_that_a_state_knows_are_those_of_its_schema() -> None:
    assert set(schema("state")["properties"]) == KNOWN


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (schema("state")["$defs"]["attempt"]["properties"]["verdict"], [*VerdictWord]),
        (schema("vitals")["properties"]["probe"], [*VerdictWord, None]),
        (
            schema("error")["properties"]["error"]["properties"]["code"],
            [*[word for word in VerdictWord if word is not VerdictWord.SUCCEEDED], None],
        ),
        (
            schema("error")["properties"]["error"]["properties"]["type"],
            [*Reason, Status.CANCELLED],
        ),
        (schema("health")["$defs"]["model"]["properties"]["state"], [*BreakerWord]),
    ],
)
def test_the_words_in_the_schemas_are_those_in_the_code(
    words: Json, expected: list[str | None]
) -> None:
    assert words["enum"] == expected


def test_the_statuses_are_four() -> None:
    assert [*Status] == ["succeeded", "dead_lettered", "expired", "cancelled"]


# --- whatever the code writes ---------------------------------------------------------------

counts = st.integers(0, 2**53)
names = st.text(st.characters(codec="utf-8"), max_size=12)
targets = st.builds("{}/{}".format, st.from_regex(r"\A[a-z]{1,8}\Z"), names.filter(bool))
attempts = st.builds(
    Attempt,
    n=counts,
    provider=names,
    model=names,
    at=counts,
    ms=counts,
    verdict=st.sampled_from(VerdictWord),
    status=st.none() | counts,
    note=st.none() | names,
    request_id=st.none() | names,
)
unknown = st.dictionaries(
    names.filter(lambda name: name not in KNOWN),
    st.none() | st.booleans() | counts | names | st.lists(counts, max_size=3),
    max_size=3,
)
states = st.builds(
    State,
    accepted=counts,
    deadline=counts,
    route=names,
    hop=counts,
    replays=counts,
    target=st.none() | targets,
    charged=counts,
    calls=counts,
    deferrals=counts,
    due=st.none() | counts,
    avoid=st.dictionaries(names, counts, max_size=3),
    attempts=st.lists(attempts, max_size=3).map(tuple),
    extra=unknown,
)
healths = st.builds(
    Health,
    provider=names,
    epoch=counts,
    at=counts,
    models=st.dictionaries(
        names,
        st.builds(
            ModelHealth,
            state=st.sampled_from(BreakerWord),
            since=counts,
            evidence=names,
            prober=st.none() | names,
            probe_at=st.none() | counts,
            permits=st.none() | counts,
            setbacks=counts,
        ),
        max_size=3,
    ),
    paused_until=st.none() | counts,
)
windows = st.builds(
    Window,
    note=st.none() | names,
    **{each: counts for each in Window().to_json() if each != "note"},
)
vitals = st.builds(
    Vitals,
    provider=names,
    worker=names,
    at=counts,
    succeeded=counts,
    failures=counts,
    streak=counts,
    note=st.none() | names,
    probe=st.none() | st.sampled_from(VerdictWord),
    in_flight=counts,
    limit=counts,
    served=counts,
    failed=counts,
    probe_of=st.none() | names,
    queued=counts,
    paused_until=st.none() | counts,
    tripped=st.dictionaries(names, names, max_size=3),
    failed_over=st.dictionaries(names, counts, max_size=3),
    models=st.dictionaries(names, windows, max_size=3),
)


@given(states)
def test_whatever_state_is_written_validates_and_is_read_back(state: State) -> None:
    fields = json.loads(json.dumps(state.to_json()))
    VALIDATORS["state"].validate(fields)

    assert State.from_json(fields) == state


@given(healths)
def test_whatever_health_is_written_validates_and_is_read_back(health: Health) -> None:
    fields = json.loads(json.dumps(health.to_json()))
    VALIDATORS["health"].validate(fields)

    assert Health.from_json(fields) == health


@given(vitals)
def test_whatever_vitals_are_written_validate_and_are_read_back(window: Vitals) -> None:
    fields = json.loads(json.dumps(window.to_json()))
    VALIDATORS["vitals"].validate(fields)

    assert Vitals.from_json(fields) == window


offsets = st.lists(counts, max_size=8).map(tuple)


@given(st.builds(Note, by=names, turn=counts, done=offsets, released=offsets, cut=offsets))
def test_whatever_note_is_written_is_read_back(note: Note) -> None:
    fields = json.loads(json.dumps(note.to_json()))

    assert Note.from_json(fields) == note
    assert Note.from_json({**fields, "of a later version": 1}) == note


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.SUCCEEDED])
@pytest.mark.parametrize("reason", [*Reason, None])
def test_whatever_error_is_written_validates(status: Status, reason: Reason | None) -> None:
    """Every end but a cancel has a reason."""
    cancelled = status is Status.CANCELLED
    result = Result(
        job=a_job(),
        topic="outlast.results",
        status=status,
        reason=None if cancelled else reason or Reason.DEADLINE,
    )

    VALIDATORS["error"].validate(result.error_json())


# --- what misfits ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hop", "3"),
        ("hop", -1),
        ("hop", True),
        ("hop", None),
        ("hop", 2.5),
        ("route", 7),
        ("deadline", -1),
        ("deadline", "2026-03-29T21:36:00Z"),
        ("due", "soon"),
        ("avoid", []),
        ("avoid", {"deepseek": -1}),
        ("avoid", {"deepseek": "soon"}),
        ("target", 7),
        ("attempts", {}),
        ("attempts", [7]),
        ("attempts", [{}]),
        ("attempts", [{**ATTEMPT.to_json(), "verdict": "fine"}]),
        ("attempts", [{**ATTEMPT.to_json(), "ms": None}]),
        ("attempts", [{**ATTEMPT.to_json(), "status": "503"}]),
    ],
)
def test_a_state_that_misfits_is_refused_by_schema_and_code_alike(
    field: str, value: object
) -> None:
    fields = {**example("state/waiting"), field: value}

    assert not VALIDATORS["state"].is_valid(fields)
    with pytest.raises((KeyError, TypeError, ValueError)):
        State.from_json(fields)


NO_OFFSETS: Final[list[object]] = [
    *(None, 3, "3", {}),
    *(["3"], [None], [True], [2.5], [-1], [[3]], [2**53 + 1]),
]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("by", None),
        ("by", 7),
        ("turn", None),
        ("turn", -1),
        ("turn", "3"),
        *[(field, value) for field in ("done", "released", "cut") for value in NO_OFFSETS],
    ],
)
def test_a_note_that_misfits_is_refused(field: str, value: object) -> None:
    fields = {**Note(by="host-1.0a0a0a0a", done=(3,)).to_json(), field: value}

    with pytest.raises((KeyError, TypeError, ValueError)):
        Note.from_json(fields)


@pytest.mark.parametrize("field", ["by", "turn", "done", "released", "cut"])
def test_a_note_without_one_of_its_fields_is_refused(field: str) -> None:
    fields = Note(by="host-1.0a0a0a0a").to_json()
    del fields[field]

    with pytest.raises(KeyError):
        Note.from_json(fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("succeeded", -1),
        ("unreached", "3"),
        ("ms", None),
        ("overdue", True),
        ("note", 7),
    ],
)
def test_a_window_that_misfits_is_refused_by_schema_and_code_alike(
    field: str, value: object
) -> None:
    fields = {**example("vitals/failing"), "models": {"deepseek-flash": {field: value}}}

    assert not VALIDATORS["vitals"].is_valid(fields)
    with pytest.raises(TypeError):
        Vitals.from_json(fields)


@pytest.mark.parametrize("name", ["state/accepted", "vitals/quiet", "health/half-open"])
def test_a_required_field_that_is_missing_is_refused(name: str) -> None:
    kind = name.split("/")[0]
    read: set[str] = set()
    for field in schema(kind)["required"]:
        fields = {key: value for key, value in example(name).items() if key != field}
        assert not VALIDATORS[kind].is_valid(fields)
        try:
            ROUND_TRIPS[kind](fields)
        except KeyError:
            continue
        read.add(field)

    # readers know only one version, and null is as good as absent
    assert read <= {"v", "note", "probe"}
