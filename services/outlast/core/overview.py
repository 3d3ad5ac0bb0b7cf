"""The fleet at a glance: what its verdicts, its workers' vitals and its backlogs say together."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals

__all__ = ["Backlog", "Parked", "ProviderRow", "overview", "worst"]

FRESH_MS: Final = 5_000
STALE_MS: Final = 30_000
WORST: Final = (BreakerWord.OPEN, BreakerWord.HALF_OPEN, BreakerWord.RAMP, BreakerWord.CLOSED)


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many jobs a topic holds that are not done, and the age of the oldest in seconds."""

    jobs: int
    oldest_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """How many parked jobs would go to each provider first, were all of them up.

    ``is_all`` unless more are parked than were looked at. Who could go nowhere is not counted.
    """

    jobs: Mapping[str, int] = field(default_factory=dict)
    is_all: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow:
    """One provider, or one model of it where that has a verdict of its own.

    ``verdict`` is the breaker's word, or ``unknown`` where nobody has judged lately; ``since`` is
    epoch ms. ``rate`` are calls that ended per second, ``failing`` the share of them that spoke
    against the provider, both over ``FRESH_MS``; latencies are means in seconds.
    ``failed_over_in`` are the jobs that came here instead of to the provider they would have gone
    to first, ``failed_over_out`` those that went elsewhere instead of here, as the workers of now
    have counted since each of them started. ``parked`` jobs would come here first;
    ``parked_at_least`` tells that more are parked than were looked at. What is not known is
    ``None``.
    """

    provider: str
    model: str
    verdict: str
    evidence: str = ""
    since: int | None = None
    permits: int | None = None
    paused_until: int | None = None
    workers: int = 0
    in_flight: int = 0
    limit: int = 0
    rate: float = 0.0
    failing: float | None = None
    first_token_seconds: float | None = None
    total_seconds: float | None = None
    backlog: int = 0
    oldest_seconds: float | None = None
    failed_over_in: int = 0
    failed_over_out: int = 0
    parked: int | None = None
    parked_at_least: bool = False

    @property
    def is_down(self) -> bool:
        """Whether no job may go there."""
        return self.verdict in (BreakerWord.OPEN, BreakerWord.HALF_OPEN)

    def to_json(self) -> dict[str, object]:
        """The object that ``--json`` prints."""
        return asdict(self)


def overview(
    providers: Iterable[str],
    health: Mapping[str, Health],
    vitals: Iterable[Vitals],
    backlogs: Mapping[str, Backlog],
    now: int,
    parked: Parked | None = None,
) -> tuple[ProviderRow, ...]:
    """A row for each provider.

    Args:
        providers: the configured ones, in their order.
        health: the verdicts by provider.
        vitals: all windows of the last seconds; older ones are passed over.
        backlogs: by provider.
        now: epoch ms.
        parked: for whom what is parked waits, if somebody has looked.
    """
    fresh = [each for each in vitals if now - each.at <= FRESH_MS]
    moved = _failed_over(fresh)
    rows: list[ProviderRow] = []
    for provider in providers:
        mine = [each for each in fresh if each.provider == provider]
        backlog = backlogs.get(provider, Backlog(0))
        row = replace(
            _row(provider, health.get(provider), mine, backlog, now),
            failed_over_in=sum(jobs for (_, to), jobs in moved.items() if to == provider),
            failed_over_out=sum(jobs for (first, _), jobs in moved.items() if first == provider),
            parked=None if parked is None else parked.jobs.get(provider, 0),
            parked_at_least=parked is not None and not parked.is_all,
        )
        rows.append(row)
    return tuple(rows)


def _failed_over(vitals: Iterable[Vitals]) -> Mapping[tuple[str, str], int]:
    """Jobs by the provider they would have gone to first, and the one that called them instead."""
    latest: dict[tuple[str, str], Vitals] = {}
    for each in sorted(vitals, key=lambda each: each.at):
        latest[each.provider, each.worker] = each
    moved: Counter[tuple[str, str]] = Counter()
    for each in latest.values():
        moved.update({(first, each.provider): jobs for first, jobs in each.failed_over.items()})
    return moved


def _row(
    provider: str, health: Health | None, vitals: list[Vitals], backlog: Backlog, now: int
) -> ProviderRow:
    model, verdict = worst(health, now)
    latest = {each.worker: each for each in sorted(vitals, key=lambda each: each.at)}
    windows = [window for each in vitals for window in each.models.values()]
    calls = sum(window.calls for window in windows)
    failed = sum(window.failures for window in windows)
    judged = calls or None
    return ProviderRow(
        provider=provider,
        model=model,
        verdict=verdict.state.value if verdict is not None else "unknown",
        evidence=verdict.evidence if verdict is not None else "",
        since=verdict.since if verdict is not None else None,
        permits=verdict.permits if verdict is not None else None,
        paused_until=_paused(health, now),
        workers=sum(1 for each in latest.values() if each.limit),
        in_flight=sum(each.in_flight for each in latest.values()),
        limit=sum(each.limit for each in latest.values()),
        rate=round(calls * 1000 / FRESH_MS, 2),
        failing=None if judged is None else round(failed / judged, 4),
        first_token_seconds=_mean(sum(window.first_ms for window in windows), judged),
        total_seconds=_mean(sum(window.ms for window in windows), judged),
        backlog=backlog.jobs,
        oldest_seconds=backlog.oldest_seconds,
    )


def worst(health: Health | None, now: int) -> tuple[str, ModelHealth | None]:
    """The verdict that lets the least through, and the model it is on."""
    if health is None or now - health.at > STALE_MS or not health.models:
        return EVERY_MODEL, None
    return min(health.models.items(), key=lambda each: WORST.index(each[1].state))


def _paused(health: Health | None, now: int) -> int | None:
    until = health.paused_until if health is not None else None
    return until if until is not None and until > now else None


def _mean(ms: int, calls: int | None) -> float | None:
    return None if not calls else round(ms / calls / 1000, 3)
