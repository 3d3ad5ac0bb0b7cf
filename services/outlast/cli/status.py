"""``outlast status``: the whole at a glance."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import typer

from outlast.cli.help import described
from outlast.cli.invocation import connected, settings_of
from outlast.cli.terminal import AsJson, line, print_json, span, table
from outlast.core.overview import Backlog, ProviderRow, overview
from outlast.edges.kafka.onlook import Onlook
from outlast.edges.settings import Settings
from outlast_schemas.topics import Topics

__all__ = ["register"]

WHAT: Final = """
Show what waits where and for how long, and which providers are down.

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
        print_json(_json(backlogs, rows, parked))
    else:
        _print(backlogs, rows, down)
    if down or parked:
        raise typer.Exit(1)


async def _looked(settings: Settings) -> tuple[dict[str, Backlog], tuple[ProviderRow, ...]]:
    async with connected(settings) as connection:
        now = int(time.time() * 1000)
        names = settings.catalogue.providers
        onlook = Onlook(settings.kafka, connection.admin)
        backlogs = await onlook.backlogs(names, now)
        by_provider = {name: backlogs[connection.topics.work(name)] for name in names}
        rows = overview(names, await onlook.health(), await onlook.vitals(now), by_provider, now)
        return backlogs, rows


def _json(
    backlogs: Mapping[str, Backlog], rows: tuple[ProviderRow, ...], parked: int
) -> Mapping[str, object]:
    return {
        "topics": {
            name: {"jobs": each.jobs, "oldest_seconds": each.oldest_seconds}
            for name, each in backlogs.items()
        },
        "parked": parked,
        "providers": {row.provider: row.verdict for row in rows},
    }


def _print(backlogs: Mapping[str, Backlog], rows: tuple[ProviderRow, ...], down: list[str]) -> None:
    cells = [
        (
            name,
            f"{each.jobs:,}",
            "" if each.oldest_seconds is None else span(int(each.oldest_seconds * 1000)),
        )
        for name, each in backlogs.items()
    ]
    table(["topic", "jobs not done", "oldest"], cells, numbers="jobs not done")
    words = ", ".join(f"{row.provider} {row.verdict}" for row in rows)
    line(f"providers: {words}", style="bold red" if down else None)
