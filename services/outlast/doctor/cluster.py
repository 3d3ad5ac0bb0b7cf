"""What can be judged of the cluster: brokers, topics, offsets, the clock, who is at work."""

from collections.abc import Iterator
from typing import Final

from outlast.core.facts import ClusterFacts
from outlast.doctor.finding import Check, Finding, advice, or_well, problem
from outlast.doctor.topics import DURABLE, NO_TOPIC, named

__all__ = ["broker_settings", "brokers", "clock", "offsets", "stages"]

SKEW_MS: Final = 2_000
"""From here on deadlines and due times are visibly wrong (design: a clock off by more alarms)."""
MINUTE_MS: Final = 60_000


def brokers(there: ClusterFacts) -> Iterator[Finding]:
    """Enough of them to lose one."""
    if there.brokers >= DURABLE:
        yield from or_well((), Check.KAFKA, f"{there.brokers} brokers answer")
    else:
        yield advice(
            Check.KAFKA,
            f"{there.brokers} broker(s) answer: with fewer than three a lost disk is lost jobs",
            "for jobs that must not be lost, a cluster of three",
        )


def offsets(there: ClusterFacts) -> Iterator[Finding]:
    """Every group has begun, and what it committed outlives what it read."""
    well = f"{len(there.groups)} groups, all have begun" if there.topics else NO_TOPIC
    yield from or_well(_offsets(there), Check.OFFSETS, well)


def _offsets(there: ClusterFacts) -> Iterator[Finding]:
    unbegun = [group for group in there.groups if group.unbegun]
    idle = [group.name for group in unbegun if not group.members]
    busy = [group.name for group in unbegun if group.members]
    if idle:
        yield problem(
            Check.OFFSETS,
            f"nothing is committed yet for {named(idle)}",
            "run `outlast topics apply`; where a group once had offsets, first see "
            "`outlast run --help` about --from",
        )
    if busy:
        yield advice(
            Check.OFFSETS,
            f"nothing is committed yet on new partitions of {named(busy)}, at work now: "
            "its first records there end this",
            "before its processes are started again, stop them all and run `outlast topics apply`",
        )
    yield from _forgotten(there)


def _forgotten(there: ClusterFacts) -> Iterator[Finding]:
    kept = there.settings.get("offsets.retention.minutes")
    longest, name = max(
        (
            (topic.retention_ms or 0, topic.name)
            for topic in there.topics
            if topic.name in there.read_by_groups
        ),
        default=(0, ""),
    )
    if kept is not None and int(kept) * MINUTE_MS < longest:
        yield problem(
            Check.OFFSETS,
            f"brokers forget an idle group after {_days(int(kept) * MINUTE_MS)}, and {name} "
            f"keeps records for {_days(longest)}: a stage that stood still so long cannot tell "
            "what it has done",
            f"set offsets.retention.minutes of the brokers to {-(-longest // MINUTE_MS)} or more",
        )


def broker_settings(there: ClusterFacts) -> Iterator[Finding]:
    """Nothing in the brokers' own settings is in our way."""
    well = "as they should be"
    yield from or_well(_broker_settings(there), Check.BROKER_SETTINGS, well)


def _broker_settings(there: ClusterFacts) -> Iterator[Finding]:
    if not there.settings:
        yield advice(
            Check.BROKER_SETTINGS,
            "the brokers do not tell them to this user",
            "ask their operator: auto.create.topics.enable=false, offsets.retention.minutes "
            "above 20160",
        )
    if there.settings.get("auto.create.topics.enable") == "true":
        yield advice(
            Check.BROKER_SETTINGS,
            "auto.create.topics.enable is on: a mistyped name becomes a topic nobody reads",
            "set auto.create.topics.enable=false on the brokers",
        )
    most = there.settings.get("socket.request.max.bytes")
    if most is not None and int(most) < there.largest_record:
        yield problem(
            Check.BROKER_SETTINGS,
            f"socket.request.max.bytes is {int(most):,}; a record may have "
            f"{there.largest_record:,}",
            "raise it on the brokers, or lower kafka.max_body_bytes",
        )


def clock(there: ClusterFacts) -> Iterator[Finding]:
    """Deadlines and due times are the broker's; ours must agree."""
    skew = there.clock_ms
    if skew is None:
        yield advice(
            Check.CLOCK,
            "not compared: that needs the topic of lent calls, as planned, and taking records",
            "run `outlast topics apply`, then this again",
        )
    elif abs(skew) > SKEW_MS:
        way = "behind" if skew > 0 else "ahead of"
        yield problem(
            Check.CLOCK,
            f"this host is {abs(skew) / 1000:.1f} s {way} the broker",
            "set both by NTP (chrony, systemd-timesyncd)",
        )
    else:
        yield from or_well((), Check.CLOCK, f"within {SKEW_MS // 1000} s of the broker's")


def stages(there: ClusterFacts) -> Iterator[Finding]:
    """Where records wait, somebody is at work."""
    busy = [group for group in there.groups if group.members]
    idle = [group for group in there.groups if not group.members and group.waiting]
    found = [
        advice(
            Check.STAGES,
            f"{group.waiting:,} record(s) wait for {group.name}, and nobody is at work there",
            f"start `{group.command}`",
        )
        for group in idle
    ]
    well = f"{len(busy)} of {len(there.groups)} groups at work; nothing waits in the others"
    yield from or_well(found, Check.STAGES, well)


def _days(ms: int) -> str:
    return f"{ms / 86_400_000:g} d"
