"""``outlast audit``: account for every job."""

import asyncio
from typing import Annotated, Final

import typer

from outlast.audit import Report
from outlast.audit import audit as account
from outlast.cli.invocation import connected, settings_of
from outlast.cli.terminal import line, print_json, table
from outlast.edges.settings import Settings

__all__ = ["register"]

NAMED: Final = 20
"""So many ids are named on the screen; ``--json`` names all."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Account for every accepted job; exits with 1 when one is lost.")(audit)


def audit(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
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
        return await account(connection.archive)


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
    table(["jobs", "count"], [(name, f"{count:,}") for name, count in rows], numbers="count")
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
