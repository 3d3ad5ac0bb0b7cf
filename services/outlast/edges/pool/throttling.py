"""What slows this process's part of a pool after a refusal (429)."""

from collections.abc import Callable

from outlast.core.policy import Permit
from outlast.core.throttle import Throttle
from outlast.core.verdict import Verdict
from outlast.edges.clock import BrokerClock
from outlast.edges.pool.rates import AHEAD_MS
from outlast_schemas.attempt import VerdictWord

__all__ = ["Throttling"]


class Throttling:
    """The throttle, told of each call that begins and ends, and of pauses the fleet knows of.

    Each worker finds its back-off and its pace by its own calls: what one has learnt of its share
    says little of another's, and backing off together they would come back together.
    """

    def __init__(self, clock: BrokerClock, fleet_pause: Callable[[], int]) -> None:
        """``fleet_pause`` is until when (epoch ms) all have been asked to call nobody."""
        self._clock = clock
        self._fleet_pause = fleet_pause
        self._throttle = Throttle()

    def wait_ms(self) -> int:
        """How long until the next call may begin; 0: it may."""
        now = self._clock.now()
        self._throttle = self._throttle.paused(self._fleet_pause(), now)
        return self._throttle.wait_ms(now)

    def ahead(self) -> int | None:
        """How many calls may begin within a few seconds; ``None`` where nothing bounds it."""
        return self._throttle.ahead(self._clock.now(), AHEAD_MS)

    def began(self, permit: Permit) -> None:
        """A call begins."""
        self._throttle = self._throttle.began(self._clock.now())
        permit.number = self._throttle.begun

    def ended(self, permit: Permit, verdict: Verdict) -> None:
        """It has ended. A failure says neither that it was let in nor that it was refused."""
        now = self._clock.now()
        if verdict.word is VerdictWord.RETRY_LATER:
            wait_ms = None if verdict.retry_after is None else int(verdict.retry_after * 1000)
            roll = self._clock.roll()
            self._throttle = self._throttle.was_refused(permit.number, now, roll, wait_ms)
        elif not verdict.evidence:
            self._throttle = self._throttle.served(permit.number, now)
