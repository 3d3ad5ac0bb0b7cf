"""What this process saw of its provider: the next window of vitals, and its own evidence."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from outlast.core.breaker import BreakerPolicy, Evidence, together
from outlast.core.verdict import Verdict
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL
from outlast_schemas.vitals import Window

__all__ = ["Outcomes", "Seconds"]

REMEMBERED: Final = 200
RECENT_MS: Final = 30_000
WELL_BELOW: Final = 0.10
ALONE: Final = BreakerPolicy(throttled=2**31)
"""A limit is shared by all: that one worker gets nothing of it speaks neither against the provider
nor against the worker. Whether it is an outage is for the fleet to say, which sees all of them."""
URGENT_STREAKS: Final = frozenset({3, 5, *(10 * 2**doubled for doubled in range(8))})
"""So many failures in a row are told at once, not with the next window: they may be enough.

Where much was served just before, the first few are not; and who answers 503 in no time would be
called a hundred times until the next window.
"""
URGENT_COUNT: Final = 2
URGENT: Final = {VerdictWord.ACCOUNT_BLOCKED: "blocked", VerdictWord.MISROUTED: "misrouted"}
"""Two of these are enough."""


@dataclass(slots=True)
class Seconds:
    """How long calls of one model took in all, for those who watch."""

    calls: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Counts:
    """A window that is still counted."""

    counts: Counter[str] = field(default_factory=Counter)
    streak: int = 0
    slowest_ms: int = 0
    note: str | None = None

    def window(self) -> Window:
        return Window(**self.counts, streak=self.streak, slowest_ms=self.slowest_ms, note=self.note)


COUNTED: Final[Mapping[VerdictWord, str]] = {
    VerdictWord.SUCCEEDED: "succeeded",
    VerdictWord.RETRY_LATER: "throttled",
    VerdictWord.ACCOUNT_BLOCKED: "blocked",
    VerdictWord.MISROUTED: "misrouted",
}
"""Where a verdict that is no evidence of an outage is counted; what is not here: ``answered``."""


class Outcomes:
    """Counts how calls ended. Instants are epoch ms of the broker's clock."""

    def __init__(self, worker: str, slow_ms: int, now: Callable[[], int]) -> None:
        """``slow_ms`` is from when on a call counts as slow."""
        self._worker = worker
        self._slow_ms = slow_ms
        self._now = now
        self._counts: dict[str, _Counts] = {}
        self._evidence: dict[str, Evidence] = {}
        self._recent: deque[tuple[int, str, bool]] = deque(maxlen=REMEMBERED)
        self._calls: dict[object, tuple[str, int]] = {}
        self._overdue: set[object] = set()
        self._streaks: Counter[str] = Counter()
        self.attempts: Counter[tuple[str, str]] = Counter()
        """Calls that ended since the process began, by model and verdict."""
        self.took: dict[str, Seconds] = {}
        self.failed_over: Counter[str] = Counter()
        """Jobs called here first of all that would have gone elsewhere, by that other provider."""
        self.served = 0
        self.failed = 0

    def began(self, call: object, model: str) -> None:
        """A call is under way."""
        self._calls[call] = (model, self._now())

    def gone(self, call: object) -> None:
        """It is under way no more, however that came."""
        self._calls.pop(call, None)
        self._overdue.discard(call)

    def ended(self, call: object, job_id: str, verdict: Verdict, fair_since: int) -> bool:
        """Count what a call came to; says whether the fleet should be told at once.

        What began before ``fair_since`` speaks of another time: it is no evidence.
        """
        model, began = self._calls[call]
        now = self._now()
        self._total(model, verdict, now - began)
        self._recent.append((now, job_id, verdict.evidence))
        if began < fair_since:
            return False
        counts = self._counts.setdefault(model, _Counts())
        self._count(counts, model, call, verdict, now - began)
        if (name := URGENT.get(verdict.word)) is not None:
            return counts.counts[name] == URGENT_COUNT
        return verdict.evidence and self._streaks[model] in URGENT_STREAKS

    def _total(self, model: str, verdict: Verdict, ms: int) -> None:
        self.attempts[model, verdict.word.value] += 1
        took = self.took.setdefault(model, Seconds())
        took.calls += 1
        took.seconds += ms / 1000
        self.served += verdict.word is VerdictWord.SUCCEEDED
        self.failed += verdict.evidence

    def _count(self, counts: _Counts, model: str, call: object, verdict: Verdict, ms: int) -> None:
        counts.counts["ms"] += ms
        counts.counts["first_ms"] += ms if verdict.first_ms is None else verdict.first_ms
        counts.slowest_ms = max(counts.slowest_ms, ms)
        counts.counts["late"] += call in self._overdue
        if verdict.word is VerdictWord.SUCCEEDED:
            counts.counts["succeeded"] += 1
            counts.streak = self._streaks[model] = 0
            if ms >= self._slow_ms and call not in self._overdue:
                counts.counts["slow"] += 1
            return
        counts.note = verdict.note
        if not verdict.evidence:
            counts.counts[COUNTED.get(verdict.word, "answered")] += 1
            return
        counts.counts["failures"] += 1
        # The only way to be down without a status is never to have been reached.
        is_unreached = verdict.word is VerdictWord.PROVIDER_DOWN and verdict.status is None
        counts.counts["unreached"] += is_unreached
        counts.streak += 1
        self._streaks[model] += 1

    def window(self, fair_since: Callable[[str], int] = lambda model: 0) -> Mapping[str, Window]:
        """What came since this was asked last, by model; the own evidence takes it in.

        ``fair_since`` is for overdue calls, by model, what it is for those that :meth:`ended`.
        """
        self._count_overdue(fair_since)
        windows = {model: counts.window() for model, counts in self._counts.items()}
        self._counts = {}
        for key, window in {**windows, EVERY_MODEL: together(windows.values())}.items():
            known = self._evidence.get(key) or Evidence(is_whole=key == EVERY_MODEL)
            self._evidence[key] = known.saw(self._worker, window, self._now())
        return windows

    def _count_overdue(self, fair_since: Callable[[str], int]) -> None:
        before = self._now() - self._slow_ms
        for call, (model, began) in self._calls.items():  # in the order in which they began
            if began > before:
                break
            if call not in self._overdue:
                self._overdue.add(call)
                if began >= fair_since(model):
                    self._counts.setdefault(model, _Counts()).counts["overdue"] += 1

    def against(self) -> Mapping[str, str]:
        """By model (``*`` for the provider), what speaks against it by the own evidence alone."""
        now = self._now()
        found = ((key, each.why(now, ALONE)) for key, each in self._evidence.items())
        return {key: why for key, why in found if why is not None}

    def forget(self, key: str) -> None:
        """What was seen of it has been told, and believed or not; from here on count anew."""
        if key == EVERY_MODEL:
            self._evidence.clear()
            self._streaks.clear()
        self._evidence.pop(key, None)
        self._streaks.pop(key, None)

    def does_well(self, job_id: str) -> bool:
        """Whether under 10 % of the others' calls of the last 30 s failed, and some were made."""
        since = self._now() - RECENT_MS
        others = [failed for at, job, failed in self._recent if at >= since and job != job_id]
        return bool(others) and sum(others) / len(others) < WELL_BELOW
