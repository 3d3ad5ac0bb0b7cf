"""Which published records are jobs, and what is said of those that are none."""

import uuid
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outlast.core.admission import (
    HEADER_ROOM,
    Admitted,
    Fault,
    Terms,
    admit,
    derived_id,
    fault_in_id,
    terms,
)
from outlast.core.policy import Catalogue, Defaults, Target
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job, Origin
from outlast_schemas.state import State
from tests.core.given import CATALOGUE, CHAT, NOW, PRIVATE, WEST, an_attempt

HELLO: Final = {"messages": [{"role": "user", "content": "hello"}]}
DAY: Final = 86_400_000


def published(*headers: tuple[str, bytes | None], body: bytes = b"{}") -> Job:
    """A job as it is decoded: accepted now, nothing begun."""
    return Job(
        id="job-1",
        body=body,
        headers=headers,
        state=State(accepted=NOW, deadline=NOW, route=""),
        origin=Origin("outlast.jobs", 3, 42, NOW),
    )


def admitted(
    *headers: tuple[str, bytes | None], body: object = HELLO, catalogue: Catalogue = CATALOGUE
) -> Admitted:
    """The job, which must be one."""
    found = admit(published(*headers), body, catalogue)
    assert isinstance(found, Admitted), found
    return found


def fault(
    *headers: tuple[str, bytes | None], body: object = HELLO, catalogue: Catalogue = CATALOGUE
) -> Fault:
    """What is wrong with the job, which must be wrong."""
    found = admit(published(*headers), body, catalogue)
    assert isinstance(found, Fault), found
    return found


# --- a job needs nothing but a body ---------------------------------------------------------


def test_a_body_alone_is_a_job_of_the_default_route() -> None:
    found = admitted()

    assert found.route is CHAT
    assert found.job == replace(
        published(), state=State(accepted=NOW, deadline=NOW + DAY, route="chat")
    )


def test_a_replay_keeps_its_run_and_its_attempts() -> None:
    job = published()
    brought = replace(job.state, replays=2, attempts=(an_attempt(),), extra={"later": 1})
    found = admit(replace(job, state=brought), HELLO, CATALOGUE)

    assert isinstance(found, Admitted)
    assert found.job.state == replace(brought, route="chat", deadline=NOW + DAY)


@pytest.mark.parametrize(
    "body",
    [
        HELLO,
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "hi"}]},
        # what Outlast does not know is the provider's affair
        {"messages": [{"role": "critic", "content": "hi"}], "temperature": "hot", "x": 1},
        {**HELLO, "model": None},
    ],
)
def test_a_chat_is_a_list_of_messages_with_a_role(body: object) -> None:
    assert admitted(body=body).route is CHAT


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "not an object"),
        (17, "not an object"),
        ("hello", "not an object"),
        (True, "not an object"),
        ([HELLO], "not an object"),
        ({}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [None]}, "messages[0]"),
        ({"messages": [{}]}, "messages[0]"),
        ({"messages": [{"role": None}]}, "messages[0]"),
        ({"messages": [{"role": 1, "content": "hello"}]}, "messages[0]"),
        ({"messages": [*HELLO["messages"], {"content": "hello"}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"text": "hi"}}]}, "messages[0].content"),
        ({**HELLO, "model": 5}, "model"),
        ({**HELLO, "model": ["chat"]}, "model"),
        # an embeddings request, sent as a chat: it is told what to do
        ({"input": "hello"}, "outlast-operation: embeddings"),
        ({"input": ["hello"], "model": "chat"}, "outlast-operation: embeddings"),
        ({"input": ""}, "messages"),
    ],
)
def test_a_body_of_another_shape_is_a_bad_request(body: object, says: str) -> None:
    found = fault(body=body)

    assert found.reason is Reason.BAD_REQUEST
    assert says in found.detail


@pytest.mark.parametrize("text", ["hello", ["hello", "world"], [1, 2, 3]])
def test_an_embeddings_job_needs_an_input_and_no_messages(text: object) -> None:
    found = admitted(("outlast-operation", b"embeddings"), body={"input": text})

    assert found.route is CHAT


def test_the_route_of_an_embeddings_job_is_found_as_that_of_any_other() -> None:
    body = {"input": "hello", "model": "openai/text-embedding-3-small"}

    assert admitted(("outlast-operation", b"embeddings"), body=body).route.targets == (
        Target("openai", "text-embedding-3-small"),
    )


@pytest.mark.parametrize("given", [{"text": "hello"}, 7, True])
def test_an_input_of_another_shape_is_a_bad_request(given: object) -> None:
    found = fault(("outlast-operation", b"embeddings"), body={"input": given})

    assert found == Fault(Reason.BAD_REQUEST, "input is neither text nor a list")


@pytest.mark.parametrize("body", [{}, HELLO, {"input": None}, {"input": ""}, {"input": []}])
def test_an_embeddings_job_without_an_input_is_a_bad_request(body: object) -> None:
    found = fault(("outlast-operation", b"embeddings"), body=body)

    assert found == Fault(Reason.BAD_REQUEST, "input is missing")


def test_a_body_that_could_not_be_parsed_says_why() -> None:
    why = Fault(Reason.NOT_JSON, "the body is empty")

    assert fault(body=why) is why


# --- sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "fits"), [(1_000, True), (1_001, False)])
def test_a_body_above_the_limit_is_too_large(size: int, fits: bool) -> None:
    found = admit(published(body=b"x" * size), HELLO, CATALOGUE)

    assert isinstance(found, Admitted) is fits
    assert fits or (isinstance(found, Fault) and found.reason is Reason.TOO_LARGE)


def test_the_size_of_a_body_is_told_before_that_it_is_no_json() -> None:
    why = Fault(Reason.NOT_JSON, "the body is not JSON")
    found = admit(published(body=b"x" * 1_001), why, CATALOGUE)

    assert isinstance(found, Fault)
    assert found.reason is Reason.TOO_LARGE
    assert "1,001 bytes" in found.detail


@pytest.mark.parametrize(
    ("headers", "fits"),
    [
        ([("x", b"v" * (HEADER_ROOM - 1))], True),
        ([("x", b"v" * HEADER_ROOM)], False),
        ([("x" * 100, None)] * 480, True),
        ([("x" * 100, None)] * 500, False),
        ([(f"x-{n}", b"value") for n in range(900)], True),
    ],
)
def test_headers_above_the_room_for_them_are_too_large(
    headers: list[tuple[str, bytes | None]], fits: bool
) -> None:
    found = admit(published(*headers), HELLO, CATALOGUE)

    assert isinstance(found, Admitted) is fits
    assert fits or (isinstance(found, Fault) and found.reason is Reason.TOO_LARGE)


# --- the route ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "model", "route", "targets"),
    [
        (None, None, "chat", CHAT.targets),
        (None, "private", "private", PRIVATE.targets),
        (None, "west", "west", WEST.targets),
        # a model at a provider is that target alone
        (None, "openai/any", "openai/any", (Target("openai", "any"),)),
        (None, "local/a/b", "local/a/b", (Target("local", "a/b"),)),
        # the header goes before the body
        (b"private", "west", "private", PRIVATE.targets),
        (b"private", "nonsense", "private", PRIVATE.targets),
        (b"private", None, "private", PRIVATE.targets),
    ],
)
def test_the_route_is_the_headers_else_the_models_else_the_default(
    header: bytes | None, model: str | None, route: str, targets: tuple[Target, ...]
) -> None:
    found = admitted(("outlast-route", header), body={**HELLO, "model": model})

    assert found.route.targets == targets
    assert found.job.state.route == route


@pytest.mark.parametrize(
    ("header", "model"),
    [
        (None, "gpt-4"),
        (None, ""),
        (None, "/"),
        (None, "openai/"),
        (None, "/luna"),
        (None, "nobody/luna"),
        (None, "Chat"),
        (b"nonsense", None),
        # a header that names no route is not mended by a model that does
        (b"nonsense", "chat"),
        # a target alone is asked for in the body
        (b"openai/any", None),
    ],
)
def test_an_unknown_route_is_told_which_routes_there_are(
    header: bytes | None, model: str | None
) -> None:
    found = fault(("outlast-route", header), body={**HELLO, "model": model})

    assert found.reason is Reason.UNKNOWN_ROUTE
    assert "chat, private, west" in found.detail


def test_without_a_default_route_a_body_must_name_a_model() -> None:
    catalogue = replace(CATALOGUE, defaults=Defaults(route=None))

    assert fault(catalogue=catalogue).reason is Reason.UNKNOWN_ROUTE
    assert admitted(body={**HELLO, "model": "chat"}, catalogue=catalogue).route is CHAT


def test_a_detail_does_not_repeat_a_model_of_any_length() -> None:
    assert len(fault(body={**HELLO, "model": "m" * 900}).detail) < 400


# --- the deadline ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "deadline"),
    [
        (b"2026-03-29T21:36:00Z", NOW + 59_877),
        (b"2026-03-29T21:36:00.5Z", NOW + 60_377),
        (b"2026-03-29T21:36:00.500000Z", NOW + 60_377),
        (b"2026-03-29T21:36:00+00:00", NOW + 59_877),
        # the same instant told elsewhere
        (b"2026-03-29T23:36:00+02:00", NOW + 59_877),
        # past: it expires with the next look, here it only has to be read
        (b"2026-03-29T21:34:00Z", NOW - 60_123),
        (b"1970-01-01T00:00:00Z", 0),
        # later than anything is kept
        (b"2026-04-06T00:00:00Z", NOW + 7 * DAY),
        (b"9999-12-31T23:59:59Z", NOW + 7 * DAY),
    ],
)
def test_a_deadline_is_an_instant(text: bytes, deadline: int) -> None:
    assert admitted(("outlast-deadline", text)).job.state.deadline == deadline


@pytest.mark.parametrize(
    "text",
    [
        # the zero value of some languages
        b"0001-01-01T00:00:00Z",
        b"0001-01-01T00:00:00+23:59",
        b"1969-12-31T23:59:59Z",
    ],
)
def test_a_deadline_before_all_clocks_is_past_and_can_be_written(text: bytes) -> None:
    state = admitted(("outlast-deadline", text)).job.state

    assert state.deadline <= NOW
    assert State.from_json(state.to_json()) == state


def test_a_deadline_beyond_all_calendars_is_cut_like_any_later_one() -> None:
    found = admit(published(("outlast-deadline", b"9999-12-31T23:59:59-23:59")), HELLO, CATALOGUE)

    assert isinstance(found, Admitted)
    assert found.job.state.deadline == NOW + 7 * DAY


@pytest.mark.parametrize(
    "text",
    [
        b"tomorrow",
        b"1774820100123",
        # without a zone it names no instant
        b"2026-03-29T21:36:00",
        b"2026-03-29",
        b"2026-02-30T00:00:00Z",
        b"2026-03-29T25:00:00Z",
        b"2026-03-29T21:36:00Z and a half",
        b"",
        b"   ",
        b"\xff",
        b"\x00",
    ],
)
def test_a_deadline_that_is_no_instant_is_a_bad_header(text: bytes) -> None:
    found = fault(("outlast-deadline", text))

    assert found.reason is Reason.BAD_HEADER
    assert "outlast-deadline" in found.detail


@pytest.mark.parametrize(
    ("text", "deadline"),
    [
        (b"60", NOW + 60_000),
        (b"0.25", NOW + 250),
        (b"604800", NOW + 7 * DAY),
        (b"604801", NOW + 7 * DAY),
        (b"1e12", NOW + 7 * DAY),
        # finite in seconds, infinite in milliseconds
        (b"1e308", NOW + 7 * DAY),
    ],
)
def test_a_ttl_counts_from_the_append(text: bytes, deadline: int) -> None:
    found = admit(published(("outlast-ttl-seconds", text)), HELLO, CATALOGUE)

    assert isinstance(found, Admitted)
    assert found.job.state.deadline == deadline


@pytest.mark.parametrize(
    "text", [b"0", b"-1", b"soon", b"inf", b"-inf", b"nan", b"1e999", b"5s", b"", b"\xfe"]
)
def test_a_ttl_that_is_no_span_is_a_bad_header(text: bytes) -> None:
    found = fault(("outlast-ttl-seconds", text))

    assert found.reason is Reason.BAD_HEADER
    assert "outlast-ttl-seconds" in found.detail


def test_a_deadline_goes_before_a_ttl() -> None:
    found = admitted(("outlast-ttl-seconds", b"5"), ("outlast-deadline", b"2026-03-29T21:36:00Z"))

    assert found.job.state.deadline == NOW + 59_877


def test_a_ttl_without_meaning_is_named_even_beside_a_deadline() -> None:
    found = admit(
        published(("outlast-ttl-seconds", b"soon"), ("outlast-deadline", b"2026-03-29T21:36:00Z")),
        HELLO,
        CATALOGUE,
    )

    assert isinstance(found, Fault)
    assert "outlast-ttl-seconds" in found.detail


@pytest.mark.parametrize(
    ("model", "defaults", "ttl_ms"),
    [
        ("west", Defaults(), 60_000),
        ("chat", Defaults(ttl_seconds=120.0), 120_000),
        ("west", Defaults(ttl_seconds=120.0), 60_000),
        ("chat", Defaults(ttl_seconds=1e9), 7 * DAY),
    ],
)
def test_the_default_ttl_is_the_routes_else_the_configurations(
    model: str, defaults: Defaults, ttl_ms: int
) -> None:
    catalogue = replace(CATALOGUE, defaults=defaults)
    found = admitted(body={**HELLO, "model": model}, catalogue=catalogue)

    assert found.job.state.deadline == NOW + ttl_ms


# --- the other headers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Terms()),
        ([("outlast-scope", b"openai")], Terms(scope=frozenset({"openai"}))),
        ([("outlast-operation", b"embeddings")], Terms(operation="embeddings")),
        ([("outlast-operation", b"chat.completions")], Terms(operation="chat.completions")),
        ([("outlast-operation", None)], Terms(operation="chat.completions")),
        (
            [("outlast-scope", b" openai , jurisdiction:eu ,")],
            Terms(scope=frozenset({"openai", "jurisdiction:eu"})),
        ),
        ([("outlast-on-ambiguous", b"alternate")], Terms(on_ambiguous="alternate")),
        ([("outlast-on-ambiguous", b"retry")], Terms(on_ambiguous="retry")),
        ([("outlast-on-ambiguous", b"hold")], Terms(on_ambiguous="hold")),
        ([("outlast-results", b"west")], Terms(results="west")),
        ([("outlast-results", b"default")], Terms(results="default")),
        # null counts as absent
        ([("outlast-scope", None), ("outlast-results", None), ("ce_id", None)], Terms()),
        # foreign headers mean nothing, whatever is in them
        ([("x-scope", b""), ("outlast", b"\xff"), ("CE_ID", b""), ("", b"")], Terms()),
        # carried, not acted on
        ([("outlast-tenant", b"a"), ("outlast-lane", b"b"), ("ce_source", b"c")], Terms()),
    ],
)
def test_the_headers_say_what_a_job_asks_for(
    headers: list[tuple[str, bytes | None]], expected: Terms
) -> None:
    assert terms(tuple(headers), CATALOGUE) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("outlast-operation", b"images"),
        ("outlast-operation", b"Embeddings"),
        ("outlast-on-ambiguous", b"maybe"),
        ("outlast-on-ambiguous", b"HOLD"),
        ("outlast-results", b"private"),
        ("outlast-results", b"nowhere"),
    ],
)
def test_a_header_with_a_value_that_has_no_meaning_is_named(name: str, value: bytes) -> None:
    found = fault((name, value))

    assert found.reason is Reason.BAD_HEADER
    assert found.detail.startswith(f"{name}: ")


@pytest.mark.parametrize(
    "name",
    [
        "ce_id",
        "ce_type",
        "ce_source",
        "ce_time",
        "outlast-route",
        "outlast-operation",
        "outlast-deadline",
        "outlast-ttl-seconds",
        "outlast-scope",
        "outlast-on-ambiguous",
        "outlast-results",
        "outlast-tenant",
        "outlast-lane",
        "outlast-replay",
    ],
)
@pytest.mark.parametrize("value", [b"", b"  ", b"\xff\xfe", b"\xed\xa0\x80"])
def test_a_header_of_ours_that_is_empty_or_no_text_is_named(name: str, value: bytes) -> None:
    found = fault((name, value))

    assert found.reason is Reason.BAD_HEADER
    assert found.detail.startswith(f"{name}: ")


@pytest.mark.parametrize(
    "value", [b",", b" , ,", b"nobody", b"openai,nobody", b"OpenAI", b"jurisdiction"]
)
def test_a_scope_that_names_nobody_or_somebody_unknown_is_refused(value: bytes) -> None:
    assert fault(("outlast-scope", value)).reason is Reason.SCOPE


def test_a_scope_fault_names_the_unknown_and_the_known() -> None:
    found = fault(("outlast-scope", b"openai,zebra,nobody"))

    assert "nobody, zebra" in found.detail
    assert "anthropic, deepseek, local, openai" in found.detail


@pytest.mark.parametrize(
    ("first", "second"),
    [(b"default", b"nowhere"), (b"nowhere", b"default")],
)
def test_a_header_that_stands_twice_is_not_half_checked(first: bytes, second: bytes) -> None:
    """Whichever of the two counts, a job is not admitted on one and treated by the other."""
    headers = (("outlast-results", first), ("outlast-results", second))
    found = admit(published(*headers), HELLO, CATALOGUE)
    read = published(*headers).header("outlast-results")

    assert isinstance(found, Admitted) is (read == "default")


# --- the id ---------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"1", b"a" * 128, b"order 17/a", b"!~", b"\x20x"])
def test_an_id_is_up_to_128_printable_characters(raw: bytes) -> None:
    assert fault_in_id(raw) is None


@pytest.mark.parametrize(
    "raw", [b"", b"a" * 129, b"a\nb", b"a\x00", b"\x7f", b"\xc3\xa9", b"\xff", b"a\tb"]
)
def test_any_other_id_is_a_bad_header(raw: bytes) -> None:
    found = fault_in_id(raw)

    assert found is not None
    assert found.reason is Reason.BAD_HEADER
    assert found.detail.startswith("ce_id: ")


def test_a_derived_id_is_the_uuid5_that_the_contract_says() -> None:
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "outlast")
    expected = uuid.uuid5(namespace, f"cluster-1/outlast.jobs/3/42/{NOW}")

    assert derived_id("cluster-1", Origin("outlast.jobs", 3, 42, NOW)) == str(expected)


places = st.builds(
    Origin,
    topic=st.sampled_from(["outlast.jobs", "team.jobs"]),
    partition=st.integers(0, 99),
    offset=st.integers(0, 2**40),
    appended=st.integers(0, 2**42),
)


@given(one=places, other=places)
def test_the_same_record_and_no_other_has_the_same_derived_id(one: Origin, other: Origin) -> None:
    same = derived_id("c", one) == derived_id("c", other)

    assert same is (one == other)
    assert derived_id("c", one) != derived_id("d", one)
    assert fault_in_id(derived_id("c", one).encode()) is None


# --- anything at all ------------------------------------------------------------------------

OURS: Final = (
    "ce_id",
    "ce_time",
    "outlast-route",
    "outlast-operation",
    "outlast-deadline",
    "outlast-ttl-seconds",
    "outlast-scope",
    "outlast-on-ambiguous",
    "outlast-results",
    "outlast-replay",
)
values = (
    st.none()
    | st.binary(max_size=12)
    | st.floats().map(lambda number: str(number).encode())
    | st.datetimes().map(lambda instant: f"{instant.isoformat()}Z".encode())
    | st.sampled_from([b"chat", b"hold", b"west", b"openai", b"embeddings", b"1e308"])
)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "role", "content", "model", "input", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    headers=st.lists(st.tuples(st.sampled_from(OURS) | st.text(max_size=9), values), max_size=3),
    body=st.just(HELLO) | json,
)
@example(headers=[("outlast-ttl-seconds", b"1e308")], body=HELLO)
@example(headers=[("outlast-deadline", b"0001-01-01T00:00:00+23:59")], body=HELLO)
@settings(max_examples=300)
def test_whatever_is_published_is_a_job_or_a_fault(
    headers: list[tuple[str, bytes | None]], body: object
) -> None:
    found = admit(published(*headers), body, CATALOGUE)

    assert isinstance(found, Admitted | Fault)
    assert isinstance(found, Fault) or 0 <= found.job.state.deadline <= NOW + 7 * DAY
    assert isinstance(found, Admitted) or len(found.detail) < 1_000
