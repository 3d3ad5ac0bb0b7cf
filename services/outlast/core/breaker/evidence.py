"""What speaks against a provider just now, from what its workers saw."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Final

from outlast.core.breaker.policy import DEFAULT, BreakerPolicy
from outlast_schemas.vitals import Window

__all__ = ["Evidence"]

SURE: Final = 0.98
"""A worker of which all calls failed is taken to fail so often: some success is always possible."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A window, when it was heard, and when its worker told it: who is late hears many at once."""

    at: int
    told: int
    worker: str
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The windows of the last half minute, and how long the last run of failures is.

    One of these for each model, and one for the provider as a whole, that counts what no model is
    to blame for: connections that failed, and accounts that are blocked.
    """

    is_whole: bool = False
    seen: tuple[_Seen, ...] = ()
    in_a_row: int = 0
    throttled_since: int | None = None
    throttled: int = 0
    note: str | None = None

    def saw(
        self,
        worker: str,
        window: Window,
        now: int,
        policy: BreakerPolicy = DEFAULT,
        *,
        told: int | None = None,
    ) -> "Evidence":
        """Add one worker's window, which it ``told`` (epoch ms) just now unless said otherwise."""
        if not window.calls and not window.overdue:
            return self
        since = now - policy.window_ms
        kept = tuple(each for each in self.seen if each.at > since)
        # A run of failures that nothing was heard of for so long is over; one of refusals takes
        # longer, because the provider itself has said when to ask again.
        known = self if kept else replace(self, in_a_row=0)
        if self.seen and now - self.seen[-1].at >= 2 * policy.window_ms:
            known = replace(known, throttled=0, throttled_since=None)
        return replace(
            known._counted(window, now),
            seen=(*kept, _Seen(now, now if told is None else told, worker, window)),
            note=window.note or self.note,
        )

    def is_disproved(self, worker: str, now: int, policy: BreakerPolicy = DEFAULT) -> bool:
        """Whether another worker was served while this one finds that nobody is."""
        since = now - policy.disproof_ms
        return any(
            each.window.succeeded for each in self.seen if each.at > since and each.worker != worker
        )

    def _counted(self, window: Window, now: int) -> "Evidence":
        """A success ends a run of failures; a rejected job or a 429 neither ends nor lengthens it.

        For the whole everything ends it that reached the provider, a failure with a status too:
        where there are such, the streak does not tell which of its failures came last.
        """
        bad = window.unreached if self.is_whole else window.failures
        is_over = window.calls > bad if self.is_whole else window.succeeded > 0
        if is_over:
            row = min(window.streak, bad) if window.failures == bad or not self.is_whole else 0
            return replace(self, in_a_row=row, throttled=0, throttled_since=None)
        since = self.throttled_since
        if since is None and window.throttled:
            since = now
        return replace(
            self,
            in_a_row=self.in_a_row + bad,
            throttled=self.throttled + window.throttled,
            throttled_since=since,
        )

    def why(self, now: int, policy: BreakerPolicy = DEFAULT) -> str | None:
        """What opens the breaker, in a line; ``None`` while nothing does."""
        found = self._whole(now, policy) if self.is_whole else self._model(now, policy)
        return self._believed(found, now, policy)

    def why_few(self, now: int, policy: BreakerPolicy = DEFAULT) -> str | None:
        """What opens it where few calls are made; only who hears all workers may go by that.

        Three failures in a row are no proof, and a mistake costs one probe. For a worker alone it
        would cost more: one that finds down what the others find well leaves.
        """
        if self.is_whole or not self._is_few(policy):
            return None
        return self._believed(f"{self.in_a_row} failures in a row, none served", now, policy)

    def _believed(self, found: str | None, now: int, policy: BreakerPolicy) -> str | None:
        if found is None or self._one_alone(now, policy):
            return None
        return f"{found}; the last: {self.note}" if self.note else found

    def _whole(self, now: int, policy: BreakerPolicy) -> str | None:
        blocked = sum(each.window.blocked for each in self.seen)
        if blocked >= policy.blocked:
            return f"the account is blocked ({blocked} jobs)"
        if self._is_row(policy.unreached_in_a_row, now, policy):
            return f"{self.in_a_row} connections in a row failed"
        return None

    def _model(self, now: int, policy: BreakerPolicy) -> str | None:
        misrouted = sum(each.window.misrouted for each in self.seen)
        if misrouted >= policy.blocked:
            return f"the model is not there ({misrouted} jobs)"
        if self._is_row(policy.failures_in_a_row, now, policy):
            return f"{self.in_a_row} failures in a row"
        return self._rates(policy) or self._throttled(now, policy)

    def _is_row(self, enough: int, now: int, policy: BreakerPolicy) -> bool:
        """Whether so many failed in a row, and that is no accident among all that succeeded."""
        if self.in_a_row < enough:
            return False
        since = now - policy.row_ms
        return self.in_a_row >= sum(each.window.succeeded for each in self.seen if each.at > since)

    def _is_few(self, policy: BreakerPolicy) -> bool:
        """Whether enough of different jobs failed for a while, and nothing else was heard."""
        last = self.seen[-1].told
        fresh = (each.window for each in self.seen if last - each.told < policy.few_quiet_ms)
        if self.in_a_row < policy.few_in_a_row or any(w.succeeded or w.answered for w in fresh):
            return False
        row = (last, *islice(self._failures_told(), policy.few_in_a_row))
        if len(row) <= policy.few_in_a_row:
            return False  # the first of them are half a minute old
        if any(late - early >= policy.few_apart_ms for late, early in pairwise(row)):
            return False  # all may be of one job, that came again
        return last - row[-1] >= policy.few_least_ms

    def _failures_told(self) -> Iterator[int]:
        """When each failure was told, the latest first."""
        return (each.told for each in reversed(self.seen) for _ in range(each.window.failures))

    def _rates(self, policy: BreakerPolicy) -> str | None:
        judged = failed = slow = 0
        for each in self.seen:
            window = each.window
            judged += window.succeeded + window.answered + window.failures
            judged += window.overdue - window.late  # each call counts once
            failed += window.failures
            slow += window.slow + window.overdue
        if judged < policy.enough_calls:
            return None
        seconds = policy.window_ms // 1000
        if failed >= policy.failure_rate * judged:
            return f"{failed} of {judged} calls failed within {seconds} s"
        if slow >= policy.slow_rate * judged:
            return f"{slow} of {judged} calls were slow within {seconds} s"
        return None

    def _throttled(self, now: int, policy: BreakerPolicy) -> str | None:
        since = self.throttled_since
        if since is None or self.throttled < policy.throttled or now - since < policy.throttled_ms:
            return None
        return f"{self.throttled} calls in a row were throttled within {(now - since) // 1000} s"

    def _one_alone(self, now: int, policy: BreakerPolicy) -> bool:
        """Whether one worker alone is in trouble, and the others' successes are no coincidence."""
        failed: dict[str, list[int]] = {}
        for each in self.seen:
            if now - each.at > policy.fresh_ms:
                continue  # whoever was well then may have asked before the trouble began
            bad = each.window.failures + each.window.blocked + each.window.misrouted
            counts = failed.setdefault(each.worker, [0, 0])
            counts[0] += bad
            counts[1] += each.window.succeeded
        suspects = [worker for worker, (bad, _) in failed.items() if bad]
        if len(suspects) != 1:
            return False
        bad, well = failed[suspects[0]]
        others = sum(well for worker, (_, well) in failed.items() if worker != suspects[0])
        return (1 - min(SURE, bad / (bad + well))) ** others < policy.doubt
