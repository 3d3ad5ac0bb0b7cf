"""One finding of a doctor: which check, how bad, what it is, what to do."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Check", "Finding", "Severity", "advice", "or_well", "problem"]


class Severity(StrEnum):
    """``problem``: it does not work, or a promise is not kept. ``advice``: it could be better."""

    OK = "ok"
    ADVICE = "advice"
    PROBLEM = "problem"


class Check(StrEnum):
    """What was looked at."""

    SETTINGS = "settings"
    KEYS = "keys"
    OPEN_FILES = "open files"
    TRANSPORT = "transport"
    KAFKA = "kafka"
    TOPICS = "topics"
    REPLICAS = "replicas"
    OFFSETS = "offsets"
    BROKER_SETTINGS = "broker settings"
    CLOCK = "clock"
    STAGES = "stages"
    PROVIDERS = "providers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``remedy`` says what to do; it is empty only where all is well."""

    check: Check
    severity: Severity
    what: str
    remedy: str = ""

    def to_json(self) -> dict[str, object]:
        """One entry of ``findings`` in ``outlast doctor --json``."""
        return {
            "check": self.check.value,
            "severity": self.severity.value,
            "what": self.what,
            "remedy": self.remedy or None,
        }


def or_well(found: Iterable[Finding], check: Check, what: str) -> Iterator[Finding]:
    """The findings; where there are none, that all is well with ``check``."""
    findings = list(found)
    yield from findings or [Finding(check=check, severity=Severity.OK, what=what)]


def problem(check: Check, what: str, remedy: str) -> Finding:
    """It does not work, or a promise is not kept."""
    return Finding(check=check, severity=Severity.PROBLEM, what=what, remedy=remedy)


def advice(check: Check, what: str, remedy: str) -> Finding:
    """It works, and could be better."""
    return Finding(check=check, severity=Severity.ADVICE, what=what, remedy=remedy)
