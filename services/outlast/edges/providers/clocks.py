"""Which clock of a call runs out first, and when."""

from dataclasses import dataclass

from outlast.core.policy import Clocks
from outlast.core.verdict import Clock

__all__ = ["Countdown", "next_cut"]


@dataclass(frozen=True, slots=True)
class Countdown:
    """``seconds`` after the start of the call, ``clock`` ends it."""

    seconds: float
    clock: Clock


def next_cut(clocks: Clocks, seconds_left: float, progress: float | None) -> Countdown:
    """The clock that ends the call if nothing more comes.

    The connect clock is not among them: it runs in the transport, where it is known that nothing
    was sent. On a tie the job's deadline counts, so that the provider is not blamed for it.

    Args:
        clocks: the provider's.
        seconds_left: from the start of the call until the job's deadline.
        progress: seconds from the start to the last byte that was not white space, if any came.
    """
    waiting = (
        Countdown(clocks.first_token_seconds, "first_token")
        if progress is None
        else Countdown(progress + clocks.idle_seconds, "idle")
    )
    running = (
        Countdown(seconds_left, "deadline"),
        Countdown(clocks.total_seconds, "total"),
        waiting,
    )
    return min(running, key=lambda countdown: countdown.seconds)
