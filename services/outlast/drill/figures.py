"""How a scenario ended: one table of figures, each with what was promised and whether it holds."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from outlast.drill.engine import Played
from outlast.drill.scenarios import Figure, Scenario

__all__ = ["figures_json", "figures_of", "holds", "print_figures"]


def figures_of(scenario: Scenario, played: Played) -> list[Figure]:
    """One figure for each bound."""
    return [bound(played.sight) for bound in scenario.bounds]


def holds(figures: Sequence[Figure]) -> bool:
    """Whether every promise among them is kept."""
    return all(each.holds is not False for each in figures)


def print_figures(console: Console, played: Played, figures: Sequence[Figure]) -> None:
    """The table, and the account below it."""
    table = Table("figure", "seen", "promised", "", box=None)
    for each in figures:
        word = {None: "", True: "holds", False: "DOES NOT HOLD"}[each.holds]
        table.add_row(each.what, each.value, each.promised, word)
    console.print()
    console.print(table)
    console.print()
    for text in played.sight.account:
        console.print(text, soft_wrap=True)


def figures_json(
    scenario: Scenario, played: Played, figures: Sequence[Figure]
) -> dict[str, object]:
    """The same for programs."""
    sight = played.sight
    return {
        "scenario": scenario.name,
        "holds": holds(figures),
        "figures": [
            {"what": f.what, "seen": f.value, "promised": f.promised, "holds": f.holds}
            for f in figures
        ],
        "account": list(sight.account),
        "calls_per_second": {name: list(counts) for name, counts in sight.arrived.items()},
        "probes": dict(sight.probes),
        "events": [{"seconds": round(at, 1), "event": text} for at, text in played.events],
    }
