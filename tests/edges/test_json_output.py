"""The keys of ``--json`` are public: here they are written down once more, and must agree."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest

from outlast.audit import Report
from outlast.cli.answers import fields_of as fields_of_result
from outlast.cli.dead_letters import fields_of_letter
from outlast.cli.doctor import fields_of as fields_of_doctor
from outlast.cli.publishing import fields_of_job
from outlast.cli.replay import fields_of_run
from outlast.cli.status import fields_of_status
from outlast.client import Job as Accepted
from outlast.core.errors import KafkaUnreachable
from outlast.core.overview import Backlog, ProviderRow
from outlast.doctor import Finding, Severity
from outlast.doctor.finding import Check
from outlast.edges.answers import Result
from outlast.edges.kafka.topic_plan import Beginning, Change, Creation, Growth
from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Status
from outlast_schemas.state import State

ATTEMPT = Attempt(n=1, provider="openai", model="m", at=1, ms=2, verdict=VerdictWord.AMBIGUOUS)
LETTER = DeadLetter(
    job=Job(
        id="a",
        body=b"{}",
        headers=(),
        state=State(accepted=1, deadline=2, route="chat", attempts=(ATTEMPT,)),
        origin=Origin("outlast.dead-letters", 3, 7, 1_774_820_100_123),
    ),
    reason=Reason.AMBIGUOUS,
    detail="why",
)
ROW = ProviderRow(
    provider="openai",
    model="*",
    verdict="ramp",
    evidence="a probe succeeded",
    since=1_774_820_100_123,
    permits=4,
    paused_until=1_774_820_102_123,
    workers=2,
    in_flight=3,
    limit=10,
    rate=1.4,
    failing=0.25,
    first_token_seconds=0.5,
    total_seconds=2.5,
    backlog=7,
    oldest_seconds=12.5,
    failed_over_in=40,
    failed_over_out=2,
    parked=9,
    parked_at_least=True,
)
GOLDEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "submit": (
        fields_of_job(
            Accepted(id="a", topic="t", partition=1, offset=2, accepted=3, results="default")
        ),
        {"job_id": "a", "topic": "t", "partition": 1, "offset": 2, "accepted": 3},
    ),
    "results": (
        fields_of_result(
            Result(
                job_id="a",
                replays=1,
                status=Status.SUCCEEDED,
                body={"id": "x"},
                provider="openai",
                model="m",
                route="chat",
                attempts=2,
                prompt_tokens=3,
                completion_tokens=4,
                cost=Decimal("0.0125"),
            ),
            1_774_820_100_123,
        ),
        {
            "job_id": "a",
            "replays": 1,
            "status": "succeeded",
            "provider": "openai",
            "model": "m",
            "route": "chat",
            "attempts": 2,
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "cost": 0.0125,
            "appended": 1_774_820_100_123,
            "body": {"id": "x"},
        },
    ),
    "dead-letters": (
        fields_of_letter(LETTER),
        {
            "job_id": "a",
            "replays": 0,
            "reason": "ambiguous",
            "detail": "why",
            "tried": ["openai"],
            "topic": "outlast.dead-letters",
            "partition": 3,
            "offset": 7,
            "appended": 1_774_820_100_123,
        },
    ),
    "replay": (
        fields_of_run(LETTER, "r"),
        {"job_id": "a", "replays": 1, "reason": "ambiguous", "run": "r"},
    ),
    "audit": (
        Report(accepted=2, open=1, open_ids=("a",), lost=("b",)).to_json(),
        {
            "accepted": 2,
            "succeeded": 0,
            "dead_lettered": 0,
            "expired": 0,
            "cancelled": 0,
            "open": 1,
            "open_ids": ["a"],
            "lost": 1,
            "lost_ids": ["b"],
            "conflicts": 0,
            "conflict_ids": [],
        },
    ),
    "topics create": (
        Creation(topic="t", partitions=12, replicas=3, settings={"retention.ms": "5"}).to_json(),
        {
            "kind": "create",
            "topic": "t",
            "partitions": 12,
            "replicas": 3,
            "settings": {"retention.ms": "5"},
        },
    ),
    "topics set": (
        Change(topic="t", setting="retention.ms", found=None, wanted="5").to_json(),
        {"kind": "set", "topic": "t", "setting": "retention.ms", "is": None, "wanted": "5"},
    ),
    "topics grow": (
        Growth(topic="t", found=3, wanted=12).to_json(),
        {"kind": "grow", "topic": "t", "is": 3, "wanted": 12},
    ),
    "topics begin": (
        Beginning(group="g", topic="t", partitions=(0, 1), records=5).to_json(),
        {"kind": "begin", "topic": "t", "group": "g", "partitions": [0, 1], "records": 5},
    ),
    "providers": (
        ROW.to_json(),
        {
            "provider": "openai",
            "model": "*",
            "verdict": "ramp",
            "evidence": "a probe succeeded",
            "since": 1_774_820_100_123,
            "permits": 4,
            "paused_until": 1_774_820_102_123,
            "workers": 2,
            "in_flight": 3,
            "limit": 10,
            "rate": 1.4,
            "failing": 0.25,
            "first_token_seconds": 0.5,
            "total_seconds": 2.5,
            "backlog": 7,
            "oldest_seconds": 12.5,
            "failed_over_in": 40,
            "failed_over_out": 2,
            "parked": 9,
            "parked_at_least": True,
        },
    ),
    "status": (
        fields_of_status(
            {"outlast.parked": Backlog(11, 1.5), "outlast.jobs": Backlog(0)},
            (ROW, replace(ROW, provider="local", parked=0, failed_over_in=2)),
            11,
        ),
        {
            "topics": {
                "outlast.parked": {"jobs": 11, "oldest_seconds": 1.5},
                "outlast.jobs": {"jobs": 0, "oldest_seconds": None},
            },
            "parked": 11,
            "providers": {"openai": "ramp", "local": "ramp"},
            "parked_for": {"openai": 9, "local": 0},
            "parked_at_least": True,
            "failed_over": 42,
        },
    ),
    "doctor": (
        fields_of_doctor(
            [
                Finding(check=Check.CLOCK, severity=Severity.OK, what="fine"),
                Finding(check=Check.KEYS, severity=Severity.PROBLEM, what="no", remedy="set it"),
            ],
            KafkaUnreachable("nobody"),
        ),
        {
            "problems": 1,
            "advice": 0,
            "unreachable": "nobody",
            "findings": [
                {"check": "clock", "severity": "ok", "what": "fine", "remedy": None},
                {"check": "keys", "severity": "problem", "what": "no", "remedy": "set it"},
            ],
        },
    ),
}


@pytest.mark.parametrize("command", GOLDEN)
def test_the_keys_of_json_output_are_these(command: str) -> None:
    printed, golden = GOLDEN[command]

    assert json.loads(orjson.dumps(printed)) == golden
    assert list(printed) == list(golden)


def test_one_word_means_one_thing_in_every_command() -> None:
    """No command says ``id`` or ``at`` where another says ``job_id`` or ``appended``."""
    keys = {key for printed, _ in GOLDEN.values() for key in printed}

    assert keys.isdisjoint({"id", "at", "time", "timestamp", "age_seconds"})
