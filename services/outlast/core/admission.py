"""Which published records are jobs: the headers, the body's shape, the route, the deadline."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from outlast.core.capability import CHAT, EMBEDDINGS, OPERATIONS, Operation
from outlast.core.policy import MAX_TTL_SECONDS, Catalogue, OnAmbiguous, Route
from outlast_schemas import headers as h
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job, Origin

__all__ = [
    "OPERATIONS",
    "Admitted",
    "Fault",
    "Terms",
    "admit",
    "derived_id",
    "fault_in_id",
    "terms",
]

NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "outlast")
ON_AMBIGUOUS: Final = ("alternate", "retry", "hold")
MAX_ID: Final = 128
_JOB_ID: Final = re.compile(rb"[ -~]{1,%d}" % MAX_ID)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
HEADER_ROOM: Final = 48 * 1024
"""Bytes of headers a job may bring; the rest of the 64 KB is for what Outlast adds."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record is not a job that can be served, in words for the one who published it."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the job's headers ask for. ``scope`` ``None`` allows every provider."""

    operation: Operation = CHAT
    scope: frozenset[str] | None = None
    on_ambiguous: OnAmbiguous | None = None
    results: str | None = None


_NOTHING_ASKED: Final = Terms()
_ASKING: Final = frozenset({h.OPERATION, h.ON_AMBIGUOUS, h.RESULTS, h.SCOPE})


@dataclass(frozen=True, slots=True)
class Admitted:
    """A job that can be served, with its state begun, and what its headers ask for."""

    job: Job
    route: Route
    terms: Terms


def derived_id(cluster: str, origin: Origin) -> str:
    """The id of a job whose publisher named none: the same for each redelivery of its record."""
    parts = (cluster, origin.topic, origin.partition, origin.offset, origin.appended)
    return str(uuid.uuid5(NAMESPACE, "/".join(map(str, parts))))


def fault_in_id(raw: bytes) -> Fault | None:
    """Whether ``ce_id`` cannot be a job id: 1 to 128 printable ASCII characters."""
    if _JOB_ID.fullmatch(raw):
        return None
    return _bad(h.ID, f"a job id is 1 to {MAX_ID} printable ASCII characters")


def admit(job: Job, body: object | Fault, catalogue: Catalogue) -> Admitted | Fault:
    """Check a published job and begin its state.

    Args:
        job: as decoded; its state holds ``accepted``, and of a replay the run and the attempts.
        body: the parsed body, or why it could not be parsed.
        catalogue: the configured routes and providers.
    """
    fault = _too_large(job, catalogue) or (body if isinstance(body, Fault) else None)
    if fault is not None:
        return fault
    found = _ours(job.headers)
    if isinstance(found, Fault):
        return found
    asked = _terms(found, catalogue)
    if isinstance(asked, Fault):
        return asked
    shape = _fault_in_shape(body, asked.operation)
    if shape is not None:
        return shape
    route = _route(found, cast(Mapping[str, object], body), catalogue)
    if isinstance(route, Fault):
        return route
    deadline = _deadline(found, job.state.accepted, catalogue.ttl_seconds(route))
    if isinstance(deadline, Fault):
        return deadline
    return Admitted(job.with_state(job.state.routed(route.name, deadline)), route, asked)


def terms(headers: h.Headers, catalogue: Catalogue) -> Terms | Fault:
    """Read what the headers ask for; null values count as absent, meaningless ones are faults."""
    found = _ours(headers)
    return found if isinstance(found, Fault) else _terms(found, catalogue)


def _ours(headers: h.Headers) -> dict[str, str] | Fault:
    """The text of our headers, of several the last."""
    found: dict[str, str] = {}
    for name, value in headers:
        if value is None or not name.startswith(h.OURS):
            continue
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return _bad(name, "it is not valid UTF-8")
        if not text.strip():
            return _bad(name, "it is empty")
        found[name] = text
    return found


def _terms(found: Mapping[str, str], catalogue: Catalogue) -> Terms | Fault:
    if _ASKING.isdisjoint(found):
        return _NOTHING_ASKED
    if (operation := found.get(h.OPERATION, CHAT)) not in OPERATIONS:
        return _bad(h.OPERATION, f"it is one of {', '.join(OPERATIONS)}")
    if (ambiguous := found.get(h.ON_AMBIGUOUS)) is not None and ambiguous not in ON_AMBIGUOUS:
        return _bad(h.ON_AMBIGUOUS, f"it is one of {', '.join(ON_AMBIGUOUS)}")
    if (results := found.get(h.RESULTS)) is not None and results not in catalogue.results:
        return _bad(h.RESULTS, f"it is one of {', '.join(sorted(catalogue.results))}")
    scope = _scope(found.get(h.SCOPE), catalogue)
    if isinstance(scope, Fault):
        return scope
    return Terms(
        operation=operation,
        scope=scope,
        on_ambiguous=cast(OnAmbiguous | None, ambiguous),
        results=results,
    )


def _scope(text: str | None, catalogue: Catalogue) -> frozenset[str] | Fault | None:
    if text is None:
        return None
    entries = frozenset(entry.strip() for entry in text.split(",") if entry.strip())
    if not entries:
        return Fault(Reason.SCOPE, f"{h.SCOPE} names nobody")
    unknown = [
        entry
        for entry in sorted(entries)
        if not entry.startswith("jurisdiction:") and entry not in catalogue.providers
    ]
    if unknown:
        known = ", ".join(sorted(catalogue.providers))
        return Fault(Reason.SCOPE, f"{h.SCOPE} names {', '.join(unknown)}; providers are {known}")
    return entries


def _too_large(job: Job, catalogue: Catalogue) -> Fault | None:
    if len(job.body) > catalogue.max_body_bytes:
        return Fault(
            Reason.TOO_LARGE,
            f"the body has {len(job.body):,} bytes; the limit is {catalogue.max_body_bytes:,} "
            "(kafka.max_body_bytes)",
        )
    size = len(job.key or b"")
    for name, value in job.headers:
        size += len(name) + len(value or b"")
    if size > HEADER_ROOM:
        return Fault(
            Reason.TOO_LARGE, f"headers and key have {size:,} bytes; room is {HEADER_ROOM:,}"
        )
    return None


def _fault_in_shape(body: object, operation: Operation) -> Fault | None:
    if not isinstance(body, dict):
        return Fault(Reason.BAD_REQUEST, "the body is JSON but not an object")
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        return Fault(Reason.BAD_REQUEST, "model is not a string")
    if operation == EMBEDDINGS:
        return _fault_in_input(body.get("input"))
    if body.get("input") and "messages" not in body:
        ask = f"the body has an input and no messages: for embeddings set {h.OPERATION}: embeddings"
        return Fault(Reason.BAD_REQUEST, ask)
    return _fault_in_messages(body.get("messages"))


def _fault_in_input(given: object) -> Fault | None:
    if not given:
        return Fault(Reason.BAD_REQUEST, "input is missing")
    if not isinstance(given, str | list):
        return Fault(Reason.BAD_REQUEST, "input is neither text nor a list")
    return None


def _fault_in_messages(messages: object) -> Fault | None:
    if not isinstance(messages, list) or not messages:
        return Fault(Reason.BAD_REQUEST, "messages is not a list with at least one message")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return Fault(Reason.BAD_REQUEST, f"messages[{number}] is not an object with a role")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            return Fault(
                Reason.BAD_REQUEST, f"messages[{number}].content is neither text nor a list"
            )
    return None


def _route(
    found: Mapping[str, str], body: Mapping[str, object], catalogue: Catalogue
) -> Route | Fault:
    asked = found.get(h.ROUTE)
    named = catalogue.routes.get(asked) if asked is not None else None
    if asked is None:
        model = cast(str | None, body.get("model"))
        name = model if model is not None else catalogue.defaults.route
        named = catalogue.route(name) if name is not None else None
        asked = name if name is not None else "(none: the body names no model)"
    if named is not None:
        return named
    known = ", ".join(sorted(catalogue.routes)) or "(none configured)"
    return Fault(
        Reason.UNKNOWN_ROUTE,
        f"{asked[:200]} is neither a route nor a configured provider/model; routes are {known}",
    )


def _deadline(found: Mapping[str, str], accepted: int, ttl_seconds: float) -> int | Fault:
    """Epoch ms; at the earliest 0, at the latest seven days after the job was accepted."""
    instant, span = _instant(found.get(h.DEADLINE)), _span(found.get(h.TTL_SECONDS))
    if isinstance(instant, Fault):
        return instant
    if isinstance(span, Fault):
        return span
    latest = accepted + MAX_TTL_SECONDS * 1000
    if instant is not None:
        return max(0, min(latest, instant))
    seconds = ttl_seconds if span is None else span
    return min(latest, accepted + int(min(seconds, MAX_TTL_SECONDS) * 1000))


def _instant(text: str | None) -> int | Fault | None:
    if text is None:
        return None
    try:
        since = datetime.fromisoformat(text) - EPOCH
    except (ValueError, TypeError):  # no instant, or one without a zone
        return _bad(h.DEADLINE, "it is an RFC 3339 instant such as 2026-03-30T06:00:00Z")
    return since // timedelta(milliseconds=1)


def _span(text: str | None) -> float | Fault | None:
    if text is None:
        return None
    return _positive(text) or _bad(h.TTL_SECONDS, "it is a number of seconds above 0")


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def _bad(name: str, rule: str) -> Fault:
    return Fault(Reason.BAD_HEADER, f"{name}: {rule}")
