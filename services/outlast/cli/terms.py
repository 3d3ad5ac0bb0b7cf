"""The options of ``outlast submit`` as the terms of jobs; what is wrong is said by option."""

from collections.abc import Sequence
from math import isfinite
from typing import Final

import typer

from outlast.cli.times import instant
from outlast.client.job import PublishTerms
from outlast.core.admission import fault_in_id
from outlast.core.capability import Operation
from outlast.core.policy import OnAmbiguous
from outlast_schemas import headers as h

__all__ = ["check_batch", "check_id", "headers_of", "refuse_empty", "terms_of"]

OPTIONS: Final = {
    h.ID: "--job-id",
    h.ROUTE: "--route",
    h.OPERATION: "--operation",
    h.TTL_SECONDS: "--ttl",
    h.DEADLINE: "--deadline",
    h.SCOPE: "--scope",
    h.ON_AMBIGUOUS: "--on-ambiguous",
    h.RESULTS: "--results",
}
FREE: Final = frozenset({h.TENANT, h.LANE})
"""Headers of ours that have no option."""
LONGEST_BATCH: Final = 108


def terms_of(
    *,
    route: str | None,
    operation: Operation | None,
    ttl: float | None,
    deadline: str | None,
    scope: Sequence[str] | None,
    on_ambiguous: OnAmbiguous | None,
    results: str | None,
    header: Sequence[str] | None,
) -> PublishTerms:
    """The terms for all jobs of one command. Raises usage errors that name the option."""
    for name, value in (("--route", route), ("--results", results)):
        refuse_empty(name, value)
    for each in scope or ():
        refuse_empty("--scope", each)
    if ttl is not None and deadline is not None:
        raise typer.BadParameter("--ttl and --deadline exclude each other")
    if ttl is not None and not (isfinite(ttl) and ttl > 0):
        raise typer.BadParameter("a number of seconds above 0 was expected", param_hint="--ttl")
    return PublishTerms(
        route=route,
        operation=operation,
        ttl=ttl,
        deadline=None if deadline is None else instant(deadline, "--deadline"),
        scope=[part for each in scope for part in each.split(",")] if scope else None,
        on_ambiguous=on_ambiguous,
        results=results,
        headers=headers_of(header or ()),
    )


def refuse_empty(option: str, value: str | None) -> None:
    """An empty value was meant to be something: a variable that is not set, mostly."""
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty", param_hint=option)


def check_id(job_id: str | None) -> None:
    """Raise a usage error when it is given and can be no id."""
    if job_id is not None and (not job_id.isascii() or fault_in_id(job_id.encode())):
        raise typer.BadParameter(
            "1 to 128 printable ASCII characters were expected", param_hint="--job-id"
        )


def check_batch(batch: str | None) -> None:
    """Raise a usage error when it is given and ids cannot begin with it."""
    if batch is None:
        return
    if len(batch) > LONGEST_BATCH or not batch.isascii() or fault_in_id(batch.encode()):
        raise typer.BadParameter(
            f"1 to {LONGEST_BATCH} printable ASCII characters were expected", param_hint="--batch"
        )


def headers_of(pairs: Sequence[str]) -> dict[str, str | bytes]:
    """``NAME=VALUE`` of each. Raises usage errors; ours have options of their own."""
    headers: dict[str, str | bytes] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter("NAME=VALUE was expected", param_hint="--header")
        if name.startswith(h.OURS) and name not in FREE:
            way = f"use {OPTIONS[name]}" if name in OPTIONS else "it is Outlast's own"
            raise typer.BadParameter(f"not for {name}: {way}", param_hint="--header")
        headers[name] = value
    return headers
