"""What a drill looks like, in a terminal and without one."""

import asyncio
import io

from rich.console import Console

from outlast.drill.screen import Screen
from outlast.drill.watch import Seen
from outlast_schemas.vitals import Vitals


class Onlooker:
    """A watch that has seen something."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.seen.vitals["deepseek"] = Vitals(
            provider="deepseek", worker="w", at=1, in_flight=3, served=40, failed=2
        )
        self.seen.verdicts["deepseek"] = "open"
        self.seen.depths = {"outlast.parked": 7, "outlast.jobs": 0}

    @property
    def seconds(self) -> float:
        return asyncio.get_running_loop().time()


def screen(terminal: bool) -> tuple[Screen, io.StringIO]:
    """A screen and what it has shown."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=100)
    return Screen(console, Onlooker(), frozenset({"deepseek"}), 300), shown  # type: ignore[arg-type]


async def test_a_terminal_shows_the_table_and_keeps_it_up_to_date() -> None:
    picture, shown = screen(terminal=True)
    with picture.live():
        picture.watch.seen.events.append((1.0, "deepseek goes down"))
        picture.refresh()

    for text in ("deepseek (simulated)", "open", "40", "parked 7", "deepseek goes down"):
        assert text in shown.getvalue()
    assert "jobs 0" not in shown.getvalue()


async def test_without_a_terminal_each_event_is_one_line_once() -> None:
    picture, shown = screen(terminal=False)
    with picture.live():
        picture.watch.seen.events.append((1.0, "deepseek goes down"))
        picture.refresh()
        picture.refresh()
        picture.watch.seen.events.append((2.5, "deepseek answers again"))
        picture.refresh()

    assert shown.getvalue().splitlines() == [
        "   1.0 s  deepseek goes down",
        "   2.5 s  deepseek answers again",
    ]
