"""The fleet at a glance: the worst verdict, the freshest vitals, what waits."""

from dataclasses import replace
from typing import Any

from outlast.core.overview import FRESH_MS, STALE_MS, Backlog, Parked, ProviderRow, overview
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


def an_alternate(provider: str, worker: str, at: int = NOW, **failed_over: int) -> Vitals:
    return Vitals(provider=provider, worker=worker, at=at, failed_over=failed_over)


def test_who_failed_over_is_counted_at_both_ends_by_the_latest_of_each_worker() -> None:
    vitals = [
        an_alternate("openai", "w1", deepseek=40, local=2),
        an_alternate("openai", "w1", NOW - 1_000, deepseek=30),
        an_alternate("openai", "w2", deepseek=5),
        an_alternate("anthropic", "w1", deepseek=7, openai=1),  # of the same process as the first
        an_alternate("anthropic", "w3", NOW - FRESH_MS - 1, deepseek=900),
    ]

    rows = overview(["deepseek", "openai", "anthropic", "local"], {}, vitals, {}, NOW)

    assert {row.provider: (row.failed_over_in, row.failed_over_out) for row in rows} == {
        "deepseek": (0, 52),
        "openai": (47, 1),
        "anthropic": (8, 0),
        "local": (0, 2),
    }


def test_what_is_parked_for_whom_is_shown_and_whether_it_is_all() -> None:
    def parked(found: Parked | None) -> list[tuple[int | None, bool]]:
        rows = overview(["deepseek", "openai"], {}, [], {}, NOW, found)
        return [(row.parked, row.parked_at_least) for row in rows]

    assert parked(None) == [(None, False), (None, False)]
    assert parked(Parked({"deepseek": 3})) == [(3, False), (0, False)]
    assert parked(Parked({"deepseek": 3}, is_all=False)) == [(3, True), (0, True)]
