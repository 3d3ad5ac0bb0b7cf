"""Makes the record of a job that a client publishes, and refuses what could not become one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Final

import orjson

from outlast.core.admission import HEADER_ROOM, ON_AMBIGUOUS, fault_in_id
from outlast.core.errors import PublishRefused
from outlast.edges.codec import Encoded
from outlast.edges.settings import Kafka
from outlast_schemas import headers as h
from outlast_schemas.topics import Topics

__all__ = ["Terms", "encode"]

FREE: Final = frozenset({h.OPERATION, h.TENANT, h.LANE})
"""Headers of ours that have no argument of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The arguments of ``publish``; ``ttl`` in seconds."""

    job_id: str
    route: str | None = None
    ttl: float | timedelta | None = None
    deadline: datetime | None = None
    scope: Iterable[str] | None = None
    on_ambiguous: str | None = None
    results: str | None = None
    headers: Mapping[str, str | bytes] = field(default_factory=dict)


def encode(
    body: Mapping[str, object] | bytes | str,
    terms: Terms,
    kafka: Kafka,
    *,
    source: str,
    now: datetime,
) -> Encoded:
    """The record of the job. Raises ``PublishRefused`` that says which argument is wrong."""
    try:
        if fault_in_id(terms.job_id.encode(errors="replace")) or not terms.job_id.isascii():
            raise PublishRefused("job_id is 1 to 128 printable ASCII characters")
        value = _body(body)
        headers = [
            *_cloud_event(terms.job_id, source, now),
            *_terms(terms),
            *_further(terms.headers),
        ]
        size = sum(len(name) + len(raw) for name, raw in headers)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise PublishRefused(f"an argument cannot be sent: {error}") from error
    if len(value) > kafka.max_body_bytes:
        raise PublishRefused(
            f"the body has {len(value):,} bytes; the limit is {kafka.max_body_bytes:,} "
            "(kafka.max_body_bytes)"
        )
    if size > HEADER_ROOM:
        raise PublishRefused(f"the headers have {size:,} bytes; room is {HEADER_ROOM:,}")
    return Encoded(Topics(kafka.prefix).jobs, terms.job_id.encode(), value, [*headers])


def _body(body: Mapping[str, object] | bytes | str) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    try:
        return orjson.dumps(dict(body))
    except (TypeError, ValueError) as error:
        raise PublishRefused(f"the body cannot be written as JSON: {error}") from error


def _cloud_event(job_id: str, source: str, now: datetime) -> Iterator[tuple[str, bytes]]:
    yield h.SPECVERSION, b"1.0"
    yield h.ID, job_id.encode()
    yield h.TYPE, h.JOB_TYPE.encode()
    yield h.SOURCE, source.encode()
    yield h.TIME, _instant(now).encode()


def _terms(terms: Terms) -> Iterator[tuple[str, bytes]]:
    if terms.route is not None:
        yield h.ROUTE, _word("route", terms.route)
    if terms.results is not None:
        yield h.RESULTS, _word("results", terms.results)
    if terms.on_ambiguous is not None:
        if terms.on_ambiguous not in ON_AMBIGUOUS:
            raise PublishRefused(f"on_ambiguous is one of {', '.join(ON_AMBIGUOUS)}")
        yield h.ON_AMBIGUOUS, terms.on_ambiguous.encode()
    if terms.scope is not None:
        yield h.SCOPE, _scope(terms.scope)
    yield from _time(terms)


def _time(terms: Terms) -> Iterator[tuple[str, bytes]]:
    if terms.ttl is not None and terms.deadline is not None:
        raise PublishRefused("ttl and deadline exclude each other")
    if terms.ttl is not None:
        ttl = terms.ttl.total_seconds() if isinstance(terms.ttl, timedelta) else terms.ttl
        if not (isfinite(ttl) and ttl > 0):
            raise PublishRefused("ttl is a number of seconds above 0, or a timedelta")
        yield h.TTL_SECONDS, str(ttl).encode()
    if terms.deadline is not None:
        if terms.deadline.tzinfo is None:
            raise PublishRefused("deadline needs a time zone, such as datetime.now(UTC) has")
        yield h.DEADLINE, _instant(terms.deadline).encode()


def _scope(scope: Iterable[str]) -> bytes:
    entries = [scope] if isinstance(scope, str) else list(scope)
    if not entries or not all(entry.strip() and "," not in entry for entry in entries):
        raise PublishRefused("scope is a list of providers, or of jurisdiction:<name>")
    return ",".join(entry.strip() for entry in entries).encode()


def _further(headers: Mapping[str, str | bytes]) -> Iterator[tuple[str, bytes]]:
    for name, value in headers.items():
        if name.startswith(h.OURS) and name not in FREE:
            raise PublishRefused(f"the header {name} is Outlast's own: use the argument for it")
        yield name, value.encode() if isinstance(value, str) else value


def _word(name: str, value: str) -> bytes:
    if not value.strip():
        raise PublishRefused(f"{name} is empty")
    return value.encode()


def _instant(when: datetime) -> str:
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
