"""Makes the records of jobs that a client publishes, and refuses what could not become one."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Final

import orjson

from outlast.core.admission import HEADER_ROOM, ON_AMBIGUOUS, fault_in_id
from outlast.core.capability import OPERATIONS
from outlast.core.errors import PublishRefused
from outlast.edges.codec import Encoded
from outlast.edges.settings import Kafka
from outlast_schemas import headers as h
from outlast_schemas.topics import Topics

__all__ = ["Body", "Envelope", "Terms", "written"]

Body = Mapping[str, object] | bytes | str
"""A request: what is no bytes or text is written as JSON."""

FREE: Final = frozenset({h.TENANT, h.LANE})
"""Headers of ours that have no argument of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for a job beside its body; ``ttl`` in seconds."""

    route: str | None = None
    operation: str | None = None
    ttl: float | timedelta | None = None
    deadline: datetime | None = None
    scope: Iterable[str] | None = None
    on_ambiguous: str | None = None
    results: str | None = None
    headers: Mapping[str, str | bytes] | None = field(default=None)

    def __post_init__(self) -> None:
        """Keep a scope that can be read only once: it is read for many jobs."""
        if isinstance(self.scope, Iterator):
            object.__setattr__(self, "scope", tuple(self.scope))


class Envelope:
    """The part of the records that jobs on the same terms have in common, made once."""

    def __init__(self, terms: Terms, kafka: Kafka, *, source: str) -> None:
        """Raises ``PublishRefused`` that says which of the terms is wrong."""
        self._topic = Topics(kafka.prefix).jobs
        self._max_body_bytes = kafka.max_body_bytes
        try:
            self._source = source.encode()
            self._headers = [*_terms(terms), *_further(terms.headers or {})]
            size = sum(len(name) + len(raw) for name, raw in self._headers)
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise PublishRefused(f"an argument cannot be sent: {error}") from error
        if size > HEADER_ROOM:
            raise PublishRefused(f"the headers have {size:,} bytes; room is {HEADER_ROOM:,}")

    def encode(self, body: Body, job_id: str, now: datetime) -> Encoded:
        """The record of one job. Raises ``PublishRefused`` when the id or the body is wrong."""
        key, value = _id(job_id), written(body)
        if len(value) > self._max_body_bytes:
            raise PublishRefused(
                f"the body has {len(value):,} bytes; the limit is {self._max_body_bytes:,} "
                "(kafka.max_body_bytes)"
            )
        headers: list[tuple[str, bytes | None]] = [
            (h.SPECVERSION, b"1.0"),
            (h.ID, key),
            (h.TYPE, _JOB_TYPE),
            (h.SOURCE, self._source),
            (h.TIME, _instant(now).encode()),
            *self._headers,
        ]
        return Encoded(self._topic, key, value, headers)


_JOB_TYPE: Final = h.JOB_TYPE.encode()


def _id(job_id: str) -> bytes:
    try:
        key = job_id.encode("ascii")
    except (AttributeError, UnicodeEncodeError):
        key = b""
    if fault_in_id(key):
        raise PublishRefused("job_id is 1 to 128 printable ASCII characters")
    return key


def written(body: Body) -> bytes:
    """The body as it is published, or ``PublishRefused``.

    White space at the ends is no part of a request: a line of a file ends with some, and with and
    without it the same job would be two.
    """
    try:
        if isinstance(body, Mapping):
            return orjson.dumps(dict(body))
        value = (body.encode() if isinstance(body, str) else bytes(memoryview(body))).strip()
    except (TypeError, ValueError) as error:
        raise PublishRefused(f"the body cannot be written as JSON: {error}") from error
    if not value:
        raise PublishRefused("the body is empty")
    return value


def _terms(terms: Terms) -> Iterator[tuple[str, bytes]]:
    if terms.route is not None:
        yield h.ROUTE, _word("route", terms.route)
    if terms.results is not None:
        yield h.RESULTS, _word("results", terms.results)
    if terms.operation is not None:
        yield h.OPERATION, _one_of("operation", terms.operation, OPERATIONS)
    if terms.on_ambiguous is not None:
        yield h.ON_AMBIGUOUS, _one_of("on_ambiguous", terms.on_ambiguous, ON_AMBIGUOUS)
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
        if getattr(terms.deadline, "tzinfo", None) is None:
            raise PublishRefused("deadline is a datetime with a time zone, as datetime.now(UTC) is")
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


def _one_of(name: str, value: str, known: tuple[str, ...]) -> bytes:
    if value not in known:
        raise PublishRefused(f"{name} is one of {', '.join(known)}")
    return value.encode()


def _instant(when: datetime) -> str:
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
