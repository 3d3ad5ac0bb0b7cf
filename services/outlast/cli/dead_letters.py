"""``outlast dead-letters``: list what could not be served."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from outlast.cli.counted import Counted
from outlast.cli.help import described
from outlast.cli.invocation import connected, settings_of
from outlast.cli.terminal import (
    AsJsonLines,
    counting,
    err,
    line,
    one_line,
    out,
    print_json,
    span,
)
from outlast.edges.clock import BrokerClock
from outlast.edges.settings import Settings
from outlast_schemas.dead_letter import DeadLetter, Reason

__all__ = ["ReasonOption", "fields_of_letter", "register"]

WHAT: Final = f"""
List what could not be served, the oldest first.

Reasons: {", ".join(reason.value for reason in Reason)}.
"""
EXAMPLES: Final = """
outlast dead-letters --limit 20
outlast dead-letters --reason ambiguous --json | jq -r .job_id
"""
ReasonOption = Annotated[
    Reason | None, typer.Option("--reason", metavar="REASON", help="Only those with this reason.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("dead-letters", **described(WHAT, EXAMPLES))(dead_letters)


def dead_letters(
    context: typer.Context,
    reason: ReasonOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the newest N.")
    ] = None,
    as_json: AsJsonLines = False,
) -> None:
    """List them: id, reason, who was tried, age, runs, detail."""
    letters, count = asyncio.run(_read(settings_of(context), reason, limit))
    now = BrokerClock().now()
    for letter in letters:
        _print(letter, now, as_json)
    if not as_json:
        hidden = count - len(letters)
        more = f" ({hidden:,} older not shown)" if hidden else ""
        err.print(f"{count:,} dead letter(s){more}", style="dim", soft_wrap=True)


async def _read(
    settings: Settings, reason: Reason | None, limit: int | None
) -> tuple[Sequence[DeadLetter], int]:
    """The newest ``limit`` in order of time, and how many there are."""
    letters: list[DeadLetter] = []
    count = 0
    async with connected(settings) as connection:
        with counting("reading dead letters:") as read:
            async for letter in Counted(connection.archive, read).dead_letters():
                if reason in (None, letter.reason):
                    count += 1
                    letters.append(letter)
                    if limit is not None and len(letters) > 2 * limit:
                        letters = _newest(letters, limit)
    return _newest(letters, limit), count


def _newest(letters: list[DeadLetter], limit: int | None) -> list[DeadLetter]:
    ordered = sorted(letters, key=lambda letter: letter.job.origin.appended)
    return ordered if limit is None else ordered[-limit:]


def _tried(letter: DeadLetter) -> list[str]:
    return list(dict.fromkeys(attempt.provider for attempt in letter.job.state.attempts))


def _print(letter: DeadLetter, now: int, as_json: bool) -> None:
    if as_json:
        print_json(fields_of_letter(letter))
        return
    state = letter.job.state
    tried = ", ".join(_tried(letter)) or "nobody"
    age = span(now - letter.job.origin.appended)
    line(f"{letter.job.id}  {letter.reason.value}", style="red")
    line(f"  {age} ago, run {state.replays + 1}, tried {tried}", style="dim")
    if letter.detail:
        line("  " + one_line(letter.detail, max(40, out.width - 2)))


def fields_of_letter(letter: DeadLetter) -> dict[str, object]:
    """The object that ``--json`` prints."""
    origin = letter.job.origin
    return {
        "job_id": letter.job.id,
        "replays": letter.job.state.replays,
        "reason": letter.reason.value,
        "detail": letter.detail,
        "tried": _tried(letter),
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "appended": origin.appended,
    }
