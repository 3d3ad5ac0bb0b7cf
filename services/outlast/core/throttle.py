"""How fast a pool goes on after a refusal (429): a pause, one call to try, then a pace.

A refusal stops the pool for as long as the provider names, or for a back-off. Then one call goes
first; once it was let in, calls follow at a tenth more than the provider let in before, and faster
the longer nothing is refused. So the refused share stays small, be it a limit by the minute or by
the second, and the pace follows the limit with no need to know it (the idea is the client-side
throttling of Google's SRE book; the shape of the growth is that of TCP CUBIC, counted in calls).
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Final

__all__ = ["LetIn", "Throttle", "ThrottlePolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottlePolicy:
    """Spans in ms, rates in calls a second.

    Attributes:
        first_ms: the first back-off is up to so long, and each further one up to twice as long.
        most_ms: no back-off is longer. The breaker takes half a minute without a call for the end
            of an outage: while everything is refused it must hear of it sooner.
        trial_ms: a refusal comes at once; a call that lasts so long was let in.
        span_ms: over so long, and up to twice that, it is counted how many calls were let in.
        stop_ms: so much of a pause counts as time in which none was let in: most limits are by the
            minute, and what was let in before the pause was let in for some of that, too.
        soon_ms: no rate is taken from a shorter time.
        more: the pace is so many times what was let in.
        grown: the growth without a refusal is bounded by so many times what was let in.
        cut: a refusal among served calls slows the pace to no less than this part of it.
        kept: a pause slows it to no less than this part of it.
        step_calls: after so many calls without a refusal the pace is an eighth higher, after
            twice as many it has doubled.
        step_ms: calls of so long at the pace, where those are more.
        calm_ms: or after so long, where few calls are made: that tells nothing of the limit.
        least: the slowest pace.
        in_a_row: so many refusals with nothing let in between them stop a pool that has a pace.
        forget_ms: after so long without a refusal the pace is no longer needed.
        slack_ms: who waits wakes up late: so much is made up for.
    """

    first_ms: int = 1_000
    most_ms: int = 20_000
    trial_ms: int = 2_000
    span_ms: int = 30_000
    stop_ms: int = 15_000
    soon_ms: int = 1_000
    more: float = 1.1
    grown: float = 6.0
    cut: float = 0.7
    kept: float = 0.5
    step_calls: int = 10
    step_ms: int = 10_000
    calm_ms: int = 30_000
    least: float = 0.1
    in_a_row: int = 2
    forget_ms: int = 300_000
    slack_ms: int = 250

    def back_off_ms(self, setbacks: int, roll: float) -> int:
        """Full jitter, up to a bound that doubles with each setback."""
        return int(roll * min(self.most_ms, self.first_ms * 2 ** min(setbacks, 16)))


DEFAULT: Final = ThrottlePolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class LetIn:
    """How many calls were let in of late. Instants are epoch ms."""

    count: float = 0.0
    since: int = 0
    last: int = 0

    def rate(self, now: int, policy: ThrottlePolicy = DEFAULT) -> float:
        """Calls a second."""
        return 1000 * self.count / max(policy.soon_ms, now - self.since)

    def began(self, now: int, is_steady: bool, policy: ThrottlePolicy = DEFAULT) -> "LetIn":
        """A call begins: it counts as let in until it is refused.

        A pool that was idle is counted anew: what it can do does not show in what it did. The time
        before half of a long count is forgotten, unless the pool stood still (not ``is_steady``).
        """
        count, since = self.count, self.since
        if is_steady and now - self.last > policy.span_ms:
            count, since = 0.0, now
        elif is_steady and now - since > 2 * policy.span_ms:
            count, since = count / 2, (since + now) // 2
        return LetIn(count=count + 1, since=since, last=now)

    def refused(self) -> "LetIn":
        """One of them was not."""
        return replace(self, count=max(0.0, self.count - 1))

    def without(self, ms: int) -> "LetIn":
        """So much of the time does not count."""
        return replace(self, since=self.since + max(0, ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """One worker's throttle of one provider; every event gives the next value.

    Instants are epoch ms. Calls are numbered from 1 as they begin.

    Attributes:
        begun: the number of the last call.
        mark: calls up to this number were under way at the last refusal: another refusal of one of
            them says nothing new.
        row: refusals in a row, with a pace, between which nothing was let in.
        until: nobody calls before.
        stopped_at: since when the pool stands still; ``None`` while it does not.
        tried_at: when the call began that goes first after a pause.
        setbacks: pauses in a row that the provider did not name and that ended in a refusal.
        let_in: how many calls were let in of late.
        pace: the rate of calls let in when the last refusal came, or its pause ended.
        paced_at: when that was.
        clear: calls that began since then without a refusal.
        next_at: when the next call is due by the pace.
    """

    begun: int = 0
    mark: int = 0
    row: int = 0
    until: int = 0
    stopped_at: int | None = None
    tried_at: int | None = None
    setbacks: int = 0
    let_in: LetIn = LetIn()
    pace: float | None = None
    paced_at: int = 0
    clear: int = 0
    next_at: float = 0.0

    def wait_ms(self, now: int, policy: ThrottlePolicy = DEFAULT) -> int:
        """How long until the next call may begin; 0: it may."""
        if now < self.until:
            return self.until - now
        if self.tried_at is not None:
            return max(0, self.tried_at + policy.trial_ms - now)
        if self.stopped_at is not None:
            return 0
        if self._bound(now, policy) is None:
            return 0
        return max(0, ceil(self.next_at - now))

    def ahead(self, now: int, ms: int, policy: ThrottlePolicy = DEFAULT) -> int | None:
        """How many calls may begin within so long; ``None`` where nothing bounds it."""
        if now < self.until or self.stopped_at is not None:
            return 1
        bound = self._bound(now, policy)
        return None if bound is None else ceil(bound * ms / 1000)

    def began(self, now: int, policy: ThrottlePolicy = DEFAULT) -> "Throttle":
        """A call begins, and its number is ``begun`` then."""
        throttle = self
        if self.stopped_at is not None and self.tried_at is None:
            throttle = replace(self, tried_at=now)
        elif self.stopped_at is not None:
            throttle = self._goes_on(now, policy)  # the first one was not refused: it lasts
        bound = throttle._bound(now, policy)
        return replace(
            throttle,
            begun=self.begun + 1,
            clear=throttle.clear + 1,
            let_in=throttle.let_in.began(now, throttle.stopped_at is None, policy),
            next_at=throttle._due(now, policy) + (1000 / bound if bound else 0.0),
        )

    def served(self, number: int, now: int, policy: ThrottlePolicy = DEFAULT) -> "Throttle":
        """That call was answered: it had been let in."""
        if self.stopped_at is None or number <= self.mark:
            return self
        return self._goes_on(now, policy)

    def was_refused(
        self,
        number: int,
        now: int,
        roll: float,
        wait_ms: int | None = None,
        policy: ThrottlePolicy = DEFAULT,
    ) -> "Throttle":
        """That call was refused; ``wait_ms`` is what the provider wishes, if it names it.

        Refusals arrive about as their calls began: those that began before this one after the mark
        and were not refused have been let in.
        """
        throttle = replace(self, let_in=self.let_in.refused(), clear=0)
        if wait_ms is not None:
            return throttle.paused(now + wait_ms, now)
        if number <= self.mark:
            return throttle
        row = 0 if number > self.mark + 1 else self.row + 1
        bound = self._bound(now, policy)
        if self.stopped_at is None and bound is not None and row < policy.in_a_row:
            pace = max(throttle.let_in.rate(now, policy), policy.cut * bound / policy.more)
            return replace(throttle, row=row)._paced(pace, now, policy)
        until = now + policy.back_off_ms(self.setbacks, roll)
        return replace(throttle._stopped(until, now), setbacks=self.setbacks + 1)

    def paused(self, until: int, now: int) -> "Throttle":
        """The provider wishes that nobody calls it until then; this worker was told, or another."""
        return self._stopped(until, now) if until > max(now, self.until) else self

    def _stopped(self, until: int, now: int) -> "Throttle":
        since = now if self.stopped_at is None else self.stopped_at
        until = max(self.until, until)
        return replace(self, until=until, stopped_at=since, tried_at=None, mark=self.begun)

    def _goes_on(self, now: int, policy: ThrottlePolicy) -> "Throttle":
        stood = 0 if self.stopped_at is None else now - self.stopped_at
        let_in = self.let_in.without(stood - policy.stop_ms)
        pace = max(let_in.rate(now, policy), policy.kept * (self.pace or 0.0))
        throttle = replace(
            self,
            let_in=let_in,
            stopped_at=None,
            tried_at=None,
            row=0,
            setbacks=0,
            next_at=float(now),
        )
        return throttle._paced(pace, now, policy)

    def _paced(self, pace: float, now: int, policy: ThrottlePolicy) -> "Throttle":
        pace = max(pace, policy.least)
        return replace(self, pace=pace, paced_at=now, clear=0, mark=self.begun)

    def _due(self, now: int, policy: ThrottlePolicy) -> float:
        return max(self.next_at, float(now - policy.slack_ms))

    def _bound(self, now: int, policy: ThrottlePolicy) -> float | None:
        """Calls a second; ``None``: as many as there are permits."""
        if self.pace is None or now - self.paced_at >= policy.forget_ms:
            return None
        calls = max(policy.step_calls, policy.step_ms * self.pace / 1000)
        steps = max(self.clear / calls, (now - self.paced_at) / policy.calm_ms)
        most = policy.grown * max(self.pace, self.let_in.rate(now, policy))
        return policy.more * min(most, self.pace * (1 + (steps / 2) ** 3))
