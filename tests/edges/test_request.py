"""What a client may be given by mistake: refused with a reason, never with a stray exception."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from outlast.core.errors import PublishRefused
from outlast.edges.request import Envelope, Terms
from outlast.edges.settings import Kafka

NOW = datetime(2026, 3, 30, tzinfo=UTC)
EARLY = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))


@pytest.mark.parametrize(
    ("body", "terms"),
    [
        ("\udcff", {}),  # what a shell makes of bytes that are no UTF-8
        ({"messages": {1, 2}}, {}),
        ({}, {"headers": {"a": 1}}),
        ({}, {"headers": {"a": None}}),
        ({}, {"operation": "images"}),
        ({}, {"job_id": 5}),
        ({}, {"job_id": "x" * 129}),
        ({}, {"route": "\udcff"}),
        ({}, {"deadline": EARLY}),
    ],
)
def test_what_cannot_be_sent_is_refused(body: Any, terms: dict[str, Any]) -> None:
    job_id = terms.pop("job_id", "j-1")

    with pytest.raises(PublishRefused):
        Envelope(Terms(**terms), Kafka(), source="test").encode(body, job_id, NOW)


def test_what_can_be_sent_is_keyed_by_the_job_id() -> None:
    record = Envelope(Terms(), Kafka(), source="test").encode({"messages": []}, "j-1", NOW)

    assert (record.topic, record.key) == ("outlast.jobs", b"j-1")


@pytest.mark.parametrize("line", [b'{"a": 1}\n', b'{"a": 1}\r\n', '{"a": 1}', b'  {"a": 1}'])
def test_a_line_of_a_file_is_the_same_job_with_its_end_and_without(line: bytes | str) -> None:
    record = Envelope(Terms(), Kafka(), source="test").encode(line, "j-1", NOW)

    assert record.value == b'{"a": 1}'
