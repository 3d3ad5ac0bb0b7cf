"""What this process's part of a provider's pool says of itself."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from outlast.edges.metrics import families as m
from outlast.edges.metrics.families import Reading

__all__ = ["Pool", "pool_readings"]


class _Took(Protocol):
    @property
    def calls(self) -> int: ...

    @property
    def seconds(self) -> float: ...


class _Outcomes(Protocol):
    @property
    def attempts(self) -> Mapping[tuple[str, str], int]: ...

    @property
    def took(self) -> Mapping[str, _Took]: ...


class Pool(Protocol):
    """What is read of :class:`outlast.edges.pool.ProviderPool`."""

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        ...

    @property
    def limit(self) -> int:
        """How many may be, by this process."""
        ...

    @property
    def outcomes(self) -> _Outcomes:
        """The calls that ended: by model and verdict, and how long those of each model took."""
        ...

    @property
    def rates(self) -> Mapping[str, tuple[float, float]]:
        """By what is bounded (``requests``, ``tokens``): what is left now, and the share a minute.

        Only what is configured.
        """
        ...


def pool_readings(provider: str, pool: Pool) -> Iterator[Reading]:
    """The pool of now."""
    yield m.INFLIGHT.of(provider, value=pool.calls)
    yield m.INFLIGHT_LIMIT.of(provider, value=pool.limit)
    for (model, verdict), count in pool.outcomes.attempts.items():
        yield m.ATTEMPTS.of(provider, model, verdict, value=count)
    for model, took in pool.outcomes.took.items():
        yield m.DURATION.of(provider, model, value=took.seconds, count=took.calls)
    for kind, (left, per_minute) in pool.rates.items():
        yield m.RATE_REMAINING.of(provider, kind, value=left)
        yield m.RATE_LIMIT.of(provider, kind, value=per_minute)
