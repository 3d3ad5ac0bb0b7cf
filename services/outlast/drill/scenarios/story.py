"""What a scenario is made of: a pure schedule of happenings, what it changes, what must hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from outlast.drill.scenarios.sight import Bound

__all__ = ["DEAD", "FLEET", "LEAD_SECONDS", "PROVIDERS", "Act", "Process", "Scenario", "Step"]

PROVIDERS: Final[Mapping[str, str]] = {
    "deepseek": "deepseek-flash",
    "openai": "gpt-6-luna",
    "anthropic": "claude-haiku-5-5",
    "local": "local-model",
}
"""The four providers, in the order of the route `chat`, and the model each is asked for."""

DEAD: Final = "deepseek"
"""The one that is under fire: the first target of every route."""

LEAD_SECONDS: Final = 8.0
"""How long all is well before anything happens: an opening needs calls to look at."""


@dataclass(frozen=True, slots=True)
class Process:
    """One `outlast run` process; a broken one reaches nobody where ``DEAD`` should be."""

    name: str
    arguments: tuple[str, ...]
    is_broken: bool = False


_OTHERS: Final = tuple(part for name in PROVIDERS if name != DEAD for part in ("--provider", name))
_WORKERS: Final = tuple(
    Process(f"worker-{number}", ("work", "--provider", DEAD)) for number in range(1, 4)
)
FLEET: Final = (Process("stages", _OTHERS), *_WORKERS)
"""All stages with the pools of the three others in one process, and three workers of ``DEAD``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is done: providers that behave otherwise, processes that come, go or freeze."""

    providers: tuple[str, ...] = ()
    behaviour: Mapping[str, object] = field(default_factory=dict)
    start: Process | None = None
    kill: str | None = None
    freeze: str | None = None
    thaw: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """So many seconds after the first job this is done; ``mark`` is how bounds refer to it."""

    at: float
    act: Act
    told: str
    mark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One drill.

    Attributes:
        name: what it is called on the command line.
        what: one sentence for the list.
        schedule: seconds of trouble → its steps, in order.
        bounds: what must hold, and what is printed.
        seconds: how long the trouble lasts unless told otherwise.
        jobs: how many are published unless told otherwise.
        routes: those of the jobs, in turn: `chat` has all providers, `only` has ``DEAD`` alone.
        tail_seconds: how long jobs are published after the last step.
        publish_seconds: over how long they are published, where it is not until after the tail.
        patience_seconds: how long the last job may take after that.
        processes: that run from the beginning.
        behaviour: of ``DEAD`` from the beginning.
        clocks: of all providers, in the words of the configuration.
        limits: of ``DEAD``, likewise.
        family: whose dialect ``DEAD`` speaks, its own unless its answers lack something.
    """

    name: str
    what: str
    schedule: Callable[[float], tuple[Step, ...]]
    bounds: tuple[Bound, ...]
    seconds: float = 30.0
    jobs: int = 600
    routes: tuple[str, ...] = ("chat",)
    tail_seconds: float = 15.0
    publish_seconds: float | None = None
    patience_seconds: float = 90.0
    processes: tuple[Process, ...] = FLEET
    behaviour: Mapping[str, object] = field(default_factory=dict)
    clocks: str = "connect_seconds = 2, first_token_seconds = 3"
    limits: str = "concurrency = 60"
    family: str = DEAD

    def publishing(self, seconds: float) -> float:
        """Over how long the jobs are published when the trouble lasts so long."""
        if self.publish_seconds is not None:
            return self.publish_seconds
        return max(step.at for step in self.schedule(seconds)) + self.tail_seconds
