"""``outlast status``: the whole at a glance."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

import typer

from outlast.cli.help import described
from outlast.cli.invocation import connected, settings_of
from outlast.cli.providers import parked_for
from outlast.cli.terminal import AsJson, line, print_json, span, table
from outlast.core.overview import Backlog, ProviderRow, overview
from outlast.edges.kafka.onlook import Onlook
from outlast.edges.kafka.parked import ParkedJobs
from outlast.edges.settings import Settings
from outlast_schemas.topics import Topics

__all__ = ["fields_of_status", "register"]

WHAT: Final = """
Show what waits where, how long and for whom, and who is down.

Exits with 1 when a provider is down or jobs are parked.
"""
EXAMPLES: Final = """
outlast status
outlast status --json | jq .parked
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(**described(WHAT, EXAMPLES))(status)


def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Look once."""
    settings = settings_of(context)
    backlogs, rows = asyncio.run(_looked(settings))
    parked = backlogs[Topics(settings.kafka.prefix).parked].jobs
    down = [row.provider for row in rows if row.is_down]
    if as_json:
        print_json(fields_of_status(backlogs, rows, parked))
    else:
        _print(backlogs, rows, down)
    if down or parked:
        raise typer.Exit(1)


async def _looked(settings: Settings) -> tuple[dict[str, Backlog], tuple[ProviderRow, ...]]:
    async with connected(settings) as connection:
        names = settings.catalogue.providers
        onlook = Onlook(settings.kafka, connection.admin)
        backlogs = await onlook.backlogs(names, _now())
        by_provider = {name: backlogs[connection.topics.work(name)] for name in names}
        parked = await ParkedJobs(settings.kafka, connection.admin, settings.catalogue).look()
        health, vitals = await onlook.health(), await onlook.vitals(_now())
        return backlogs, overview(names, health, vitals, by_provider, _now(), parked)


def _now() -> int:
    return int(time.time() * 1000)


def fields_of_status(
    backlogs: Mapping[str, Backlog], rows: Sequence[ProviderRow], parked: int
) -> dict[str, object]:
    """The object that ``--json`` prints."""
    return {
        "topics": {
            name: {"jobs": each.jobs, "oldest_seconds": each.oldest_seconds}
            for name, each in backlogs.items()
        },
        "parked": parked,
        "providers": {row.provider: row.verdict for row in rows},
        "parked_for": {row.provider: row.parked for row in rows},
        "parked_at_least": any(row.parked_at_least for row in rows),
        "failed_over": _failed_over(rows),
    }


def _failed_over(rows: Sequence[ProviderRow]) -> int:
    return sum(row.failed_over_in for row in rows)


def _print(backlogs: Mapping[str, Backlog], rows: tuple[ProviderRow, ...], down: list[str]) -> None:
    cells = [
        (
            name,
            f"{each.jobs:,}",
            "" if each.oldest_seconds is None else span(int(each.oldest_seconds * 1000)),
        )
        for name, each in backlogs.items()
    ]
    table(["topic", "jobs not done", "oldest"], cells, numbers={"jobs not done"})
    words = ", ".join(f"{row.provider} {row.verdict}" for row in rows)
    line(f"providers: {words}", style="bold red" if down else None)
    if waiting := ", ".join(f"{row.provider} {parked_for(row)}" for row in rows if row.parked):
        line(f"parked for: {waiting}")
    if failed_over := _failed_over(rows):
        line(f"failed over: {failed_over:,}, as the workers of now have counted")
