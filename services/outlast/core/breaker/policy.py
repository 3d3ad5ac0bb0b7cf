"""The breaker's numbers."""

from dataclasses import dataclass
from typing import Final

from outlast_schemas.attempt import VerdictWord

__all__ = ["ANSWERED", "DEFAULT", "REACHED", "BreakerPolicy"]

ANSWERED: Final = frozenset(
    {
        VerdictWord.SUCCEEDED,
        VerdictWord.JOB_REJECTED,
        VerdictWord.CONTEXT_TOO_LONG,
        VerdictWord.CONTENT_POLICY,
    }
)
"""A probe that ends so was served: some models refuse one token, and that is no outage."""

REACHED: Final = ANSWERED | {VerdictWord.MISROUTED, VerdictWord.RETRY_LATER}
"""A probe of the provider as a whole that ends so met somebody who knows us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """What opens a breaker, and how it closes again; all times in ms.

    Evidence, of the last ``window_ms``: ``failures_in_a_row`` of one model, ``unreached_in_a_row``
    connections that failed, a ``failure_rate`` or a ``slow_rate`` of at least ``enough_calls``,
    ``blocked`` jobs that met a blocked account or a model that is not there, or
    ``throttled`` times 429 for ``throttled_ms`` with nothing served between them: a limit lets some
    calls through, an outage that speaks 429 lets none. They may be few: who was told to wait for
    half a minute asks twice in a minute, and those behind who asks must not wait long. For a
    step of a ramp it takes ``ramp_throttled``.

    Where few calls are made the first jobs would start over before so many have failed: there
    ``few_in_a_row`` are enough for the fleet, when nobody was served or told of a fault of its own
    for ``few_quiet_ms``. It takes two jobs, though no window tells whose call it was: no two
    of the failures in a row were told ``few_apart_ms`` apart, and a job that has tried all
    stays away for at least that and the second that a window takes. And it takes two moments,
    ``few_least_ms`` apart: a connection that breaks may take several calls with it.

    ``doubt``: what one worker alone saw opens nothing when the others' successes would be a
    coincidence less likely than this. What one has tripped over by itself opens it too, unless
    another was served within ``disproof_ms``; an owner that is new listens for ``listen_ms`` first.

    A probe follows an opening after up to ``probe_first_ms``, then after waits that double with
    each setback up to ``probe_most_ms``, with full jitter; a prober silent for
    ``probe_patience_ms`` is replaced; a worker is known while its vitals are younger than
    ``fresh_ms``. A step of the ramp is judged once as many calls have ended as it has permits, at
    most ``ramp_calls``. One without a call for ``ramp_idle_ms`` is tested by a probe; one
    that served somebody and has lasted ``ramp_step_ms`` with permits to spare has shown enough. Who
    stayed closed for ``calm_ms`` has no setbacks any more.
    """

    window_ms: int = 30_000
    failures_in_a_row: int = 5
    unreached_in_a_row: int = 3
    row_ms: int = 2_000
    few_in_a_row: int = 3
    few_quiet_ms: int = 1_000
    few_apart_ms: int = 2_000
    few_least_ms: int = 500
    failure_rate: float = 0.25
    slow_rate: float = 0.5
    enough_calls: int = 40
    blocked: int = 2
    throttled: int = 3
    throttled_ms: int = 60_000
    doubt: float = 0.05
    disproof_ms: int = 8_000
    listen_ms: int = 2_000
    probe_first_ms: int = 1_000
    probe_most_ms: int = 30_000
    probe_patience_ms: int = 15_000
    fresh_ms: int = 5_000
    ramp_calls: int = 4
    ramp_throttled: int = 10
    ramp_idle_ms: int = 5_000
    ramp_step_ms: int = 2_000
    calm_ms: int = 60_000

    def probe_wait_ms(self, setbacks: int, roll: float) -> int:
        """How long to leave it alone: full jitter up to a bound that doubles."""
        return int(roll * min(self.probe_most_ms, self.probe_first_ms * 2 ** min(setbacks, 16)))


DEFAULT: Final = BreakerPolicy()
