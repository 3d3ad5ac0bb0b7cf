"""The fleet at a glance: what its verdicts, its workers' vitals and its backlogs say together."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals

__all__ = ["Backlog", "ProviderRow", "overview", "worst"]

FRESH_MS: Final = 5_000
STALE_MS: Final = 30_000
WORST: Final = (BreakerWord.OPEN, BreakerWord.HALF_OPEN, BreakerWord.RAMP, BreakerWord.CLOSED)


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many jobs a topic holds that are not done, and the age of the oldest in seconds."""

    jobs: int
    oldest_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow:
    """One provider, or one model of it where that has a verdict of its own.

    ``verdict`` is the breaker's word, or ``unknown`` where nobody has judged lately; ``since`` is
    epoch ms. ``rate`` are calls that ended per second, ``failing`` the share of them that spoke
    against the provider, both over ``FRESH_MS``; latencies are means in seconds. What is not
    known is ``None``.
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
) -> tuple[ProviderRow, ...]:
    """A row for each provider, and one for each of its models that is not well.

    Args:
        providers: the configured ones, in their order.
        health: the verdicts by provider.
        vitals: all windows of the last seconds; older ones are passed over.
        backlogs: by provider.
        now: epoch ms.
    """
    fresh = [each for each in vitals if now - each.at <= FRESH_MS]
    rows: list[ProviderRow] = []
    for provider in providers:
        mine = [each for each in fresh if each.provider == provider]
        backlog = backlogs.get(provider, Backlog(0))
        known = health.get(provider)
        rows.append(_row(provider, known, mine, backlog, now))
    return tuple(rows)


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
        workers=len(latest),
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
