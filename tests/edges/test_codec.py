"""Records are read and written as the golden ones are, and no bytes at all make a read fail."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.admission import Fault, derived_id
from outlast.core.lifecycle import Hop, Outgoing
from outlast.edges.codec import KEPT_BODY, MAX_REPLAYS, Codec, Encoded
from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Result, Served, Status
from outlast_schemas.state import KEPT_ATTEMPTS, State
from outlast_schemas.topics import Topics
from tests.core.given import HOUR, NOW, an_attempt

GOLDEN: Final = Path(__file__).parents[1] / "contract" / "golden"
CODEC: Final = Codec("cluster-1", Topics())
Headers = list[tuple[str, bytes | None]]


@dataclass
class ARecord:
    """What the consumer gives."""

    topic: str = "outlast.jobs"
    partition: int = 3
    offset: int = 42
    timestamp: int = NOW
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: Iterable[tuple[str, bytes | None]] = field(default_factory=list)


def golden(name: str) -> Encoded:
    """A record that must never change; a header that is JSON stands there as JSON."""
    text: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_bytes())
    value = text["value"]
    return Encoded(
        text["topic"],
        text["key"].encode(),
        value.encode() if isinstance(value, str) else value["text"].encode() * value["times"],
        [(key, each if each is None else _bytes(each)) for key, each in text["headers"]],
    )


def _bytes(value: str | dict[str, Any]) -> bytes:
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


def read_back(encoded: Encoded, topic: str | None = None) -> Job:
    """The job as the next stage reads the record."""
    decoded = CODEC.decode(
        ARecord(
            topic=topic or encoded.topic,
            key=encoded.key,
            value=encoded.value,
            headers=encoded.headers,
        )
    )
    assert decoded.fault is None
    return decoded.job


STATE: Final = State(
    accepted=NOW,
    deadline=NOW + 24 * HOUR,
    route="chat",
    hop=3,
    charged=1,
    calls=2,
    deferrals=4,
    due=NOW + 6_877,
    avoid={"deepseek": NOW + 59_877},
    attempts=(
        Attempt(
            n=1,
            provider="deepseek",
            model="deepseek-flash",
            at=NOW + 877,
            ms=1_204,
            verdict=VerdictWord.PROVIDER_DOWN,
            status=503,
            note="HTTP 503 overloaded",
            request_id="req-7f3a",
        ),
    ),
    extra={"lane": "batch"},
)
JOB: Final = Job(
    id="0198f3c2-7d6a-7b1e-8c5d-2f4e6a8b0c1d",
    body=b'{"model":"chat",  "messages":[{"role":"user","content":"gr\xc3\xbc\xc3\x9fe"}]}',
    headers=(
        ("ce_id", b"0198f3c2-7d6a-7b1e-8c5d-2f4e6a8b0c1d"),
        ("ce_type", b"outlast.job.v1"),
        ("ce_source", b"shop"),
        ("ce_time", b"2026-03-29T21:35:00Z"),
        ("ce_specversion", b"1.0"),
        ("outlast-scope", b"deepseek,openai"),
        ("outlast-ttl-seconds", b"86400"),
        ("outlast-tenant", b"shop"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("x-order", b"17"),
        ("x-null", None),
        ("x-order", b"18"),
    ),
    state=STATE,
    origin=Origin("outlast.work.deepseek", 3, 42, NOW),
    key=b"customer-9",
)
WRITTEN: Final[list[tuple[str, Outgoing]]] = [
    ("hop", Hop("outlast.retry.30s", JOB)),
    (
        "dead-letter",
        DeadLetter(job=JOB, reason=Reason.JOB_REJECTED, detail="unknown tool (HTTP 400)"),
    ),
    (
        "dead-letter-too-large",
        DeadLetter(
            job=replace(JOB, body=b"x" * 100_000),
            reason=Reason.TOO_LARGE,
            detail="the body has 100,000 bytes",
        ),
    ),
    (
        "result-succeeded",
        Result(
            job=JOB,
            topic="outlast.results",
            status=Status.SUCCEEDED,
            served=Served(
                body=b'{"object":"chat.completion","choices":[]}',
                provider="openai",
                model="gpt-6-luna-2026-02",
                prompt_tokens=12,
                completion_tokens=3,
                cost=2.7e-06,
            ),
        ),
    ),
    (
        "result-error",
        Result(
            job=replace(JOB, state=replace(STATE, replays=1)),
            topic="outlast.results.west",
            status=Status.DEAD_LETTERED,
            reason=Reason.JOB_REJECTED,
            message="unknown tool (HTTP 400)",
            verdict="job_rejected",
        ),
    ),
]


@pytest.mark.parametrize(("name", "outgoing"), WRITTEN, ids=[name for name, _ in WRITTEN])
def test_a_record_is_written_as_the_golden_one(name: str, outgoing: Outgoing) -> None:
    encoded = CODEC.encode(outgoing, NOW + 9_000)

    assert encoded == golden(name)


def test_every_golden_record_is_tested() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {name for name, _ in WRITTEN}


@pytest.mark.parametrize("name", ["hop", "dead-letter"])
def test_the_next_stage_reads_the_job_that_was_written(name: str) -> None:
    job = read_back(golden(name))

    assert replace(job, origin=JOB.origin) == JOB
    assert job.origin == Origin(golden(name).topic, 3, 42, NOW)


def test_a_dead_letter_too_large_keeps_the_head_of_the_body_and_our_headers() -> None:
    encoded = golden("dead-letter-too-large")
    names = [name for name, _ in encoded.headers]

    assert encoded.value == b"x" * KEPT_BODY
    assert all(name.startswith(("ce_", "outlast-")) for name in names)
    assert dict(encoded.headers)["outlast-from"] == b"outlast.work.deepseek/3/42"


@pytest.mark.parametrize("size", [KEPT_BODY - 1, KEPT_BODY, KEPT_BODY + 1])
def test_any_other_dead_letter_keeps_its_whole_body(size: int) -> None:
    job = replace(JOB, body=b"y" * size)
    kept = CODEC.encode(DeadLetter(job=job, reason=Reason.NOT_JSON, detail="no"), NOW)
    cut = CODEC.encode(DeadLetter(job=job, reason=Reason.TOO_LARGE, detail="no"), NOW)

    assert len(kept.value) == size
    assert len(cut.value) == min(size, KEPT_BODY)


@pytest.mark.parametrize("status", Status)
def test_a_result_names_its_job_its_run_and_its_end(status: Status) -> None:
    job = replace(JOB, state=replace(STATE, replays=2, calls=7))
    served = Served(body=b"{}", provider="openai", model="luna")
    result = Result(
        job=job,
        topic="outlast.results",
        status=status,
        served=served if status is Status.SUCCEEDED else None,
    )
    encoded = CODEC.encode(result, NOW)
    found = dict(encoded.headers)

    assert encoded.key == JOB.id.encode()
    assert found["ce_subject"] == JOB.id.encode()
    assert found["ce_type"] == b"outlast.result.v1"
    assert found["outlast-status"] == status.encode()
    assert (found["outlast-replays"], found["outlast-attempts"]) == (b"2", b"7")
    assert ("outlast-provider" in found) is (status is Status.SUCCEEDED)


def test_the_headers_of_a_result_stand_once_whatever_the_job_brought() -> None:
    """Who publishes with the headers of an older result must not forge the next one."""
    forged: Headers = [
        (name, b"forged") for name, _ in golden("result-succeeded").headers if name != "ce_id"
    ]
    job = read_back(CODEC.encode(Hop("outlast.parked", replace(JOB, headers=tuple(forged))), NOW))
    result = Result(
        job=job,
        topic="outlast.results",
        status=Status.SUCCEEDED,
        served=Served(
            body=b"{}", provider="openai", model="luna", prompt_tokens=1, completion_tokens=1
        ),
    )
    ours = [
        name
        for name, _ in CODEC.encode(result, NOW).headers
        if name.startswith(("ce_", "outlast-")) and name not in {"outlast-tenant", "outlast-key"}
    ]

    assert sorted(ours) == sorted(set(ours))
    assert dict(CODEC.encode(result, NOW).headers)["outlast-status"] == b"succeeded"
    assert "outlast-cost" not in ours


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (0.0, b"0"),
        (-0.0, b"0"),
        (3.0, b"3"),
        (1_200.5, b"1200.5"),
        (0.1 + 0.2, b"0.3"),
        (1e-07, b"0.0000001"),
        (1e-10, b"0.0000000001"),
        (1e-11, b"0"),
        (123_456.789, b"123456.789"),
    ],
)
def test_a_cost_is_written_in_plain_digits(cost: float, text: bytes) -> None:
    served = Served(body=b"{}", provider="openai", model="luna", cost=cost)
    result = Result(job=JOB, topic="outlast.results", status=Status.SUCCEEDED, served=served)

    assert dict(CODEC.encode(result, NOW).headers)["outlast-cost"] == text


@pytest.mark.parametrize("text", ["ü" * 700, "x" + "ü" * 700, "€" * 700, "x" * 2_000])
def test_a_long_detail_is_cut_between_characters(text: str) -> None:
    encoded = CODEC.encode(DeadLetter(job=JOB, reason=Reason.POISON, detail=text), NOW)
    detail = dict(encoded.headers)["outlast-detail"]

    assert detail is not None
    assert len(detail) <= 1_000
    assert text.startswith(detail.decode())


# --- published records ----------------------------------------------------------------------


def test_a_body_alone_is_a_job() -> None:
    record = ARecord(value=b'{"messages":[]}')
    origin = Origin("outlast.jobs", 3, 42, NOW)
    decoded = CODEC.decode(record)

    assert decoded.fault is None
    assert decoded.job == Job(
        id=derived_id("cluster-1", origin),
        body=b'{"messages":[]}',
        headers=(),
        state=State(accepted=NOW, deadline=NOW, route=""),
        origin=origin,
    )


def test_the_id_that_the_publisher_chose_is_the_jobs() -> None:
    assert CODEC.decode(ARecord(headers=[("ce_id", b"order 17")])).job.id == "order 17"


@pytest.mark.parametrize("headers", [[], [("ce_id", None)]])
def test_a_job_without_an_id_has_one_of_its_place(headers: Headers) -> None:
    record = ARecord(headers=headers)
    elsewhere = replace(record, offset=43)
    again = replace(record, key=b"k", value=b"other")

    assert CODEC.decode(record).fault is None
    assert CODEC.decode(record).job.id == CODEC.decode(again).job.id
    assert CODEC.decode(record).job.id != CODEC.decode(elsewhere).job.id
    assert CODEC.decode(record).job.id != Codec("other", Topics()).decode(record).job.id


@pytest.mark.parametrize("raw", [b"", b"a" * 129, b"a\nb", b"\xff", "ü".encode()])
def test_a_malformed_id_is_a_fault_under_the_derived_id(raw: bytes) -> None:
    decoded = CODEC.decode(ARecord(headers=[("ce_id", raw)]))

    assert decoded.job.id == derived_id("cluster-1", Origin("outlast.jobs", 3, 42, NOW))
    assert decoded.fault is not None
    assert decoded.fault.reason is Reason.BAD_HEADER
    assert "ce_id" in decoded.fault.detail


def test_the_id_is_written_where_it_was_absent_and_once() -> None:
    for headers in ([], [("ce_id", None)], [("ce_id", b"\xff")], [("ce_id", b"1")]):
        job = CODEC.decode(ARecord(headers=headers)).job
        encoded = CODEC.encode(Hop("outlast.parked", job), NOW)

        assert [each for each in encoded.headers if each[0] == "ce_id"] == [
            ("ce_id", job.id.encode())
        ]


@pytest.mark.parametrize("key", [b"customer-9", b"\xff\x00", b"", b"job-1"])
def test_the_record_key_is_never_the_id_and_comes_back(key: bytes) -> None:
    job = CODEC.decode(ARecord(key=key)).job
    moved = read_back(CODEC.encode(Hop("outlast.parked", job), NOW))
    result = Result(job=moved, topic="outlast.results", status=Status.EXPIRED)
    encoded = CODEC.encode(result, NOW)

    assert job.id.encode() != key
    assert moved.key == key
    assert encoded.key == job.id.encode()
    assert dict(encoded.headers)["outlast-key"] == key


def test_a_job_without_a_key_has_none_on_its_way() -> None:
    job = CODEC.decode(ARecord()).job
    encoded = CODEC.encode(Hop("outlast.parked", job), NOW)

    assert "outlast-key" not in dict(encoded.headers)
    assert read_back(encoded).key is None


def test_a_publisher_cannot_name_another_key_than_the_records() -> None:
    headers: Headers = [("outlast-key", b"of an older job")]

    assert CODEC.decode(ARecord(key=b"customer-9", headers=headers)).job.key == b"customer-9"


def test_a_replayed_job_has_the_key_of_the_first_run() -> None:
    headers: Headers = [("outlast-key", b"customer-9"), ("outlast-replay", b"run-1")]

    assert CODEC.decode(ARecord(key=b"job-1", headers=headers)).job.key == b"customer-9"


def test_foreign_headers_pass_untouched_by_the_hundred() -> None:
    foreign: Headers = [(f"x-{n % 250}", None if n % 3 else bytes([n % 256])) for n in range(700)]
    job = CODEC.decode(ARecord(headers=foreign)).job
    moved = read_back(CODEC.encode(Hop("outlast.parked", job), NOW))
    result = CODEC.encode(Result(job=moved, topic="t", status=Status.EXPIRED), NOW)
    letter = CODEC.encode(DeadLetter(job=moved, reason=Reason.DEADLINE, detail="late"), NOW)

    for encoded in (result, letter):
        assert [each for each in encoded.headers if each[0].startswith("x-")] == foreign


def test_what_a_dead_letter_said_does_not_stay_on_a_replayed_job() -> None:
    job = read_back(golden("dead-letter"))

    assert not {"outlast-reason", "outlast-detail", "outlast-from"} & {
        name for name, _ in job.headers
    }


# --- the state ------------------------------------------------------------------------------

FRESH: Final = State(accepted=NOW, deadline=NOW, route="")
BROUGHT: Final = orjson.dumps(replace(STATE, replays=2).to_json())


def test_a_foreign_state_among_published_jobs_is_ignored() -> None:
    job = CODEC.decode(ARecord(headers=[("outlast-state", BROUGHT)])).job

    assert job.state == FRESH
    assert "outlast-state" not in dict(job.headers)


def test_a_replay_takes_over_the_run_and_the_attempts_and_nothing_that_was_spent() -> None:
    headers: Headers = [("outlast-state", BROUGHT), ("outlast-replay", b"run-1")]
    state = CODEC.decode(ARecord(headers=headers)).job.state

    assert state == replace(FRESH, replays=2, attempts=STATE.attempts, extra=STATE.extra)


def test_a_null_replay_counts_as_absent() -> None:
    headers: Headers = [("outlast-state", BROUGHT), ("outlast-replay", None)]

    assert CODEC.decode(ARecord(headers=headers)).job.state == FRESH


def test_what_a_replay_brings_along_is_bounded() -> None:
    many = tuple(an_attempt(n=n) for n in range(1, 100))
    raw = orjson.dumps(replace(STATE, replays=10**9, attempts=many).to_json())
    state = CODEC.decode(
        ARecord(headers=[("outlast-state", raw), ("outlast-replay", b"run-1")])
    ).job.state

    assert state.replays == MAX_REPLAYS
    assert len(state.attempts) == KEPT_ATTEMPTS


DAMAGED: Final = [
    b"",
    b"null",
    b"[]",
    b"7",
    b"{",
    b"{}",
    b"\xff",
    b'{"v":1}',
    BROUGHT.replace(b'"hop":3', b'"hop":-3'),
    BROUGHT.replace(b'"hop":3', b'"hop":"3"'),
    BROUGHT.replace(b"provider_down", b"fine"),
]


@pytest.mark.parametrize("raw", DAMAGED)
def test_a_state_that_misfits_is_ignored_in_a_replay(raw: bytes) -> None:
    headers: Headers = [("outlast-state", raw), ("outlast-replay", b"run-1")]
    decoded = CODEC.decode(ARecord(headers=headers))

    assert decoded.fault is None
    assert decoded.job.state == FRESH


@pytest.mark.parametrize("raw", [*DAMAGED, None])
def test_a_state_that_misfits_is_a_fault_in_any_other_topic(raw: bytes | None) -> None:
    decoded = CODEC.decode(ARecord(topic="outlast.parked", headers=[("outlast-state", raw)]))

    assert decoded.fault is not None
    assert decoded.fault.reason is Reason.BAD_HEADER
    assert "outlast-state" in decoded.fault.detail


@pytest.mark.parametrize("depth", [100, 300, 900])
@pytest.mark.parametrize("topic", ["outlast.jobs", "outlast.parked"])
def test_a_state_that_was_read_can_be_written(topic: str, depth: int) -> None:
    """What nests deeper than can be written must not stop a partition."""
    deep = b'"x":' + b"[" * depth + b"]" * depth + b"}"
    headers: Headers = [
        ("outlast-state", BROUGHT[:-1] + b"," + deep),
        ("outlast-replay", b"run-1"),
    ]
    job = CODEC.decode(ARecord(topic=topic, headers=headers)).job
    encoded = CODEC.encode(DeadLetter(job=job, reason=Reason.INTERNAL_ERROR, detail="no"), NOW)

    assert encoded.key == job.id.encode()


# --- the body -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, b""])
def test_an_empty_body_is_not_json(value: bytes | None) -> None:
    job = CODEC.decode(ARecord(value=value)).job

    assert CODEC.body(job) == Fault(Reason.NOT_JSON, "the body is empty")


@pytest.mark.parametrize(
    "value",
    [
        b"hello",
        b"{",
        b'{"a":NaN}',
        b"{'a':1}",
        b"\xff\xfe",
        b'{"a":"\xff"}',
        b" ",
        b"\x00",
        b"[" * 5_000,
    ],
)
def test_a_body_that_is_no_json_in_utf8_is_told_so(value: bytes) -> None:
    found = CODEC.body(replace(JOB, body=value))

    assert isinstance(found, Fault)
    assert found.reason is Reason.NOT_JSON
    assert len(found.detail) <= 300


@pytest.mark.parametrize("value", [b"null", b"7", b"[]", b'{"a":[1,null]}', b' {"a":"\xc3\xbc"}\n'])
def test_any_json_is_parsed_and_judged_elsewhere(value: bytes) -> None:
    assert CODEC.body(replace(JOB, body=value)) == json.loads(value)


@pytest.mark.parametrize("value", [b"not json", b"\xff\x00", b'{"b": 1,  "a":1}'])
def test_a_body_travels_byte_for_byte(value: bytes) -> None:
    job = CODEC.decode(ARecord(value=value)).job

    assert CODEC.encode(Hop("outlast.parked", job), NOW).value == value
    assert (
        CODEC.encode(DeadLetter(job=job, reason=Reason.NOT_JSON, detail="no"), NOW).value == value
    )


def test_the_size_counts_all_that_the_broker_counts() -> None:
    encoded = CODEC.encode(Hop("outlast.parked", JOB), NOW)
    bare = len(encoded.key) + len(encoded.value)
    headers = sum(len(name) + len(value or b"") for name, value in encoded.headers)

    assert bare + headers < encoded.size <= bare + headers + 10 * len(encoded.headers) + 100


# --- garbage --------------------------------------------------------------------------------

NAMES: Final = ("ce_id", "outlast-state", "outlast-replay", "outlast-key", "outlast-reason", "x")
garbage = st.builds(
    ARecord,
    topic=st.sampled_from(["outlast.jobs", "outlast.parked", "outlast.work.deepseek"]),
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=40),
    headers=st.lists(
        st.tuples(
            st.sampled_from(NAMES) | st.text(st.characters(codec="utf-8"), max_size=9),
            st.none() | st.binary(max_size=40) | st.sampled_from([BROUGHT, b"job-1", b"{}"]),
        ),
        max_size=8,
    ),
)


@given(garbage)
def test_whatever_is_read_can_be_dead_lettered_and_read_again(record: ARecord) -> None:
    decoded = CODEC.decode(record)
    CODEC.body(decoded.job)
    letter = DeadLetter(job=decoded.job, reason=Reason.BAD_HEADER, detail="garbage")
    again = CODEC.decode(
        ARecord(
            topic="outlast.dead-letters",
            key=b"k",
            value=CODEC.encode(letter, NOW).value,
            headers=CODEC.encode(letter, NOW).headers,
        )
    )

    assert again.fault is None
    assert again.job.id == decoded.job.id
    assert again.job.body == (record.value or b"")
    assert again.job.state == decoded.job.state
    assert again.job.key == decoded.job.key
    assert CODEC.decode(record) == decoded
