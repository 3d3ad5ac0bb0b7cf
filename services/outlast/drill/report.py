"""How a drill ended: the audit, who served what, and three results with their provenance."""

from typing import Final

from rich.console import Console
from rich.table import Table

from outlast.audit import Report
from outlast.drill.timeline import ROUTES
from outlast.drill.watch import Seen
from outlast.edges.answers import Result
from outlast_schemas.state import State

__all__ = ["print_report", "report_json"]

FIRST: Final = {route: targets[0].split("/")[0] for route, targets in ROUTES.items()}


def print_report(console: Console, seen: Seen, report: Report, simulated: frozenset[str]) -> None:
    """Print it all."""
    console.print()
    _print_served(console, seen, simulated)
    for title, job_id in _samples(seen).items():
        _print_sample(console, title, seen.results[job_id], seen.states[job_id])
    _print_audit(console, seen, report)


def report_json(seen: Seen, report: Report) -> dict[str, object]:
    """The same for programs."""
    return {
        "audit": report.to_json(),
        "served": {
            route: {who: count for (via, who), count in sorted(seen.served.items()) if via == route}
            for route in sorted({via for via, _ in seen.served})
        },
        "elsewhere": seen.elsewhere(FIRST),
        "failed_over": seen.failed_over,
        "served_again": {provider: seen.served_again(provider) for provider in seen.up_again},
        "most_parked": seen.most_parked,
        "events": [{"seconds": round(at, 1), "event": text} for at, text in seen.events],
        "samples": [
            {"sample": title, "job_id": job_id, "text": seen.results[job_id].text}
            for title, job_id in _samples(seen).items()
        ],
    }


def _print_served(console: Console, seen: Seen, simulated: frozenset[str]) -> None:
    routes = sorted({route for route, _ in seen.served})
    table = Table("who served what", *routes, box=None, title_justify="left")
    for who in sorted({who for _, who in seen.served}):
        label = f"{who} (simulated)" if who in simulated else who
        table.add_row(label, *(str(seen.served[(route, who)]) for route in routes))
    console.print(table)


def _samples(seen: Seen) -> dict[str, str]:
    """Of each kind the last: one that was failed over, one that was not, one of a real model."""
    found: dict[str, str] = {}
    for job_id, result in seen.results.items():
        if result.provider == "local":
            found["answered by the local model"] = job_id
        elif len(seen.states[job_id].attempts) > 1:
            found["outlived its provider"] = job_id
        elif result.provider is not None:
            found["served at once"] = job_id
    return dict(sorted(found.items()))


def _print_sample(console: Console, title: str, result: Result, state: State) -> None:
    console.print(f"\n{title}: {result.job_id}", soft_wrap=True, highlight=False, style="bold")
    for each in state.attempts:
        about = f" ({each.note})" if each.note else ""
        console.print(
            f"  attempt {each.n}: {each.provider}/{each.model} {each.verdict.value}"
            f" after {each.ms} ms{about}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    text = " ".join((result.text or "").split())
    console.print(f"  {text[:160]!r}", highlight=False, markup=False)


def _print_audit(console: Console, seen: Seen, report: Report) -> None:
    console.print(
        f"\n{report.accepted} jobs accepted: {report.succeeded} succeeded, "
        f"{report.dead_lettered} dead-lettered, {report.expired} expired, {report.open} open",
        highlight=False,
    )
    console.print(
        f"{seen.elsewhere(FIRST)} were served by another provider than their route's first, "
        f"{seen.failed_over} of them after a failed call",
        highlight=False,
    )
    for provider in seen.up_again:
        again = seen.served_again(provider)
        console.print(f"{provider} served {again} after it had come back", highlight=False)
    style = "bold red" if report.lost else "bold green"
    console.print(f"lost {len(report.lost)}", style=style, highlight=False)
