"""What a process says of itself: every number from live objects, at the moment it is asked."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from aiokafka import TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from outlast.core.choose import Fleet
from outlast.core.lifecycle import Ask, Complete, Expire, Park, SetAside, Wait, records
from outlast.core.policy import Target
from outlast.core.progress import Progress
from outlast.core.watermark import Watermark
from outlast.edges.codec import Record
from outlast.edges.condition import Condition, Phase
from outlast.edges.kafka.outbox import Outbox
from outlast.edges.kafka.written import Written
from outlast.edges.metrics import FAMILIES, Metrics
from outlast.edges.metrics import families as m
from outlast.edges.metrics.backlogs import GLANCE_MS, Backlog
from outlast.edges.metrics.families import Reading
from outlast.edges.metrics.feeds import backlog_readings, feed_readings
from outlast.edges.metrics.fleet import fleet_readings
from outlast.edges.metrics.loop_lag import KEPT_SECONDS, LoopLag
from outlast.edges.metrics.pool import pool_readings
from outlast.edges.metrics.process import process_readings
from outlast.edges.metrics.written import written_readings
from outlast.edges.pool.outcomes import Seconds
from outlast.edges.process import Moving
from outlast_schemas.dead_letter import Reason
from outlast_schemas.health import BreakerWord
from outlast_schemas.job import Job
from outlast_schemas.result import Served, Status
from outlast_schemas.topics import Topics
from tests.core.given import CATALOGUE, FLASH, LUNA, NOW, a_fleet, a_job, an_attempt

TOPICS: Final = Topics()
ONE: Final = TopicPartition("outlast.jobs", 0)
TWO: Final = TopicPartition("outlast.jobs", 1)
ME: Final = "me"


def said(readings: Iterable[Reading]) -> dict[tuple[str, ...], float]:
    """By name and labels."""
    found = {}
    for each in readings:
        key = (each.family.name.removeprefix("outlast_"), *each.labels)
        assert key not in found, f"{key} is said twice"
        found[key] = each.value
    return found


def scraped(metrics: Metrics, accept: str = "") -> dict[tuple[str, ...], float]:
    """What Prometheus reads of it: by name and the labels' values, in the labels' order."""
    body, _ = metrics.text(accept)
    return {
        (each.name, *(each.labels[label] for label in sorted(each.labels))): each.value
        for family in text_string_to_metric_families(body.decode())
        for each in family.samples
    }


# --- the text -------------------------------------------------------------------------------------


def test_every_kind_is_written_as_prometheus_reads_it() -> None:
    metrics = Metrics()
    metrics.watch(
        lambda: [m.INFLIGHT.of("openai", value=3), m.ATTEMPTS.of("openai", "gpt", "ok", value=7)],
        lambda: [m.DURATION.of("openai", "gpt", value=2.5, count=4)],
        lambda: [m.INFLIGHT.of("local", value=1)],
    )

    found = scraped(metrics)

    assert found["outlast_inflight", "openai"] == 3
    assert found["outlast_inflight", "local"] == 1
    assert found["outlast_attempts_total", "gpt", "openai", "ok"] == 7
    assert found["outlast_attempt_duration_seconds_sum", "gpt", "openai"] == 2.5
    assert found["outlast_attempt_duration_seconds_count", "gpt", "openai"] == 4
    assert found[("process_open_fds",)] > 0
    text = metrics.text()[0].decode()
    assert text.count("# TYPE outlast_inflight gauge") == 1
    assert "# TYPE outlast_attempts_total counter" in text


def test_a_scraper_that_asks_for_openmetrics_gets_it() -> None:
    metrics = Metrics()
    metrics.watch(lambda: [m.REBALANCES.of("route", value=2)])

    body, content_type = metrics.text("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")

    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert b'outlast_rebalances_total{feed="route"} 2.0' in body
    assert metrics.text()[1].startswith("text/plain; version=0.0.4")


def test_each_scrape_asks_anew() -> None:
    held, metrics = [1], Metrics()
    metrics.watch(lambda: [m.HELD.of("route", value=held[0])])
    first = scraped(metrics)["outlast_held_jobs", "route"]
    held[0] = 5

    assert (first, scraped(metrics)["outlast_held_jobs", "route"]) == (1, 5)


def test_a_part_that_cannot_say_hides_nobody_else() -> None:
    metrics = Metrics()

    def broken() -> list[Reading]:
        raise KeyError("gone")

    metrics.watch(broken, lambda: [m.READY.of(value=1)])
    with capture_logs() as logs:
        found = scraped(metrics)

    assert found[("outlast_ready",)] == 1
    assert [each["event"] for each in logs] == ["metrics.source_failed"]


def test_a_value_without_its_labels_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="outlast_attempts_total"):
        m.ATTEMPTS.of("openai", value=1)


def test_names_are_as_prometheus_wants_them_and_tell_nobody_apart() -> None:
    names = [each.name for each in FAMILIES]

    assert len(set(names)) == len(names) >= 30
    for each in FAMILIES:
        assert re.fullmatch(r"outlast_[a-z]+(_[a-z]+)*", each.name)
        assert each.name.endswith("_total") == (each.kind == "counter")
        assert each.meaning.endswith(".")
        assert not {"job", "job_id", "id", "user", "tenant", "key"} & set(each.labels)


# --- what was written -----------------------------------------------------------------------------


def write(*decisions: Any) -> Written:
    written = Written()
    for decision in decisions:
        for record in records(decision, TOPICS, CATALOGUE, NOW):
            written.add(record)
    return written


def test_what_became_of_jobs_is_counted_by_status_reason_and_tier() -> None:
    job = a_job()
    found = said(
        written_readings(
            write(
                Complete(job, Served(body=b"{}", provider="openai", model="luna")),
                SetAside(job, Reason.NOT_JSON, "no"),
                SetAside(job, Reason.CONFLICT, "the id was there before"),
                Expire(job),
                Wait(job, NOW),
                Wait(job, NOW + 20_000),
                Wait(job, NOW + 20_000),
                Park(job),
            ),
            TOPICS,
        )
    )

    assert {key[1]: value for key, value in found.items() if key[0] == "results_total"} == {
        "succeeded": 1,
        "dead_lettered": 1,  # a conflict has no result
        "expired": 1,
        "cancelled": 0,
    }
    letters = {key[1]: value for key, value in found.items() if key[0] == "dead_letters_total"}
    assert {reason for reason, count in letters.items() if count} == {
        "not_json",
        "conflict",
        "deadline",
    }
    assert letters.keys() == {each.value for each in Reason}
    tiers = {key[1]: value for key, value in found.items() if key[0] == "retries_scheduled_total"}
    assert tiers == {"0s": 1, "5s": 0, "30s": 2, "2m": 0, "10m": 0}
    assert Status.CANCELLED not in write(Park(job)).results


@pytest.mark.parametrize(
    ("job", "target", "counted"),
    [
        (a_job(), FLASH, {}),
        (a_job(attempts=(an_attempt(FLASH),)), LUNA, {("deepseek", "openai"): 1}),
        (a_job(attempts=(an_attempt(FLASH),)), FLASH, {}),
        (a_job(attempts=(an_attempt(FLASH),)), Target("deepseek", "other"), {}),
        (a_job(attempts=(an_attempt(LUNA), an_attempt(FLASH))), LUNA, {("deepseek", "openai"): 1}),
        (a_job(avoid={"deepseek": NOW + 5_000}), LUNA, {("deepseek", "openai"): 1}),
        (a_job(avoid={"deepseek/flash": NOW + 5_000}), LUNA, {}),
        (a_job(avoid={"deepseek": NOW - 5_000}), FLASH, {}),
    ],
    ids=[
        "the first",
        "failed",
        "again",
        "another model",
        "the last counts",
        "handed over",
        "a target",
        "back",
    ],
)
def test_a_job_that_goes_elsewhere_has_failed_over(
    job: Job, target: Target, counted: Mapping[tuple[str, str], int]
) -> None:
    written = write(Ask(job, target))

    assert written.failovers == counted
    [topic] = written.hops
    assert topic == TOPICS.work(target.provider)
    failed_over = [
        each for each in said(written_readings(written, TOPICS)) if "failovers" in each[0]
    ]
    assert failed_over == [("failovers_total", *each) for each in counted]


def test_a_job_that_waits_or_is_parked_has_not_failed_over() -> None:
    job = a_job(attempts=(an_attempt(FLASH),), avoid={"deepseek": NOW + 5_000})

    assert not write(Wait(job, NOW), Park(job)).failovers


# --- the fleet ------------------------------------------------------------------------------------


def fleet_said(fleet: Fleet, now: int = NOW) -> dict[tuple[str, ...], float]:
    return said(fleet_readings(CATALOGUE, lambda: fleet, lambda: now))


@pytest.mark.parametrize(
    ("word", "number"),
    [
        (BreakerWord.CLOSED, 0),
        (BreakerWord.HALF_OPEN, 1),
        (BreakerWord.OPEN, 2),
        (BreakerWord.RAMP, 3),
    ],
)
def test_a_verdict_has_its_number(word: BreakerWord, number: int) -> None:
    found = fleet_said(a_fleet("openai", state=word))

    assert found["breaker_state", "openai", "*"] == number
    assert found["verdict_age_seconds", "openai"] == 0
    assert ("breaker_state", "deepseek", "*") not in found


def test_models_are_told_apart() -> None:
    found = fleet_said(
        a_fleet(models={"openai": [("*", BreakerWord.CLOSED), ("luna", BreakerWord.OPEN)]})
    )

    assert found["breaker_state", "openai", "*"] == 0
    assert found["breaker_state", "openai", "luna"] == 2


def test_a_verdict_that_nobody_writes_anew_says_its_age_and_nothing_else() -> None:
    found = fleet_said(a_fleet("openai"), NOW + 31_000)

    assert found["verdict_age_seconds", "openai"] == 31
    assert ("breaker_state", "openai", "*") not in found
    assert found["route_targets_up", "west"] == 2


def test_a_route_has_so_many_targets_left() -> None:
    found = fleet_said(a_fleet("deepseek", "openai", "local"))

    assert (found["route_targets", "chat"], found["route_targets_up", "chat"]) == (3, 1)
    assert (found["route_targets", "private"], found["route_targets_up", "private"]) == (1, 0)
    assert found["route_targets_up", "west"] == 0


def test_a_ramp_counts_as_up() -> None:
    found = fleet_said(a_fleet("local", state=BreakerWord.RAMP))

    assert found["route_targets_up", "private"] == 1


def test_how_long_a_provider_still_wishes_no_calls() -> None:
    health = a_fleet("openai", state=BreakerWord.CLOSED).health["openai"]
    fleet = Fleet({"openai": replace(health, paused_until=NOW + 1_500)})

    assert fleet_said(fleet)["provider_paused_seconds", "openai"] == 1.5
    assert fleet_said(fleet, NOW + 2_000)["provider_paused_seconds", "openai"] == 0


# --- pools ----------------------------------------------------------------------------------------


@dataclass
class Outcomes:
    attempts: dict[tuple[str, str], int] = field(default_factory=dict)
    took: dict[str, Seconds] = field(default_factory=dict)


@dataclass
class Pool:
    calls: int = 2
    limit: int = 10
    outcomes: Outcomes = field(default_factory=Outcomes)
    rates: dict[str, tuple[float, float]] = field(default_factory=dict)


def test_a_pool_tells_of_its_calls_and_of_the_rates_that_are_bounded() -> None:
    outcomes = Outcomes(
        {("gpt", "succeeded"): 5, ("gpt", "ambiguous"): 1}, {"gpt": Seconds(6, 3.5)}
    )
    pool = Pool(outcomes=outcomes, rates={"tokens": (-40.0, 1_000.0)})

    assert said(pool_readings("openai", pool)) == {
        ("inflight", "openai"): 2,
        ("inflight_limit", "openai"): 10,
        ("attempts_total", "openai", "gpt", "succeeded"): 5,
        ("attempts_total", "openai", "gpt", "ambiguous"): 1,
        ("attempt_duration_seconds", "openai", "gpt"): 3.5,
        ("ratelimit_remaining", "openai", "tokens"): -40,
        ("ratelimit_per_minute", "openai", "tokens"): 1_000,
    }
    assert not [each for each in said(pool_readings("openai", Pool())) if "rate" in each[0]]


# --- feeds ----------------------------------------------------------------------------------------


class World:
    """A feed and its partitions, as a backlog sees them; records are appended every second."""

    def __init__(self, **marks: tuple[int, int]) -> None:
        """``one`` and ``two``: the committed offset, and where the partition ends."""
        self.now = NOW
        self.runs: dict[Any, Record] = {}
        self.held: dict[TopicPartition, list[Record]] = {}
        places = {"one": ONE, "two": TWO}
        self.marks = {places[n]: Watermark(Progress(at, at), ME) for n, (at, _) in marks.items()}
        self.written = {places[n]: end for n, (_, end) in marks.items()}
        self.owned = frozenset(self.marks)
        self.records = self
        self.asked: list[Mapping[TopicPartition, int]] = []
        self.answers = True
        self.backlog = Backlog(self, self, self.appended, lambda: self.now)

    @property
    def running(self) -> Sequence[Record]:
        return list(self.runs.values())

    async def ends(self) -> Mapping[TopicPartition, int]:
        return self.written if self.answers else {}

    async def appended(self, places: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        self.asked.append(places)
        return {tp: at(offset) for tp, offset in places.items()} if self.answers else {}

    def run(self, tp: TopicPartition, offset: int) -> None:
        assert self.marks[tp].admit(offset)
        self.runs[tp, offset] = record(tp, offset)

    def done(self, tp: TopicPartition, offset: int) -> None:
        self.marks[tp].done(offset)
        del self.runs[tp, offset]

    def hold(self, tp: TopicPartition, *offsets: int) -> None:
        self.held[tp] = [record(tp, offset) for offset in offsets]

    async def look(self, times: int = 1, after_ms: int = 5_000) -> None:
        for _ in range(times):
            self.now += after_ms
            await self.backlog.look()

    def waits(self) -> tuple[int, float]:
        standing = self.backlog.standings()["outlast.jobs"]
        return standing.jobs, standing.oldest_seconds


def at(offset: int) -> int:
    """When the record at this offset was appended: all of them before now."""
    return NOW - 1_000_000 + 1_000 * offset


def record(tp: TopicPartition, offset: int) -> Record:
    found = SimpleNamespace(
        topic=tp.topic, partition=tp.partition, offset=offset, timestamp=at(offset)
    )
    return cast(Record, found)


async def test_nothing_waits_where_all_is_done() -> None:
    world = World(one=(7, 7))
    await world.look(3)

    assert world.waits() == (0, 0.0)
    assert not world.asked


async def test_the_oldest_that_runs_is_as_old_as_its_record() -> None:
    world = World(one=(0, 10))
    await world.look()
    for offset in (0, 1, 2):
        world.run(ONE, offset)
    world.done(ONE, 1)

    assert world.waits() == (9, (world.now - at(0)) / 1000)
    world.done(ONE, 0)
    assert world.waits() == (8, (world.now - at(2)) / 1000)


async def test_the_oldest_that_was_fetched_is_as_old_as_its_record() -> None:
    world = World(one=(4, 10))
    world.hold(ONE, 4, 5, 6)
    await world.look(3)

    assert world.waits() == (6, (world.now - at(4)) / 1000)
    assert not world.asked


async def test_what_is_not_read_is_looked_up_once_it_has_waited_for_a_look() -> None:
    world = World(one=(4, 10), two=(0, 0))
    await world.look()
    assert world.waits() == (6, 0.0)  # no older than it was seen to be

    world.now += 3_000
    assert world.waits() == (6, 3.0)

    await world.look()
    assert world.asked == [{ONE: 4}]
    assert world.waits() == (6, (world.now - at(4)) / 1000)

    await world.look(100)
    assert len(world.asked) == 1  # it does not change


async def test_while_nothing_can_be_read_it_is_as_old_as_it_was_seen_waiting() -> None:
    world = World(one=(4, 10))
    await world.look()
    world.answers = False
    await world.look(4)

    assert world.waits() == (6, 20.0)


async def test_records_are_looked_up_at_most_every_half_minute() -> None:
    world = World(one=(0, 100))
    for offset in range(60):
        world.marks[ONE].admit(offset)  # another ran it: nothing is known of it here
        await world.look()
        world.marks[ONE].done(offset)

    assert not world.asked  # none was the lowest for two looks

    world = World(one=(4, 10), two=(9, 12))
    await world.look()
    world.answers = False
    await world.look(12)
    assert 2 <= len(world.asked) <= 12 * 5_000 / GLANCE_MS + 1


async def test_the_age_is_that_of_the_oldest_partition_and_the_jobs_are_of_all() -> None:
    world = World(one=(8, 10), two=(3, 10))
    world.hold(ONE, 8)
    world.hold(TWO, 3)
    await world.look()

    assert world.waits() == (9, (world.now - at(3)) / 1000)


async def test_a_partition_that_went_to_another_is_told_of_no_more() -> None:
    world = World(one=(8, 10), two=(3, 10))
    await world.look(2)
    world.owned = frozenset({ONE})

    assert world.waits()[0] == 2
    world.owned = frozenset()
    assert world.backlog.standings() == {}


async def test_a_feed_tells_of_its_partitions_its_commits_and_what_was_lost() -> None:
    lost = {"outlast.jobs": 3}
    assignment = SimpleNamespace(
        owned=frozenset({ONE, TWO, TopicPartition("outlast.parked", 0)}),
        commits=SimpleNamespace(behind_seconds=1.5),
        assigned=4,
        holes=SimpleNamespace(lost=Count(lost)),
    )
    feed = SimpleNamespace(name="route", in_flight=9, copies=SimpleNamespace(dropped=2))
    moving = cast(Moving, SimpleNamespace(feed=feed, assignment=assignment))

    assert said(feed_readings(moving)) == {
        ("held_jobs", "route"): 9,
        ("partitions", "route"): 3,
        ("commit_age_seconds", "route"): 1.5,
        ("rebalances_total", "route"): 4,
        ("duplicates_suppressed_total", "route"): 2,
        ("records_lost_total", "outlast.jobs"): 3,
        ("records_lost_total", "outlast.parked"): 0,
    }


class Count(dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 0


async def test_parked_jobs_have_a_metric_of_their_own() -> None:
    world = World(one=(8, 10))
    await world.look()
    as_jobs = said(backlog_readings(world.backlog, TOPICS, {"outlast.jobs": 60.0}))
    as_parked = said(backlog_readings(world.backlog, Renamed(), {}))

    assert as_jobs == {
        ("lag_jobs", "outlast.jobs"): 2,
        ("oldest_uncommitted_age_seconds", "outlast.jobs"): 0,
        ("retention_seconds", "outlast.jobs"): 60,
    }
    assert as_parked[("parked_jobs",)] == 2


class Renamed(Topics):
    @property
    def parked(self) -> str:
        return "outlast.jobs"


# --- the process ----------------------------------------------------------------------------------


def test_a_process_tells_whether_it_is_ready_and_whether_it_can_write() -> None:
    condition, lag = Condition(), LoopLag()
    outbox = cast(Outbox, SimpleNamespace(is_blocked=True, oldest_seconds=7.5))
    lag.saw(0.25, 0.0)
    starting = said(process_readings(condition, outbox, lag))
    condition.phase = Phase.RUNNING
    running = said(process_readings(condition, outbox, lag))

    [version] = [key[1] for key in running if key[0] == "build_info"]
    assert re.match(r"\d+\.\d+", version)
    assert (starting[("ready",)], running[("ready",)]) == (0, 1)
    assert (running[("writes_blocked",)], running[("oldest_write_seconds",)]) == (1, 7.5)
    assert running[("loop_lag_seconds",)] == 0.25


def test_the_worst_lag_is_remembered_for_a_while_and_then_forgotten() -> None:
    lag = LoopLag()
    since = lag._since
    lag.saw(0.9, since + 1)
    for second in range(2, int(KEPT_SECONDS)):
        lag.saw(0.01, since + second)
    assert lag.seconds == 0.9

    for second in range(int(KEPT_SECONDS), int(3 * KEPT_SECONDS)):
        lag.saw(0.02, since + second)
    assert lag.seconds == 0.02
