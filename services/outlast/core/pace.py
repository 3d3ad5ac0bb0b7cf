"""How many parked jobs a provider has room for now, by what its workers say of themselves."""

from collections import deque
from typing import Final

from outlast.core.choose import Fleet
from outlast.core.policy import Target
from outlast_schemas.vitals import Vitals

__all__ = ["FRESH_MS", "TRICKLE", "Pace"]

FRESH_MS: Final = 5_000
"""Vitals older than this say nothing of now."""
TRICKLE: Final = 100
"""Jobs a second that may go where no worker is known: then they wait there, and none is flooded."""
AHEAD: Final = 2
"""So many times what may be under way may be there, lest a pool waits for the next vitals."""
SECOND_MS: Final = 1_000
BUCKET_MS: Final = 100
"""What was sent is counted by such spans; the one that a word falls into counts as after it."""


class Pace:
    """The latest vitals of each worker, and what this process sent since. Times are epoch ms."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._workers: dict[str, dict[str, Vitals]] = {}
        self._sent: dict[str, deque[list[int]]] = {}

    def saw(self, vitals: Vitals) -> None:
        """One worker's word; an older one than is known is passed over."""
        workers = self._workers.setdefault(vitals.provider, {})
        before = workers.get(vitals.worker)
        if before is None or before.at <= vitals.at:
            workers[vitals.worker] = vitals

    def sent(self, provider: str, now: int) -> None:
        """A job goes there."""
        sent, at = self._sent.setdefault(provider, deque()), now - now % BUCKET_MS
        if sent and sent[-1][0] == at:
            sent[-1][1] += 1
        else:
            sent.append([at, 1])

    def room(self, target: Target, fleet: Fleet, now: int) -> int:
        """How many more may go there now; never below 0."""
        fresh = self._fresh(target.provider, now)
        if not fresh:
            return max(0, TRICKLE - self._sent_since(target.provider, now - SECOND_MS, now))
        ramp = fleet.ramp(target, now)
        permits = ramp.permits if ramp is not None else sum(each.limit for each in fresh)
        there = sum(each.in_flight + each.queued for each in fresh)
        # Of what was sent after the oldest word, some is not counted in it.
        under_way = self._sent_since(target.provider, min(each.at for each in fresh), now)
        return max(0, AHEAD * permits - there - under_way)

    def _fresh(self, provider: str, now: int) -> list[Vitals]:
        workers = self._workers.get(provider, {})
        for name in [name for name, each in workers.items() if now - each.at > FRESH_MS]:
            del workers[name]
        return list(workers.values())

    def _sent_since(self, provider: str, since: int, now: int) -> int:
        sent = self._sent.get(provider)
        if not sent:
            return 0
        while sent and sent[0][0] < now - FRESH_MS - BUCKET_MS:
            sent.popleft()
        return sum(count for at, count in sent if at > since - BUCKET_MS)
