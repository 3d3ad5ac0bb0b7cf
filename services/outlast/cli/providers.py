"""``outlast providers``: who is up, on what evidence, and what waits for whom."""

import asyncio
import time
from typing import Annotated, Final

import typer

from outlast.cli.help import described
from outlast.cli.invocation import Connected, connected, settings_of
from outlast.cli.terminal import AsJson, out, print_json, span, table
from outlast.core.overview import ProviderRow, overview
from outlast.edges.kafka.onlook import Onlook
from outlast.edges.kafka.parked import ParkedJobs
from outlast.edges.settings import Settings
from outlast_schemas.health import BreakerWord

__all__ = ["parked_for", "register"]

WHAT: Final = """
Show who is up, on what evidence, and what waits for whom.

It reads what the workers and the health stage write, and calls nobody. Exits with 1 when a
provider is down.
"""
EXAMPLES: Final = """
outlast providers
outlast providers --watch
outlast providers --json | jq '.providers[] | select(.verdict != "closed")'
"""
WATCH_SECONDS: Final = 2.0
CALLS: Final = ["provider", "verdict", "calls", "rate/s", "failing", "first", "total"]
JOBS: Final = [
    "provider",
    "backlog",
    "oldest",
    "failed over in",
    "failed over out",
    "parked for it",
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(**described(WHAT, EXAMPLES))(providers)


def providers(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look once, or again and again until Ctrl-C."""
    rows = asyncio.run(_looked(settings_of(context), watch, as_json))
    if any(row.is_down for row in rows):
        raise typer.Exit(1)


async def _looked(settings: Settings, watch: bool, as_json: bool) -> tuple[ProviderRow, ...]:
    async with connected(settings) as connection:
        onlook = Onlook(settings.kafka, connection.admin)
        parked = ParkedJobs(settings.kafka, connection.admin, settings.catalogue)
        while True:
            rows = await _rows(connection, onlook, parked)
            if as_json:
                print_json({"providers": [row.to_json() for row in rows]})
            else:
                if watch and out.is_terminal:
                    out.clear()
                _print(rows)
            if not watch:
                return rows
            await asyncio.sleep(WATCH_SECONDS)


async def _rows(
    connection: Connected, onlook: Onlook, parked: ParkedJobs
) -> tuple[ProviderRow, ...]:
    names = connection.settings.catalogue.providers
    waiting = await parked.look()
    health = await onlook.health()
    backlogs = await onlook.backlogs(names, _now())
    vitals = await onlook.vitals(_now())
    by_provider = {name: backlogs[connection.topics.work(name)] for name in names}
    return overview(names, health, vitals, by_provider, _now(), waiting)


def _now() -> int:
    return int(time.time() * 1000)


def _print(rows: tuple[ProviderRow, ...]) -> None:
    # Two tables: all in one does not fit into the 80 columns of a terminal.
    table(CALLS, [_calls(row) for row in rows])
    out.print()
    table(JOBS, [_jobs(row) for row in rows])
    for row in rows:
        if row.evidence and row.verdict != BreakerWord.CLOSED:
            what = row.provider if row.model == "*" else f"{row.provider}/{row.model}"
            out.print(f"{what}: {row.evidence}", soft_wrap=True)
        if row.paused_until is not None:
            left = max(0, row.paused_until - _now()) / 1000
            out.print(
                f"{row.provider} wishes no calls for {span(int(left * 1000))}", soft_wrap=True
            )


def _calls(row: ProviderRow) -> tuple[str, ...]:
    return (
        row.provider,
        row.verdict if row.permits is None else f"{row.verdict} ({row.permits})",
        f"{row.in_flight}/{row.limit}",
        f"{row.rate:g}",
        "" if row.failing is None else f"{row.failing:.0%}",
        _seconds(row.first_token_seconds),
        _seconds(row.total_seconds),
    )


def _jobs(row: ProviderRow) -> tuple[str, ...]:
    return (
        row.provider,
        f"{row.backlog:,}",
        "" if row.oldest_seconds is None else span(int(row.oldest_seconds * 1000)),
        f"{row.failed_over_in:,}",
        f"{row.failed_over_out:,}",
        parked_for(row),
    )


def parked_for(row: ProviderRow) -> str:
    """How many jobs are parked for it, in words."""
    if row.parked is None:
        return ""
    return f"at least {row.parked:,}" if row.parked_at_least else f"{row.parked:,}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"
