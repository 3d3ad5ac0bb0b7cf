"""``outlast audit``: account for every job."""

import asyncio
from typing import Final

import typer

from outlast.audit import Report
from outlast.audit import audit as account
from outlast.cli.counted import Counted
from outlast.cli.help import described
from outlast.cli.invocation import connected, settings_of
from outlast.cli.terminal import AsJson, counting, line, print_json, table
from outlast.edges.settings import Settings

__all__ = ["register"]

NAMED: Final = 20
"""So many ids are named on the screen; ``--json`` names all."""
WHAT: Final = """
Account for every accepted job.

Reads all topics and writes nothing. Each job is counted once, by its latest run:
accepted = succeeded + dead lettered + expired + cancelled + open + lost. Exits with 1 when one
is lost. It knows what the topics still hold, 7 days of jobs by default.
"""
EXAMPLES: Final = """
outlast audit
outlast audit --json | jq .open_ids
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(**described(WHAT, EXAMPLES))(audit)


def audit(context: typer.Context, as_json: AsJson = False) -> None:
    """Read everything and compare what came in with what went out."""
    report = asyncio.run(_audit(settings_of(context)))
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)
    if report.lost:
        raise typer.Exit(1)


async def _audit(settings: Settings) -> Report:
    async with connected(settings) as connection:
        with counting("reading records:") as count:
            return await account(Counted(connection.archive, count))


def _print(report: Report) -> None:
    rows = [
        ("accepted", report.accepted),
        ("succeeded", report.succeeded),
        ("dead lettered", report.dead_lettered),
        ("expired", report.expired),
        ("cancelled", report.cancelled),
        ("open", report.open),
        ("lost", len(report.lost)),
    ]
    table(["jobs", "count"], [(name, f"{count:,}") for name, count in rows], numbers={"count"})
    _name("open", report.open_ids, style="yellow")
    _name("lost", report.lost)
    _name("published again with another body", report.conflicts)


def _name(what: str, ids: tuple[str, ...], style: str = "bold red") -> None:
    if not ids:
        return
    line(f"{what}: {len(ids)}", style=style)
    for job_id in ids[:NAMED]:
        line(f"  {job_id}")
    if len(ids) > NAMED:
        line(f"  … {len(ids) - NAMED} more; --json names all")
