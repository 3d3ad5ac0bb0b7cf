"""Bytes to values and back: Kafka records to jobs, outgoing values to Kafka records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

import orjson

from outlast.core.admission import Fault, derived_id, fault_in_id
from outlast.core.lifecycle import Hop, Outgoing
from outlast_schemas import headers as h
from outlast_schemas.dead_letter import DeadLetter, Reason
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Result
from outlast_schemas.state import State
from outlast_schemas.topics import Topics

__all__ = ["Codec", "Decoded", "Encoded", "Record"]

KEPT_BODY: Final = 64 * 1024
"""What a dead letter keeps of a body that is too large."""
WRITABLE_DEPTH: Final = 100
"""A body with fewer brackets than this cannot be nested too deeply."""
KEPT_HEADER: Final = 1024
KEPT_HEADERS: Final = 16
MAX_REPLAYS: Final = 1_000


class Record(Protocol):
    """What is read of a Kafka record; aiokafka's ``ConsumerRecord`` has this shape."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A job, and what is wrong with its record when something is."""

    job: Job
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record ready for the producer."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes | None]]

    @property
    def size(self) -> int:
        """Bytes that the broker will count, but for a few of framing."""
        headers = sum(len(name.encode()) + len(value or b"") + 10 for name, value in self.headers)
        return len(self.key) + len(self.value) + headers + 100


class Codec:
    """One cluster's codec; the cluster id goes into the ids derived for jobs without one."""

    def __init__(self, cluster: str, topics: Topics, max_body_bytes: int = KEPT_BODY) -> None:
        """Know the cluster, the topics whose headers are special, and the largest body."""
        self._cluster = cluster
        self._jobs = topics.jobs
        self._dead_letters = topics.dead_letters
        self._kept_body = min(KEPT_BODY, max_body_bytes)

    def decode(self, record: Record) -> Decoded:
        """Read a record; a job always comes out, so that even garbage can be dead-lettered."""
        origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
        found: dict[str, bytes] = {}
        kept: list[tuple[str, bytes | None]] = []
        for pair in record.headers:
            name, value = pair
            if value is not None and name in _LOOKED_AT:
                found[name] = value
            if name not in _REWRITTEN:
                kept.append(pair)
        job_id, fault = self._id(found.get(h.ID), origin)
        state, misfit = self._state(record, found)
        key = self._publisher_key(record, found)
        job = Job.read(origin, job_id, key, tuple(kept), record.value or b"", state)
        return Decoded(job, fault or misfit)

    def _state(self, record: Record, found: Mapping[str, bytes]) -> tuple[State, Fault | None]:
        """What is known of the job; a published one begins, whatever its publisher says of it."""
        raw = found.get(h.STATE)
        if record.topic == self._jobs:
            fresh = _begun(record)
            return (_replayed(raw, fresh) if h.REPLAY in found else fresh), None
        if raw is None:
            return _begun(record), Fault(Reason.BAD_HEADER, f"{h.STATE} is missing")
        try:
            return _writable(raw), None
        except MISFITS as error:
            return _begun(record), Fault(Reason.BAD_HEADER, f"{h.STATE}: {error!r}"[:300])

    def _publisher_key(self, record: Record, found: Mapping[str, bytes]) -> bytes | None:
        """What the publisher keyed by: the record's key, until it travels as ``outlast-key``."""
        if record.topic == self._jobs and h.REPLAY not in found:
            return record.key
        return found.get(h.KEY)

    def _id(self, raw: bytes | None, origin: Origin) -> tuple[str, Fault | None]:
        if raw is None:
            return derived_id(self._cluster, origin), None
        fault = fault_in_id(raw)
        return (derived_id(self._cluster, origin) if fault else raw.decode()), fault

    def body(self, job: Job) -> object | Fault:
        """The parsed body, or the fault that it is no JSON in UTF-8."""
        if not job.body:
            return Fault(Reason.NOT_JSON, "the body is empty")
        try:
            parsed: object = orjson.loads(job.body)
        except orjson.JSONDecodeError as error:
            return Fault(Reason.NOT_JSON, f"the body is not JSON: {error}"[:300])
        if job.body.count(b"[") + job.body.count(b"{") > WRITABLE_DEPTH and not _writes(parsed):
            return Fault(Reason.NOT_JSON, "the body is nested too deeply to be written again")
        return parsed

    def encode(self, outgoing: Outgoing, now: int) -> Encoded:
        """Write a record; ``now`` is epoch ms, for ``ce_time`` of a result."""
        match outgoing:
            case Hop():
                job = outgoing.job
                return Encoded(outgoing.topic, job.id.encode(), job.body, _job_headers(job))
            case DeadLetter():
                return self._dead_letter(outgoing)
            case Result():
                return _result(outgoing, now)

    def _dead_letter(self, letter: DeadLetter) -> Encoded:
        job = letter.job
        cut = letter.reason is Reason.TOO_LARGE
        headers = _job_headers(_trimmed(job) if cut else job)
        headers += [
            (h.REASON, letter.reason.value.encode()),
            (h.DETAIL, letter.detail.encode()[:1_000].decode(errors="ignore").encode()),
            (h.FROM, str(job.origin).encode()),
        ]
        body = job.body[: self._kept_body] if cut else job.body
        return Encoded(self._dead_letters, job.id.encode(), body, headers)


MISFITS: Final = (orjson.JSONDecodeError, KeyError, TypeError, ValueError)
_LOOKED_AT: Final = frozenset({h.ID, h.STATE, h.KEY, h.REPLAY})
_REWRITTEN: Final = frozenset({h.STATE, h.KEY, h.REASON, h.DETAIL, h.FROM})
_NOT_ON_RESULTS: Final = frozenset(
    {
        h.ID,
        h.TYPE,
        h.SOURCE,
        h.TIME,
        h.SPECVERSION,
        h.SUBJECT,
        h.CONTENT_TYPE,
        h.OPERATION,
        h.DEADLINE,
        h.TTL_SECONDS,
        h.SCOPE,
        h.ON_AMBIGUOUS,
        h.RESULTS,
        h.ROUTE,
        h.REPLAY,
        h.STATUS,
        h.REPLAYS,
        h.PROVIDER,
        h.MODEL,
        h.ATTEMPTS,
        h.PROMPT_TOKENS,
        h.COMPLETION_TOKENS,
        h.COST,
    }
)


def _writes(parsed: object) -> bool:
    """Whether orjson can write it: it reads deeper than it writes."""
    try:
        orjson.dumps(parsed)
    except TypeError:
        return False
    return True


def _object(raw: bytes) -> Mapping[str, object]:
    parsed = orjson.loads(raw)
    if not isinstance(parsed, dict):
        raise TypeError("an object was expected")
    return parsed


def _begun(record: Record) -> State:
    return State.begun(record.timestamp)


def _replayed(raw: bytes | None, fresh: State) -> State:
    """The run and the attempts that a replay brought along; a state that misfits is ignored."""
    try:
        brought = _writable(raw or b"")
    except MISFITS:
        return fresh
    replays = min(brought.replays, MAX_REPLAYS)
    return replace(fresh, replays=replays, attempts=brought.attempts, extra=brought.extra)


def _writable(raw: bytes) -> State:
    """Read a state that can be written again.

    Unknown fields are kept, and what is nested deeply can be read but not written.
    """
    state = State.from_json(_object(raw))
    if state.extra or (state.attempts and any(attempt.extra for attempt in state.attempts)):
        orjson.dumps(state.to_json())
    return state


def _job_headers(job: Job) -> list[tuple[str, bytes | None]]:
    headers: list[tuple[str, bytes | None]] = [(h.ID, job.id.encode())]
    headers += [pair for pair in job.headers if pair[0] != h.ID]
    headers += _key(job)
    headers.append((h.STATE, orjson.dumps(job.state.to_json())))
    return headers


def _trimmed(job: Job) -> Job:
    """Of a record that is too large: our headers and the key, as far as they are of sane size."""
    ours = [pair for pair in job.headers if pair[0].startswith(h.OURS)]
    small = tuple(pair for pair in ours if len(pair[0]) + len(pair[1] or b"") <= KEPT_HEADER)
    key = job.key if len(job.key or b"") <= KEPT_HEADER else None
    return replace(job, headers=small[:KEPT_HEADERS], key=key)


def _key(job: Job) -> list[tuple[str, bytes | None]]:
    return [] if job.key is None else [(h.KEY, job.key)]


def _result(result: Result, now: int) -> Encoded:
    job, served = result.job, result.served
    if result.reason is Reason.TOO_LARGE:
        job = _trimmed(job)
    headers: list[tuple[str, bytes | None]] = [
        (h.SPECVERSION, b"1.0"),
        (h.ID, f"{job.id}/{job.state.replays}".encode()),
        (h.TYPE, h.RESULT_TYPE.encode()),
        (h.SOURCE, b"outlast"),
        (h.SUBJECT, job.id.encode()),
        (h.TIME, datetime.fromtimestamp(now / 1000, UTC).isoformat().encode()),
        (h.CONTENT_TYPE, b"application/json"),
        (h.STATUS, result.status.value.encode()),
        (h.REPLAYS, str(job.state.replays).encode()),
        *([(h.ROUTE, job.state.route.encode())] if job.state.route else []),
        (h.ATTEMPTS, str(job.state.calls).encode()),
        *_served_headers(result),
        *(pair for pair in job.headers if pair[0] not in _NOT_ON_RESULTS),
        *_key(job),
        (h.STATE, orjson.dumps(job.state.to_json())),
    ]
    body = served.body if served is not None else orjson.dumps(result.error_json())
    return Encoded(result.topic, job.id.encode(), body, headers)


def _served_headers(result: Result) -> Iterable[tuple[str, bytes | None]]:
    served = result.served
    if served is None:
        return
    yield h.PROVIDER, served.provider.encode()
    yield h.MODEL, served.model.encode()
    if served.prompt_tokens is not None:
        yield h.PROMPT_TOKENS, str(served.prompt_tokens).encode()
    if served.completion_tokens is not None:
        yield h.COMPLETION_TOKENS, str(served.completion_tokens).encode()
    if served.cost is not None:
        yield h.COST, _decimal(served.cost)


def _decimal(amount: float) -> bytes:
    """The amount in plain digits, at most ten after the point: no exponent, no float's noise."""
    return f"{abs(amount):.10f}".rstrip("0").rstrip(".").encode()
