"""``outlast results``: read how jobs ended."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import typer

from outlast.cli.invocation import Connected, connected, settings_of
from outlast.cli.terminal import err, line, one_line, out, print_json
from outlast.edges.answers import Result, result_of
from outlast.edges.kafka.results import ResultStream
from outlast.edges.kafka.scan import follow as follow_partitions
from outlast.edges.kafka.topics import check
from outlast.edges.settings import Settings
from outlast_schemas.result import Status

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Print results, from the earliest to the last one there is now.")(results)


def results(
    context: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with those that are still to come.")
    ] = False,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Only those of this job.")] = None,
    name: Annotated[str, typer.Option(help="The name of the result topic.")] = "default",
    group: Annotated[
        str | None,
        typer.Option(help="With --follow: read as this consumer group, each result once."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print results; exits with 1 when a job was asked for and has none yet."""
    if group is not None and not follow:
        raise typer.BadParameter("it needs --follow", param_hint="--group")
    settings = settings_of(context)
    found = asyncio.run(_print_all(settings, follow, job, name, group, as_json))
    if job is not None and not found:
        err.print(f"job {job} has no result in {name!r} yet", soft_wrap=True)
        raise typer.Exit(1)


async def _print_all(
    settings: Settings, follow: bool, job: str | None, name: str, group: str | None, as_json: bool
) -> int:
    async with connected(settings) as connection:
        await check(settings.kafka, [connection.topics.results(name)], connection.admin)
        count = 0
        async with aclosing(_read(connection, follow, name, group)) as read:
            async for result in read:
                if job in (None, result.job_id):
                    count += 1
                    _print(result, as_json, whole=job is not None)
                if follow and job is not None and job == result.job_id:
                    break
        return count


async def _read(
    connection: Connected, follow: bool, name: str, group: str | None
) -> AsyncGenerator[Result, None]:
    kafka, topic = connection.settings.kafka, connection.topics.results(name)
    if group is not None:
        async with aclosing(ResultStream(kafka, topic, group)) as stream:
            async for result in stream:
                yield result
    elif follow:
        async with aclosing(follow_partitions(kafka, topic)) as records:
            async for record in records:
                if (result_ := result_of(record)) is not None:
                    yield result_
    else:
        async with aclosing(connection.archive.results(name)) as results_:
            async for result in results_:
                yield result


def _print(result: Result, as_json: bool, whole: bool) -> None:
    if as_json:
        print_json(_fields(result))
        return
    by = f"{result.provider}/{result.model}" if result.provider else f"route {result.route or '-'}"
    run = f", run {result.replays + 1}" if result.replays else ""
    good = result.status is Status.SUCCEEDED
    line(f"{result.job_id}  {result.status.value}{run}", style="green" if good else "red")
    line(f"  {by}, {result.attempts} attempt(s)", style="dim")
    text = _said(result)
    if text:
        line("  " + (text if whole else one_line(text, max(40, out.width - 2))))


def _said(result: Result) -> str:
    if result.status is Status.SUCCEEDED:
        return result.text or ""
    error = result.body.get("error") if isinstance(result.body, dict) else None
    return f"{error.get('type')}: {error.get('message')}" if isinstance(error, dict) else ""


def _fields(result: Result) -> dict[str, object]:
    return {
        "job_id": result.job_id,
        "replays": result.replays,
        "status": result.status.value,
        "provider": result.provider,
        "model": result.model,
        "route": result.route,
        "attempts": result.attempts,
        "body": result.body,
    }
