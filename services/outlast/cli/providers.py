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
from outlast.edges.settings import Settings
from outlast_schemas.health import BreakerWord

__all__ = ["register"]

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
COLUMNS: Final = ["provider", "verdict", "calls", "rate/s", "failing", "first", "total", "backlog"]


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
        while True:
            rows = await _rows(connection)
            if as_json:
                print_json({"providers": [row.to_json() for row in rows]})
            else:
                if watch and out.is_terminal:
                    out.clear()
                _print(rows)
            if not watch:
                return rows
            await asyncio.sleep(WATCH_SECONDS)


async def _rows(connection: Connected) -> tuple[ProviderRow, ...]:
    settings = connection.settings
    onlook = Onlook(settings.kafka, connection.admin)
    names = settings.catalogue.providers
    health = await onlook.health()
    backlogs = await onlook.backlogs(names, _now())
    vitals = await onlook.vitals(_now())
    by_provider = {name: backlogs[connection.topics.work(name)] for name in names}
    return overview(names, health, vitals, by_provider, _now())


def _now() -> int:
    return int(time.time() * 1000)


def _print(rows: tuple[ProviderRow, ...]) -> None:
    table(COLUMNS, [_cells(row) for row in rows])
    for row in rows:
        if row.evidence and row.verdict != BreakerWord.CLOSED:
            what = row.provider if row.model == "*" else f"{row.provider}/{row.model}"
            out.print(f"{what}: {row.evidence}", soft_wrap=True)
        if row.paused_until is not None:
            left = max(0, row.paused_until - _now()) / 1000
            out.print(
                f"{row.provider} wishes no calls for {span(int(left * 1000))}", soft_wrap=True
            )


def _cells(row: ProviderRow) -> tuple[str, ...]:
    verdict = row.verdict if row.permits is None else f"{row.verdict} ({row.permits})"
    failing = "" if row.failing is None else f"{row.failing:.0%}"
    age = "" if row.oldest_seconds is None else f", {span(int(row.oldest_seconds * 1000))}"
    return (
        row.provider,
        verdict,
        f"{row.in_flight}/{row.limit}",
        f"{row.rate:g}",
        failing,
        _seconds(row.first_token_seconds),
        _seconds(row.total_seconds),
        f"{row.backlog:,}{age}",
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"
