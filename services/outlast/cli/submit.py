"""``outlast submit``: publish jobs from the command line."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer
import uuid_utils
from rich.progress import Progress

from outlast.cli.bodies import bodies_of
from outlast.cli.invocation import settings_of
from outlast.cli.terminal import err, line, print_json
from outlast.client import AsyncClient, Job
from outlast.core.policy import Catalogue, OnAmbiguous
from outlast.edges.settings import Kafka

__all__ = ["register"]

AT_ONCE: Final = 500
"""Publishes in flight."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Publish jobs: a question, JSON bodies from a file, or standard input (-).")(
        submit
    )


def submit(
    context: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(help="The user's message; - reads a message or JSON lines from stdin."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="PATH", help="JSON lines, one body each; - is stdin."),
    ] = None,
    route: Annotated[str | None, typer.Option(help="The route; else the body's model.")] = None,
    model: Annotated[
        str | None, typer.Option(help="For a message: a route, or provider/model.")
    ] = None,
    ttl: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long the answer is wanted.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Such as 2026-03-30T06:00:00Z.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="A provider, or jurisdiction:<name>, that may see it; repeatable."),
    ] = None,
    on_ambiguous: Annotated[
        OnAmbiguous | None, typer.Option(help="When a call may have been executed.")
    ] = None,
    results: Annotated[str | None, typer.Option(help="The name of the result topic.")] = None,
    job_id: Annotated[str | None, typer.Option(help="The id, for a single job.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A further header; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Publish, and print the id of each job that the broker has acknowledged."""
    kafka = settings_of(context).kafka
    bodies = bodies_of(text, file, model)
    for number, body in enumerate(bodies, 1):
        if len(body) > kafka.max_body_bytes:
            raise typer.BadParameter(
                f"body {number} has {len(body):,} bytes; the limit is {kafka.max_body_bytes:,} "
                "(kafka.max_body_bytes); nothing was published"
            )
    if job_id is not None and len(bodies) > 1:
        raise typer.BadParameter("it is for a single job", param_hint="--job-id")
    terms: dict[str, Any] = {
        "route": route,
        "ttl": ttl,
        "deadline": _instant(deadline),
        "scope": scope,
        "on_ambiguous": on_ambiguous,
        "results": results,
        "headers": _headers(header or []),
    }
    _warn(settings_of(context).catalogue, route)
    jobs = [(job_id or str(uuid_utils.uuid7()), body) for body in bodies]
    asyncio.run(_publish(kafka, jobs, terms, as_json))


def _warn(catalogue: Catalogue, route: str | None) -> None:
    """The stages decide by their own configuration; by this one it would be a dead letter."""
    if route is not None and catalogue.routes and route not in catalogue.routes:
        known = ", ".join(sorted(catalogue.routes))
        err.print(f"warning: no route {route!r} is configured here ({known})", soft_wrap=True)


async def _publish(
    kafka: Kafka, jobs: Sequence[tuple[str, bytes]], terms: Mapping[str, Any], as_json: bool
) -> None:
    async with AsyncClient(kafka, source="outlast-submit") as client:
        hidden = len(jobs) <= AT_ONCE or not err.is_terminal
        with Progress(console=err, transient=True, disable=hidden) as progress:
            task = progress.add_task("publishing", total=len(jobs))
            for start in range(0, len(jobs), AT_ONCE):
                batch = jobs[start : start + AT_ONCE]
                await _batch(client, batch, terms, as_json)
                progress.advance(task, len(batch))


async def _batch(
    client: AsyncClient,
    jobs: Sequence[tuple[str, bytes]],
    terms: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Print what was acknowledged, then raise what went wrong first."""
    outcomes = await asyncio.gather(
        *(client.publish(body, job_id=job_id, **terms) for job_id, body in jobs),
        return_exceptions=True,
    )
    for outcome in outcomes:
        if isinstance(outcome, Job):
            _print(outcome, as_json)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def _print(job: Job, as_json: bool) -> None:
    if as_json:
        place = {"topic": job.topic, "partition": job.partition, "offset": job.offset}
        print_json({"id": job.id, **place})
    else:
        line(job.id)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            "an instant such as 2026-03-30T06:00:00Z was expected", param_hint="--deadline"
        ) from None


def _headers(pairs: Sequence[str]) -> dict[str, str]:
    headers = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter("NAME=VALUE was expected", param_hint="--header")
        headers[name] = value
    return headers
