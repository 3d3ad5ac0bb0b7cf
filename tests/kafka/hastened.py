"""Runs a command of ours in a process whose clock goes faster, so that hours pass in minutes.

``python -m tests.kafka.hastened 120 run park``: an hour takes half a minute. Nothing is learnt
from the broker's clock, which goes as ever.
"""

import sys
import time

from outlast.cli import main
from outlast.edges import clock
from outlast.edges.kafka import passes, sweeps


def hasten(times: float) -> None:
    """From here on, in this process."""
    began = time.monotonic_ns()
    passed = lambda: int((time.monotonic_ns() - began) * times) // 1_000_000  # noqa: E731
    clock._monotonic_ms = passed
    clock.BrokerClock.learn = lambda *_: None  # type: ignore[method-assign]
    sweeps.LOOK_SECONDS = max(0.05, 20 / times)  # type: ignore[misc]
    passes.LOOK_SECONDS = max(0.25, passes.LOOK_SECONDS / times)  # type: ignore[misc]


if __name__ == "__main__":
    hasten(float(sys.argv.pop(1)))
    main()
