"""How a result is shown: a few lines for a person, one object for a program."""

from collections.abc import Mapping
from typing import Any

from outlast.cli.terminal import line, one_line, out, print_json, span
from outlast.edges.answers import Result
from outlast_schemas.result import Status

__all__ = ["fields_of", "print_result", "said"]


def print_result(
    result: Result, appended: int | None, now: int, *, as_json: bool, whole: bool
) -> None:
    """Print one result.

    Args:
        result: what to show.
        appended: epoch ms of its record; ``None`` where it is not known.
        now: epoch ms.
        as_json: one object on a line.
        whole: all of the answer, not only its first line.
    """
    if as_json:
        print_json(fields_of(result, appended))
        return
    good = result.status is Status.SUCCEEDED
    run = f", run {result.replays + 1}" if result.replays else ""
    line(f"{result.job_id}  {result.status.value}{run}", style="green" if good else "red")
    line(f"  {_by(result)}{_when(appended, now)}", style="dim")
    text = said(result)
    if text:
        line("  " + (text if whole else one_line(text, max(40, out.width - 2))))


def _by(result: Result) -> str:
    by = f"{result.provider}/{result.model}" if result.provider else f"route {result.route or '-'}"
    return f"{by}, {result.attempts} attempt(s)"


def _when(appended: int | None, now: int) -> str:
    return "" if appended is None else f", {span(now - appended)} ago"


def said(result: Result) -> str:
    """The answer's text, or what went wrong."""
    if result.status is not Status.SUCCEEDED:
        error = result.body.get("error") if isinstance(result.body, Mapping) else None
        return f"{error.get('type')}: {error.get('message')}" if isinstance(error, dict) else ""
    if result.text is not None:
        return result.text
    data = result.body.get("data") if isinstance(result.body, Mapping) else None
    return f"{len(data)} embedding(s)" if isinstance(data, list) else ""


def fields_of(result: Result, appended: int | None) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    return {
        "job_id": result.job_id,
        "replays": result.replays,
        "status": result.status.value,
        "provider": result.provider,
        "model": result.model,
        "route": result.route,
        "attempts": result.attempts,
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "cost": None if result.cost is None else float(result.cost),
        "appended": appended,
        "body": result.body,
    }
