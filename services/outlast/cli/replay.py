"""``outlast replay``: put dead letters back to work."""

import asyncio
import signal
from collections import Counter
from typing import Annotated, Final

import typer
import uuid_utils

from outlast.cli.counted import Counted
from outlast.cli.dead_letters import ReasonOption
from outlast.cli.help import described
from outlast.cli.invocation import Connected, connected, settings_of
from outlast.cli.terminal import AsJsonLines, counting, err, line, print_json, waiting
from outlast.edges.kafka.publish import JobsPublisher, Publisher
from outlast.edges.settings import Settings
from outlast.replay import Selection, Wish, look
from outlast.replay import replay as publish_again
from outlast_schemas.dead_letter import DeadLetter

__all__ = ["fields_of_run", "register"]


WHAT: Final = """
Put dead letters back to work, each as the next run of its job.

The id, body and headers stay; calls and hops are counted anew, and the time to live is fresh.
What has succeeded meanwhile, or runs already, is left out. Without ids or --reason it needs
--all; unless ids are given it asks first.
"""
EXAMPLES: Final = """
outlast replay --all --dry-run
outlast replay --reason attempts_exhausted --ttl 3600
outlast replay 0198c5c2-7d0f-7c3e-9d5e-3f1f2b8f0c11
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(**described(WHAT, EXAMPLES))(replay)


def replay(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Job ids.")] = None,
    reason: ReasonOption = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    ttl: Annotated[
        float | None,
        typer.Option(
            "--ttl", metavar="SECONDS", help="The time each has now; else as its route says."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJsonLines = False,
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
        with counting("reading records:") as count_read:
            selection = await look(Counted(connection.archive, count_read), wish)
        _say_what_not(selection)
        count = len(selection.letters)
        run = str(uuid_utils.uuid7())
        if dry_run or not count:
            _print(selection, None, as_json)
        elif ask and not _confirmed(count):
            raise typer.Exit(1)
        else:
            with waiting(f"publishing {count:,} job(s)"):
                await _publish(connection, selection, wish, run)
            _print(selection, run, as_json)
    return bool(wish.ids) and count < len(wish.ids)


def _confirmed(count: int) -> bool:
    """Raises ``KeyboardInterrupt``, or a usage error where nobody can answer."""
    # asyncio's own handler only cancels the task, which a prompt does not notice.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(f"Replay {count} job(s)?", err=True)
    except typer.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        err.print()
        raise typer.BadParameter("nobody can answer here; say it with --yes") from None
    finally:
        signal.signal(signal.SIGINT, before)


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
        if as_json:
            print_json(fields_of_run(letter, run))
        else:
            line(f"{letter.job.id}  {letter.reason.value}, run {letter.job.state.replays + 2}")
    if not as_json:
        done = f"replayed as {run}" if run else "would be replayed"
        err.print(f"{len(selection.letters)} job(s) {done}", soft_wrap=True)


def fields_of_run(letter: DeadLetter, run: str | None) -> dict[str, object]:
    """The object that ``--json`` prints for each job that is replayed, or would be."""
    return {
        "job_id": letter.job.id,
        "replays": letter.job.state.replays + 1,
        "reason": letter.reason.value,
        "run": run,
    }
