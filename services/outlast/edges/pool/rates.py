"""This process's part of the requests and tokens a minute that the whole pool may use."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

from outlast.core.limits import Bucket, Rate
from outlast.core.policy import Limits
from outlast.edges.pool.share import Share

__all__ = ["Rates"]

AHEAD_MS: Final = 3_000
"""What is not to be called within this time waits in Kafka, and not here."""
MEMORY: Final = 0.9
"""How much of the mean size of a job is kept when the next one comes."""


class _Flow:
    """One rate's bucket, cut to the share of the moment."""

    def __init__(self, per_minute: int, share: Share, now: Callable[[], int]) -> None:
        self._rate: Final = Rate(per_minute)
        self._share = share
        self._now = now
        self._epoch: object = None
        self._bucket = Bucket(now())

    @property
    def bucket(self) -> Bucket:
        if self._epoch != (epoch := self._share.epoch):
            self._epoch = epoch
            per_minute = self._rate.share(self._share.partitions, self._share.owned)
            self._bucket = self._bucket.resized(per_minute, self._now())
        return self._bucket

    def take(self, amount: float) -> None:
        self._bucket = self.bucket.taken(amount, self._now())

    def settle(self, reserved: float, used: float) -> None:
        self._bucket = self.bucket.settled(reserved, used, self._now())

    def ahead(self, size: float) -> int:
        """How many jobs of that size it lets through soon."""
        return ceil(self.bucket.per_minute * AHEAD_MS / 60_000 / size)


class Rates:
    """Both rates, where they are configured; a job is let through when both let it."""

    def __init__(self, limits: Limits, share: Share, now: Callable[[], int]) -> None:
        """``now`` gives epoch ms."""
        self._now = now
        self._mean = 0.0
        self._requests = self._tokens = None
        if limits.requests_per_minute is not None:
            self._requests = _Flow(limits.requests_per_minute, share, now)
        if limits.tokens_per_minute is not None:
            self._tokens = _Flow(limits.tokens_per_minute, share, now)

    @property
    def counts_tokens(self) -> bool:
        """Whether it has to be known how many tokens a job may use."""
        return self._tokens is not None

    def wait_ms(self, tokens: int) -> int | None:
        """How long until a job that may use so many is let through; ``None`` while none is."""
        waits = [flow.bucket.wait_ms(size, self._now()) for flow, size in self._flows(tokens)]
        known = [wait for wait in waits if wait is not None]
        return max(known, default=0) if len(known) == len(waits) else None

    def take(self, tokens: int) -> None:
        """Let it through. Raises ``ValueError`` where it has to wait."""
        for flow, size in self._flows(tokens):
            flow.take(size)
        self._mean = tokens if not self._mean else MEMORY * self._mean + (1 - MEMORY) * tokens

    def settle(self, reserved: int, used: int) -> None:
        """A call that was let through has used so many tokens."""
        if self._tokens is not None:
            self._tokens.settle(reserved, used)

    def not_called(self, reserved: int) -> None:
        """Nothing came of it: all that was taken comes back."""
        if self._requests is not None:
            self._requests.settle(1, 0)
        self.settle(reserved, 0)

    def ahead(self) -> int | None:
        """How many jobs are let through within a few seconds; ``None`` where nothing bounds it."""
        return min((flow.ahead(size) for flow, size in self._flows(self._mean or 1)), default=None)

    def left(self) -> Mapping[str, tuple[float, float]]:
        """By what is bounded: what may be taken now, and this process's share of a minute."""
        flows = {"requests": self._requests, "tokens": self._tokens}
        return {
            kind: (flow.bucket.level_at(self._now()), flow.bucket.per_minute)
            for kind, flow in flows.items()
            if flow is not None
        }

    def _flows(self, tokens: float) -> list[tuple[_Flow, float]]:
        both = ((self._requests, 1.0), (self._tokens, float(tokens)))
        return [(flow, size) for flow, size in both if flow is not None]
