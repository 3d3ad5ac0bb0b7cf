"""The retry budget: jobs that come back to who failed them must not add much to its load."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from outlast_schemas.attempt import Attempt, VerdictWord

__all__ = ["BudgetPolicy", "RetryBudget", "is_repeat"]

FAILED: Final = frozenset({VerdictWord.PROVIDER_DOWN, VerdictWord.AMBIGUOUS})
"""The verdicts that speak against the provider; being throttled does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPolicy:
    """How many repeats are allowed: a share of the first tries, and some in any case.

    Both are counted over the last ``ttl_ms``, as Finagle's ``RetryBudget`` does: what was not
    used by then is gone, so that a quiet hour earns no storm.
    """

    share: float = 0.2
    per_second: float = 10.0
    ttl_ms: int = 10_000

    @property
    def step_ms(self) -> int:
        """Tries are counted in tenths of the time they count for."""
        return max(1, self.ttl_ms // 10)


DEFAULT: Final = BudgetPolicy()


@dataclass(frozen=True, slots=True)
class _Step:
    number: int
    firsts: int = 0
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """One worker's budget for one provider; every event gives the next value. ``now`` is in ms."""

    policy: BudgetPolicy = DEFAULT
    steps: tuple[_Step, ...] = ()

    def first(self, now: int) -> "RetryBudget":
        """A job was called that this provider has not failed yet."""
        *before, last = self._until(now)
        last = _Step(last.number, last.firsts + 1, last.repeats)
        return RetryBudget(self.policy, (*before, last))

    def may_repeat(self, now: int) -> bool:
        """Whether a job may be called again that this provider has failed."""
        counted = self._counted(now // self.policy.step_ms)
        firsts = sum(step.firsts for step in counted)
        repeats = sum(step.repeats for step in counted)
        allowed = self.policy.per_second * self.policy.ttl_ms / 1000
        return repeats + 1 <= allowed + self.policy.share * firsts

    def repeated(self, now: int) -> "RetryBudget":
        """Such a job was called."""
        *before, last = self._until(now)
        last = _Step(last.number, last.firsts, last.repeats + 1)
        return RetryBudget(self.policy, (*before, last))

    def _until(self, now: int) -> tuple[_Step, ...]:
        """The steps that still count, up to that of now, or to a later one: clocks step back."""
        number = now // self.policy.step_ms
        if self.steps and self.steps[-1].number >= number:
            return self.steps
        return (*self._counted(number), _Step(number))

    def _counted(self, number: int) -> tuple[_Step, ...]:
        oldest = number - self.policy.ttl_ms // self.policy.step_ms
        return tuple(step for step in self.steps if step.number > oldest)


def is_repeat(attempts: Iterable[Attempt], provider: str) -> bool:
    """Whether this provider has already failed the job with these attempts."""
    return any(each.provider == provider and each.verdict in FAILED for each in attempts)
