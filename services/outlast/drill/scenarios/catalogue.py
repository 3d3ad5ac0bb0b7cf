"""The scenarios, each a value."""

from collections.abc import Mapping
from typing import Final

from outlast.drill.scenarios import bounds as b
from outlast.drill.scenarios import schedules as happens
from outlast.drill.scenarios.story import DEAD, FLEET, PROVIDERS, Process, Scenario

__all__ = ["SCENARIOS"]

TARGETS: Final = len(PROVIDERS)

_ALL: Final = (
    Scenario(
        name="outage-one",
        what="One provider of four is dead for a while.",
        schedule=happens.dead,
        bounds=(
            *b.conserved(TARGETS),
            b.found_down_within(DEAD, "down", 5),
            b.elsewhere_within(DEAD, "down", 5),
            b.calls_after_opening(DEAD, "well"),
            b.found_up_within(DEAD, "well", 40),
            b.stayed,
        ),
    ),
    Scenario(
        name="recovery",
        what="A provider comes back in stages, and is not killed by what waits for it.",
        schedule=happens.staged,
        routes=("chat", "only"),
        seconds=20,
        jobs=900,
        tail_seconds=45,
        bounds=(
            *b.conserved(TARGETS)[:3],
            b.most_calls(40),
            b.calls_after_opening(DEAD, "half"),
            b.found_up_within(DEAD, "well", 40),
            b.first_seconds(DEAD, "well", at_first=12),
            b.openings(DEAD, "well", 0),
            b.parked,
        ),
    ),
    Scenario(
        name="partial",
        what="A provider fails three of ten calls.",
        schedule=happens.partial,
        seconds=60,
        jobs=1500,
        bounds=(
            *b.conserved(TARGETS),
            # The breaker looks at the last 30 s: at first most of them were good ones.
            b.found_down_within(DEAD, "down", 35),
            b.amplification(DEAD, 1.2),
        ),
    ),
    Scenario(
        name="outage-all",
        what="All providers are dead: everything waits, nothing is given up.",
        schedule=happens.all_dead,
        seconds=60,
        bounds=(
            *b.conserved(TARGETS),
            *(b.calls_after_opening(name, "well") for name in PROVIDERS),
            b.parked,
            b.stayed,
        ),
    ),
    Scenario(
        name="brownout",
        what="A provider takes ten times as long.",
        schedule=happens.brownout,
        clocks="connect_seconds = 2, first_token_seconds = 30, slow_seconds = 1.5",
        bounds=(
            *b.conserved(TARGETS),
            b.found_down_within(DEAD, "down", 15),
            b.calls_after_opening(DEAD, "well"),
            b.stayed,
        ),
    ),
    Scenario(
        name="throttling",
        what="A provider refuses every call with 429 and Retry-After: that is no outage.",
        schedule=happens.throttling,
        seconds=20,
        family="openai",
        bounds=(
            *b.conserved(TARGETS)[:3],
            b.most_calls(8),
            b.openings(DEAD, "down", 0),
            b.calls_in_trouble(DEAD, after=2, every=5, callers=3),
        ),
    ),
    Scenario(
        name="throttling-bare",
        what="A provider refuses every call with 429 and does not say until when.",
        schedule=happens.throttling,
        seconds=20,
        bounds=(
            *b.conserved(TARGETS)[:3],
            b.most_calls(8),
            b.openings(DEAD, "down", 0),
            # Back-offs double, with full jitter: some come soon, waiting jobs add nothing to it.
            b.calls_in_trouble(DEAD, after=2, every=2, callers=3),
        ),
    ),
    Scenario(
        name="bad-key",
        what="A provider does not know our key any more.",
        schedule=happens.bad_key,
        seconds=20,
        bounds=(
            *b.conserved(TARGETS),
            b.found_down_within(DEAD, "down", 3),
            b.calls_after_opening(DEAD, "well"),
        ),
    ),
    Scenario(
        name="flapping",
        what="A provider is up for 20 s and down for 20 s, in turn.",
        schedule=happens.flapping,
        seconds=80,
        jobs=1200,
        bounds=(*b.conserved(TARGETS), b.flaps(DEAD, 40), b.stayed),
    ),
    Scenario(
        name="owner",
        what="The owner of the verdict is killed, the next one frozen, in mid-outage.",
        schedule=happens.owner,
        seconds=40,
        jobs=900,
        tail_seconds=25,
        processes=(
            Process("route", ("route",)),
            Process("retry", ("retry",)),
            Process("park", ("park",)),
            Process("others", ("work", *FLEET[0].arguments)),
            happens.OWNER,
            *FLEET[1:],
        ),
        bounds=(
            *b.conserved(TARGETS),
            b.found_down_within(DEAD, "down", 5),
            b.calls_after_opening(DEAD, "well"),
            b.found_up_within(DEAD, "well", 60),
            b.stayed,
        ),
    ),
    Scenario(
        name="lone",
        what="One worker's network is broken, and the provider is well.",
        schedule=happens.lone,
        bounds=(
            *b.conserved(TARGETS),
            b.openings(DEAD, "started", 0),
            b.exited("worker-lone", 4, "started", 20),
        ),
    ),
    Scenario(
        name="backlog",
        what="The backlog of a provider that dies moves to the others.",
        schedule=happens.backlog,
        seconds=60,
        jobs=50_000,
        publish_seconds=25,
        patience_seconds=400,
        behaviour={"latency_seconds": 1.0},
        limits="concurrency = 20",
        bounds=(
            *b.conserved(TARGETS),
            b.found_down_within(DEAD, "down", 5),
            b.drained(DEAD, "down", 500),
            b.stayed,
        ),
    ),
)

SCENARIOS: Final[Mapping[str, Scenario]] = {each.name: each for each in _ALL}
"""By their names, in the order of the list."""
