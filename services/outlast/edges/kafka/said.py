"""What a log says of the same trouble again and again: once in a while, and how often it was."""

from time import monotonic
from typing import Final

from outlast.edges.logs import Log

__all__ = ["REPEAT_SECONDS", "Said"]

REPEAT_SECONDS: Final = 10.0
"""The same refusal of a topic is said once in so many seconds."""


class Said:
    """Of one part of the product."""

    def __init__(self, log: Log) -> None:
        """``log`` is that part's."""
        self._log = log
        self._last: dict[tuple[str, str, str], tuple[float, int]] = {}

    def error(self, event: str, topic: str, error: BaseException) -> None:
        """Say it, unless it was said just now; then it is counted."""
        which = (event, topic, type(error).__name__)
        since, more = self._last.get(which, (-REPEAT_SECONDS, 0))
        if monotonic() - since < REPEAT_SECONDS:
            self._last[which] = (since, more + 1)
            return
        self._last[which] = (monotonic(), 0)
        self._log.error(event, topic=topic, error=which[2], more_like_it=more)
