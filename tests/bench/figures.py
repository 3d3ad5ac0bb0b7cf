"""What a bench reads of a process, and how it prints: medians with their spread, what is asked."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import pytest

TICKS: Final = os.sysconf("SC_CLK_TCK")
MB: Final = 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def waited_seconds(pid: int) -> float:
    """How long its main thread was ready to run and had no core: what a loaded machine costs."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def memory_mb(pid: int, kind: str = "VmRSS") -> float:
    """Resident memory now, or with ``VmHWM`` the most it ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / MB
    raise AssertionError(f"{kind} is not told of {pid}")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and, of more than one, the lowest and the highest."""
    middle = f"{median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def asked(text: str, holds: bool) -> str:
    """What the design asks, and whether it holds."""
    return f"{text}: {'holds' if holds else 'DOES NOT HOLD'}"


def show(capsys: pytest.CaptureFixture[str], title: str, *rows: Sequence[str]) -> None:
    """Print a table; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    with capsys.disabled():
        print(f"\n\n{title}")
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  " + "   ".join(cells).rstrip())
