"""The fleet as route and retry see it: a ramping provider gets no more than it has room for."""

import orjson

from outlast.core.choose import Fleet
from outlast.core.policy import Target
from outlast.edges.kafka.pace import PaceTable
from outlast_schemas.health import BreakerWord, Health, ModelHealth
from outlast_schemas.vitals import Vitals
from tests.core.given import NOW
from tests.stages.fakes import FrozenClock

TARGET = Target("deepseek", "flash")


def a_table(state: BreakerWord) -> PaceTable:
    models = {"flash": ModelHealth(state=state, since=NOW, permits=1)}
    health = Health(provider="deepseek", epoch=1, at=NOW, models=models)

    def build() -> None:
        raise AssertionError("nobody reads Kafka here")

    table = PaceTable(build, FrozenClock(), lambda: Fleet({"deepseek": health}))
    vitals = Vitals(provider="deepseek", worker="a", at=NOW, limit=1)
    table.take(orjson.dumps(vitals.to_json()))
    return table


def test_who_ramps_is_full_after_as_many_as_it_has_room_for() -> None:
    ramped = a_table(BreakerWord.RAMP).ramped()
    for _ in range(2):
        assert ramped.fleet().may_send(TARGET, NOW)
        ramped.sent(TARGET)
    assert not ramped.fleet().may_send(TARGET, NOW)
    assert ramped.fleet().is_up(TARGET, NOW)


def test_what_is_closed_is_never_full_and_nothing_is_counted_there() -> None:
    table = a_table(BreakerWord.CLOSED)
    for _ in range(5):
        table.ramped().sent(TARGET)
    assert table.room(TARGET) == 2
    assert table.ramped().fleet().may_send(TARGET, NOW)


def test_vitals_wake_who_watches_and_what_cannot_be_read_is_passed_over() -> None:
    table, seen = a_table(BreakerWord.CLOSED), list[str]()
    table.watch(seen.append)
    table.take(b"{")
    table.take(None)
    table.take(orjson.dumps(Vitals(provider="openai", worker="b", at=NOW).to_json()))
    assert seen == ["openai"]
