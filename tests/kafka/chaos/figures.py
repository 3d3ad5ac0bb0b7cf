"""The table that ends a chaos run: what each scenario cost, one row each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

__all__ = ["Row", "Table", "longest_pause"]

HEAD: Final = (
    *("scenario", "jobs", "lost", "repeated", "extra calls", "allowed", "longest pause", "took"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one scenario came to.

    Attributes:
        scenario: its name.
        jobs: how many were acknowledged.
        lost: acknowledged ones without a result within the bound.
        repeated: result records beyond the first of a run.
        extra_calls: calls of providers beyond the one that each job needs.
        allowed_calls: the bound for them: in flight at each kill, and what ended right before.
        pause_seconds: the longest time without a new call while a job waited, if it was measured.
        seconds: how long the scenario took.
    """

    scenario: str
    jobs: int
    lost: int
    repeated: int
    extra_calls: int
    allowed_calls: int
    pause_seconds: float | None
    seconds: float

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        pause = "-" if self.pause_seconds is None else f"{self.pause_seconds:.2f} s"
        counts = (self.jobs, self.lost, self.repeated, self.extra_calls, self.allowed_calls)
        return (self.scenario, *map(str, counts), pause, f"{self.seconds:.0f} s")


@dataclass
class Table:
    """All rows of a run, in their order."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> Row:
        """Take it in and give it back."""
        self.rows.append(row)
        return row

    def lines(self) -> list[str]:
        """Aligned, the head first."""
        cells = [HEAD, *(row.cells for row in self.rows)]
        widths = [max(len(each[column]) for each in cells) for column in range(len(HEAD))]
        return [_aligned(each, widths) for each in cells]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((first, *rest))


def longest_pause(
    acknowledged: Mapping[str, float], started: Iterable[tuple[float, str]]
) -> float | None:
    """The longest time in which nothing started although an acknowledged job waited to.

    Args:
        acknowledged: job → when.
        started: when a call of a job began; nothing counts before the first.
    """
    starts = sorted(started)
    first: dict[str, float] = {}
    for at, job in starts:
        first.setdefault(job, at)
    longest: float | None = None
    waiting_since = float("inf")
    for (before, _), (at, job) in reversed([*pairwise(starts)]):
        if first[job] == at:
            waiting_since = min(waiting_since, acknowledged.get(job, at))
        longest = max(longest or 0.0, at - max(before, waiting_since))
    return longest
