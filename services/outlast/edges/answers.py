"""Reads a result record back: what a backend gets of a run that ended."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

import orjson

from outlast.core.errors import JobFailed
from outlast.edges.codec import Record
from outlast_schemas import headers as h
from outlast_schemas.dead_letter import Reason
from outlast_schemas.result import Status

__all__ = ["Result", "acknowledged_by", "header", "reason_of", "result_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one run of a job ended.

    ``replays`` counts the runs before this one; ``body`` is the parsed answer, an OpenAI-shaped
    completion, embeddings list or error; ``provider`` and ``model`` say who answered, if anybody
    did; ``attempts`` counts the calls of all providers in this run; ``cost`` is in US dollars,
    where the provider reports it or its prices are configured; ``headers`` are the job's own.
    """

    job_id: str
    replays: int
    status: Status
    body: Any
    provider: str | None = None
    model: str | None = None
    route: str | None = None
    attempts: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: Decimal | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    _acknowledge: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    async def ack(self) -> None:
        """Say that it is handled: it will not come again. For ``results(…, ack="manual")``.

        It is committed within 50 ms when all is well, and when the stream is closed; acknowledged
        again, or in another mode, nothing happens.
        """
        if self._acknowledge is not None:
            self._acknowledge()

    @property
    def text(self) -> str | None:
        """The content of the first choice, when it is text."""
        try:
            content = self.body["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            return None
        return content if isinstance(content, str) else None

    def raise_for_status(self) -> "Result":
        """This result; raises ``JobFailed`` with the reason unless the run succeeded."""
        if self.status is Status.SUCCEEDED:
            return self
        error = self.body.get("error") if isinstance(self.body, dict) else None
        about = error if isinstance(error, dict) else {}
        why = f"{about.get('type', self.status.value)}: {about.get('message', 'no detail')}"
        raise JobFailed(f"job {self.job_id} ended as {self.status.value}: {why}")


def acknowledged_by(result: Result, acknowledge: Callable[[], None]) -> Result:
    """The same result, which can be acknowledged."""
    return replace(result, _acknowledge=acknowledge)


def result_of(record: Record) -> Result | None:
    """The result that a record holds; ``None`` when somebody wrote something else there."""
    headers = list(record.headers)
    try:
        return Result(
            job_id=_required(headers, h.SUBJECT),
            replays=int(_required(headers, h.REPLAYS)),
            status=Status(_required(headers, h.STATUS)),
            body=orjson.loads(record.value or b"null"),
            provider=header(headers, h.PROVIDER),
            model=header(headers, h.MODEL),
            route=header(headers, h.ROUTE),
            attempts=int(header(headers, h.ATTEMPTS) or 0),
            prompt_tokens=_number(header(headers, h.PROMPT_TOKENS)),
            completion_tokens=_number(header(headers, h.COMPLETION_TOKENS)),
            cost=_amount(header(headers, h.COST)),
            headers=_foreign(headers),
        )
    except ValueError:  # of a number, of a status, of JSON
        return None


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _amount(text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        return None


def _foreign(headers: Iterable[tuple[str, bytes | None]]) -> Mapping[str, bytes]:
    """The headers the publisher set for its own purposes."""
    ours = (*h.OURS, h.CONTENT_TYPE)
    return MappingProxyType(
        {name: raw for name, raw in headers if raw is not None and not name.startswith(ours)}
    )


def reason_of(result: Result) -> Reason | None:
    """Why the run did not succeed, if it says so in a word we know."""
    try:
        return Reason(result.body["error"]["type"])
    except (KeyError, TypeError, ValueError):
        return None


def header(headers: Iterable[tuple[str, bytes | None]], name: str) -> str | None:
    """The text of the first header of that name; absent, null and undecodable ones are ``None``."""
    for key, value in headers:
        if key == name and value is not None:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
    return None


def _required(headers: Iterable[tuple[str, bytes | None]], name: str) -> str:
    found = header(headers, name)
    if found is None:
        raise ValueError(name)
    return found
