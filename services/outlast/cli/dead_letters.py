"""``outlast dead-letters``: list what could not be served."""

import asyncio
from typing import Annotated

import typer

from outlast.cli.invocation import connected, settings_of
from outlast.cli.terminal import err, line, one_line, out, print_json, span
from outlast.edges.clock import BrokerClock
from outlast.edges.settings import Settings
from outlast_schemas.dead_letter import DeadLetter, Reason

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("dead-letters", help="List dead letters, the oldest first.")(dead_letters)


def dead_letters(
    context: typer.Context,
    reason: Annotated[Reason | None, typer.Option(help="Only those with this reason.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many, the newest ones.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List them: id, reason, who was tried, age, runs, detail."""
    letters = asyncio.run(_read(settings_of(context), reason))
    shown = letters if limit is None else letters[-limit:]
    now = BrokerClock().now()
    for letter in shown:
        _print(letter, now, as_json)
    if not as_json:
        more = f" ({len(letters) - len(shown)} older ones not shown)" if shown != letters else ""
        err.print(f"{len(letters)} dead letter(s){more}", style="dim", soft_wrap=True)


async def _read(settings: Settings, reason: Reason | None) -> list[DeadLetter]:
    async with connected(settings) as connection:
        letters = [
            letter
            async for letter in connection.archive.dead_letters()
            if reason in (None, letter.reason)
        ]
    return sorted(letters, key=lambda letter: letter.job.origin.appended)


def _tried(letter: DeadLetter) -> list[str]:
    return list(dict.fromkeys(attempt.provider for attempt in letter.job.state.attempts))


def _print(letter: DeadLetter, now: int, as_json: bool) -> None:
    if as_json:
        print_json(_fields(letter, now))
        return
    state = letter.job.state
    tried = ", ".join(_tried(letter)) or "nobody"
    age = span(now - letter.job.origin.appended)
    line(f"{letter.job.id}  {letter.reason.value}", style="red")
    line(f"  {age} ago, run {state.replays + 1}, tried {tried}", style="dim")
    if letter.detail:
        line("  " + one_line(letter.detail, max(40, out.width - 2)))


def _fields(letter: DeadLetter, now: int) -> dict[str, object]:
    return {
        "job_id": letter.job.id,
        "replays": letter.job.state.replays,
        "reason": letter.reason.value,
        "detail": letter.detail,
        "tried": _tried(letter),
        "age_seconds": max(0, now - letter.job.origin.appended) // 1000,
        "at": str(letter.job.origin),
    }
