"""This process's part of the requests and tokens a minute that the whole pool may use."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

from outlast.core.limits import Bucket, Rate
from outlast.core.policy import Limits, Permit
from outlast.core.tokens import Expected, Usage
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

    def settle(self, expected: Expected, used: float) -> None:
        now, doubted = self._now(), expected.doubted(used)
        settled = self.bucket.settled(expected.tokens - doubted, used, now)
        self._bucket = settled.forgiven(doubted, now)

    def ahead(self, size: float) -> int:
        """How many jobs of that size it lets through soon."""
        return ceil(self.bucket.per_minute * AHEAD_MS / 60_000 / size)


class Rates:
    """Both rates, where they are configured; a job is let through when both let it."""

    def __init__(self, limits: Limits, share: Share, now: Callable[[], int]) -> None:
        """``now`` gives epoch ms."""
        self._now = now
        self._mean = 0.0
        self._usage = Usage()
        self._taken: dict[Permit, Expected] = {}
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
        size = self._usage.expected(tokens).tokens
        waits = [flow.bucket.wait_ms(each, self._now()) for flow, each in self._flows(size)]
        known = [wait for wait in waits if wait is not None]
        return max(known, default=0) if len(known) == len(waits) else None

    def take(self, permit: Permit) -> None:
        """Let its call through. Raises ``ValueError`` where it has to wait."""
        expected = self._usage.expected(permit.tokens)
        for flow, size in self._flows(expected.tokens):
            flow.take(size)
        self._taken[permit] = expected
        size = expected.tokens
        self._mean = size if not self._mean else MEMORY * self._mean + (1 - MEMORY) * size

    def put(self, permit: Permit) -> None:
        """The call has ended; when no call was made of it, all that was taken comes back."""
        expected = self._taken.pop(permit, None)
        if expected is None:
            return  # it was not let through by the rates
        if permit.used is None:
            for flow, size in self._flows(expected.tokens):
                flow.settle(Expected(size), 0)
        elif self._tokens is not None:
            self._tokens.settle(expected, permit.used)
            self._usage = self._usage.seen(permit.tokens, permit.used)

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
