"""The fleet at a glance: the worst verdict, the freshest vitals, what waits."""

from dataclasses import replace
from typing import Any

from outlast.core.overview import FRESH_MS, STALE_MS, Backlog, ProviderRow, overview
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals, Window
from tests.core.given import NOW


def a_health(models: dict[str, BreakerWord], at: int = NOW) -> Health:
    found = {name: ModelHealth(state=state, since=NOW) for name, state in models.items()}
    return Health(provider="deepseek", epoch=1, at=at, models=found)


def seen(
    health: Health | None = None, *vitals: Vitals, backlog: Backlog | None = None
) -> ProviderRow:
    known = {} if health is None else {"deepseek": health}
    backlogs = {} if backlog is None else {"deepseek": backlog}
    [row] = overview(["deepseek"], known, vitals, backlogs, NOW)
    return row


def some_vitals(worker: str, at: int = NOW, **window: Any) -> Vitals:
    return Vitals(
        provider="deepseek",
        worker=worker,
        at=at,
        in_flight=3,
        limit=10,
        models={"flash": replace(Window(), **window)},
    )


def test_the_worst_verdict_is_shown_and_on_which_model() -> None:
    row = seen(a_health({EVERY_MODEL: BreakerWord.CLOSED, "flash": BreakerWord.OPEN}))

    assert (row.model, row.verdict) == ("flash", "open")


def test_a_verdict_that_nobody_renews_is_unknown() -> None:
    old = a_health({EVERY_MODEL: BreakerWord.OPEN}, NOW - STALE_MS - 1)

    assert seen(old).verdict == "unknown"
    assert seen(None).verdict == "unknown"


def test_workers_count_once_by_their_latest_vitals_and_calls_by_all_fresh_ones() -> None:
    row = seen(
        None,
        some_vitals("w1", NOW - 1_000, succeeded=4, ms=8_000, first_ms=4_000),
        some_vitals("w1", succeeded=3, failures=1, ms=4_000, first_ms=4_000),
        some_vitals("w2", succeeded=2, ms=8_000, first_ms=2_000),
        some_vitals("w3", NOW - FRESH_MS - 1, failures=90),
    )

    assert (row.workers, row.in_flight, row.limit) == (2, 6, 20)
    assert (row.rate, row.failing) == (2.0, 0.1)
    assert (row.first_token_seconds, row.total_seconds) == (1.0, 2.0)


def test_what_waits_is_shown_with_its_age() -> None:
    row = seen(None, backlog=Backlog(7, 12.5))

    assert (row.backlog, row.oldest_seconds, row.failing) == (7, 12.5, None)
