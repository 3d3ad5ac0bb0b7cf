"""Pace: a provider gets as many parked jobs as its workers have room for."""

from typing import Any

from outlast.core.choose import Fleet
from outlast.core.pace import FRESH_MS, TRICKLE, Pace
from outlast.core.policy import Target
from outlast_schemas.health import BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals
from tests.core.given import NOW

TARGET = Target("deepseek", "flash")
FLEET = Fleet({})


def vitals(worker: str = "a", at: int = NOW, **more: Any) -> Vitals:
    return Vitals(provider="deepseek", worker=worker, at=at, **more)


def test_room_is_twice_the_limits_less_what_is_there_and_under_way() -> None:
    pace = Pace()
    pace.saw(vitals("a", limit=10, in_flight=4, queued=3))
    pace.saw(vitals("b", limit=5))
    assert pace.room(TARGET, FLEET, NOW) == 23
    pace.sent("deepseek", NOW + 1)
    pace.sent("openai", NOW + 1)
    assert pace.room(TARGET, FLEET, NOW + 1) == 22

    pace.saw(vitals("a", NOW + 1_000, limit=10, queued=1))
    pace.saw(vitals("b", NOW + 1_000, limit=5))
    assert pace.room(TARGET, FLEET, NOW + 1_000) == 29


def test_a_ramp_has_room_for_its_permits_only() -> None:
    pace = Pace()
    pace.saw(vitals(limit=100, in_flight=1))
    ramp = ModelHealth(state=BreakerWord.RAMP, since=NOW, permits=4)
    fleet = Fleet({"deepseek": Health(provider="deepseek", epoch=1, at=NOW, models={"*": ramp})})
    assert pace.room(TARGET, fleet, NOW) == 7


def test_there_is_never_less_than_no_room() -> None:
    pace = Pace()
    pace.saw(vitals(limit=1, queued=50))
    assert pace.room(TARGET, FLEET, NOW) == 0


def test_where_no_worker_is_known_jobs_go_in_a_trickle() -> None:
    pace = Pace()
    pace.saw(vitals(at=NOW - FRESH_MS - 1, limit=1, queued=50))
    for _ in range(TRICKLE):
        assert pace.room(TARGET, FLEET, NOW) > 0
        pace.sent("deepseek", NOW)
    assert pace.room(TARGET, FLEET, NOW) == 0
    assert pace.room(TARGET, FLEET, NOW + 1_100) == TRICKLE


def test_an_older_word_is_passed_over() -> None:
    pace = Pace()
    pace.saw(vitals(at=NOW, limit=10))
    pace.saw(vitals(at=NOW - 1, limit=99))
    assert pace.room(TARGET, FLEET, NOW) == 20
