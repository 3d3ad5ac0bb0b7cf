"""A drill as it looks: a live table in a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from outlast.drill.watch import Watch

__all__ = ["Screen"]

SHOWN_EVENTS: Final = 8
COLOURS: Final = {"closed": "green", "open": "red", "half_open": "yellow", "ramp": "yellow"}


@dataclass(slots=True)
class Screen:
    """Draws what a :class:`Watch` sees."""

    console: Console
    watch: Watch
    simulated: frozenset[str]
    jobs: int
    told: int = 0
    picture: Live | None = None

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the picture while the context lasts; :meth:`refresh` brings it up to date."""
        if not self.console.is_terminal:
            yield
            return
        # No thread of rich's: the picture is drawn where the event loop already orders things.
        with Live(
            get_renderable=self.drawn, console=self.console, auto_refresh=False, transient=True
        ) as self.picture:
            yield
        self.picture = None

    def refresh(self) -> None:
        """Draw anew; without a terminal print the events that have not been printed yet."""
        if self.picture is not None:
            self.picture.refresh()
            return
        events = list(self.watch.seen.events)
        for seconds, text in events[self.told :]:
            self.console.print(f"{seconds:6.1f} s  {text}", soft_wrap=True, highlight=False)
        self.told = len(events)

    def drawn(self) -> RenderableType:
        """The whole picture."""
        done = len(self.watch.seen.results)
        head = Text(f"{self.watch.seconds:5.1f} s   {done} of {self.jobs} jobs ended", style="bold")
        return Group(head, self._providers(), self._depths(), self._events())

    def _providers(self) -> Table:
        table = Table("provider", "verdict", "in flight", "served", "failed", box=None)
        for name, vitals in sorted(self.watch.seen.vitals.items()):
            verdict = self.watch.seen.verdicts.get(name, "closed")
            label = f"{name} (simulated)" if name in self.simulated else name
            table.add_row(
                label,
                Text(verdict, style=COLOURS[verdict]),
                *(str(each) for each in (vitals.in_flight, vitals.served, vitals.failed)),
            )
        return table

    def _depths(self) -> Text:
        depths = self.watch.seen.depths
        shown = [f"{name.split('.', 1)[1]} {count}" for name, count in depths.items() if count]
        return Text("waiting: " + (" · ".join(shown) or "nothing"), style="cyan")

    def _events(self) -> Text:
        events = list(self.watch.seen.events)[-SHOWN_EVENTS:]
        return Text("\n".join(f"{seconds:6.1f} s  {text}" for seconds, text in events))
