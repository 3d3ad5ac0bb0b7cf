"""``outlast replay``: put dead letters back to work."""

import asyncio
from collections import Counter
from typing import Annotated

import typer
import uuid_utils

from outlast.cli.invocation import Connected, connected, settings_of
from outlast.cli.terminal import err, line, print_json
from outlast.edges.kafka.publish import JobsPublisher, Publisher
from outlast.edges.settings import Settings
from outlast.replay import Selection, Wish, look
from outlast.replay import replay as publish_again
from outlast_schemas.dead_letter import Reason

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help="Put dead letters back to work, each as the next run of its job.")(replay)


def replay(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Job ids.")] = None,
    reason: Annotated[Reason | None, typer.Option(help="Only those with this reason.")] = None,
    ttl: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="The time each has now; else as its route says."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them, without a filter.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Select, say how many, ask, publish."""
    if not ids and reason is None and not all_:
        raise typer.BadParameter("name ids or --reason, or say --all")
    if ids and all_:
        raise typer.BadParameter("ids and --all exclude each other")
    if ttl is not None and not 0 < ttl < float("inf"):
        raise typer.BadParameter("a number of seconds above 0 was expected", param_hint="--ttl")
    wish = Wish(ids=frozenset(ids or ()), reason=reason, ttl_seconds=ttl)
    ask = not (ids or yes)
    if asyncio.run(_replay(settings_of(context), wish, dry_run, ask, as_json)):
        raise typer.Exit(1)


async def _replay(settings: Settings, wish: Wish, dry_run: bool, ask: bool, as_json: bool) -> bool:
    """Whether something that was asked for by id was not replayed."""
    async with connected(settings) as connection:
        selection = await look(connection.archive, wish)
        _say_what_not(selection)
        count = len(selection.letters)
        run = str(uuid_utils.uuid7())
        if dry_run or not count:
            _print(selection, None, as_json)
        elif ask and not typer.confirm(f"Replay {count} job(s)?", err=True):
            raise typer.Exit(1)
        else:
            await _publish(connection, selection, wish, run)
            _print(selection, run, as_json)
    return bool(wish.ids) and count < len(wish.ids)


async def _publish(connection: Connected, selection: Selection, wish: Wish, run: str) -> None:
    publisher = Publisher(connection.settings.kafka)
    out = JobsPublisher(publisher, connection.codec)
    try:
        await publish_again(selection.letters, wish, run, out, connection.topics)
    finally:
        await publisher.close()


def _say_what_not(selection: Selection) -> None:
    for job_id in selection.unknown:
        err.print(f"{job_id}: no dead letter", soft_wrap=True)
    for why, count in Counter(selection.skipped.values()).items():
        err.print(f"{count} skipped: {why}", soft_wrap=True)


def _print(selection: Selection, run: str | None, as_json: bool) -> None:
    if not selection.letters and not as_json:
        err.print("nothing to replay")
        return
    for letter in selection.letters:
        fields = {"job_id": letter.job.id, "replays": letter.job.state.replays + 1, "run": run}
        if as_json:
            print_json({**fields, "reason": letter.reason.value})
        else:
            line(f"{letter.job.id}  {letter.reason.value}, run {letter.job.state.replays + 2}")
    if not as_json:
        done = f"replayed as {run}" if run else "would be replayed"
        err.print(f"{len(selection.letters)} job(s) {done}", soft_wrap=True)
