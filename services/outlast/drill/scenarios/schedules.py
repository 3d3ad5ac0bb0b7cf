"""What happens when: from the seconds of trouble to the steps of a scenario."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from outlast.drill.scenarios.story import DEAD, LEAD_SECONDS, PROVIDERS, Act, Process, Step

__all__ = [
    "OWNER",
    "all_dead",
    "backlog",
    "bad_key",
    "brownout",
    "dead",
    "flapping",
    "lone",
    "owner",
    "partial",
    "staged",
    "throttling",
]

DOWN: Final = {"mode": "unavailable"}
WELL: Final = {"mode": "ok", "error_share": 0.0, "slow_factor": 1.0}
OWNER: Final = Process("health-1", ("health",))
"""The only owner of verdicts at the beginning of :func:`owner`."""


def _one(seconds: float, how: Mapping[str, object], told: str) -> tuple[Step, ...]:
    """Trouble at one provider for so long."""
    back = LEAD_SECONDS + seconds
    return (
        Step(LEAD_SECONDS, Act(providers=(DEAD,), behaviour=how), told, "down"),
        Step(back, Act(providers=(DEAD,), behaviour=WELL), f"{DEAD} is well again", "well"),
    )


def dead(seconds: float) -> tuple[Step, ...]:
    """It answers 503."""
    return _one(seconds, DOWN, f"{DEAD} answers every call with 503")


def all_dead(seconds: float) -> tuple[Step, ...]:
    """All four answer 503."""
    every = tuple(PROVIDERS)
    back = LEAD_SECONDS + seconds
    return (
        Step(LEAD_SECONDS, Act(providers=every, behaviour=DOWN), "all answer 503", "down"),
        Step(back, Act(providers=every, behaviour=WELL), "all are well again", "well"),
    )


def staged(seconds: float) -> tuple[Step, ...]:
    """Dead, then well for half of its calls for 10 s, then well."""
    down, back = dead(seconds)
    half = {"mode": "ok", "error_share": 0.5}
    told = f"{DEAD} answers every other call"
    return (
        down,
        Step(back.at, Act(providers=(DEAD,), behaviour=half), told, "half"),
        replace(back, at=back.at + 10),
    )


def partial(seconds: float) -> tuple[Step, ...]:
    """Three of ten calls fail."""
    return _one(seconds, {"error_share": 0.3}, f"{DEAD} fails three of ten calls")


def brownout(seconds: float) -> tuple[Step, ...]:
    """Ten times as slow."""
    return _one(seconds, {"slow_factor": 10.0}, f"{DEAD} takes ten times as long")


def throttling(seconds: float) -> tuple[Step, ...]:
    """429 to everybody; Retry-After is 5 s where the family says it."""
    how = {"mode": "throttle", "retry_after_seconds": 5.0}
    return _one(seconds, how, f"{DEAD} answers every call with 429")


def bad_key(seconds: float) -> tuple[Step, ...]:
    """401 to everybody."""
    return _one(seconds, {"mode": "bad_key"}, f"{DEAD} does not know our key")


def flapping(seconds: float) -> tuple[Step, ...]:
    """Up, down, up, down, from up on."""
    how = {"mode": "flap", "flap_seconds": 20.0}
    return _one(seconds, how, f"{DEAD} is up for 20 s, down for 20 s, and so on")


def owner(seconds: float) -> tuple[Step, ...]:
    """Killed, then frozen, while it is dead; whoever comes next comes after, so each owned it."""
    down, back = dead(seconds)
    second, third = Process("health-2", ("health",)), Process("health-3", ("health",))
    at = LEAD_SECONDS
    return (
        down,
        Step(at + 6, Act(kill=OWNER.name), "the owner of the verdicts is killed", "killed"),
        Step(at + 7, Act(start=second), "another one starts"),
        Step(at + 22, Act(freeze=second.name), "that one is frozen", "frozen"),
        Step(at + 23, Act(start=third), "a third one starts"),
        back,
        Step(back.at + 20, Act(thaw=second.name), "the second one wakes up", "thawed"),
    )


def lone(seconds: float) -> tuple[Step, ...]:
    """Nothing is wrong but the worker."""
    worker = Process("worker-lone", ("work", "--provider", DEAD), is_broken=True)
    told = "a fourth worker starts whose network is broken"
    return (
        Step(LEAD_SECONDS, Act(start=worker), told, "started"),
        Step(LEAD_SECONDS + seconds, Act(), "the others go on", "end"),
    )


def backlog(seconds: float) -> tuple[Step, ...]:
    """Slow first, so that a backlog stands before it, then dead."""
    down, back = dead(seconds)
    return (replace(down, at=30.0), replace(back, at=30.0 + seconds))
