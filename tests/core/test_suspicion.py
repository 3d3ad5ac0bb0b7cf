"""Rejections are believed until they hit one job after the other and nobody is served."""

from dataclasses import replace

import pytest

from outlast.core.breaker import ProviderBreaker
from outlast.core.policy import Target
from outlast.core.suspicion import Suspicion, SuspicionPolicy, refuted
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import BreakerWord
from outlast_schemas.vitals import Vitals, Window
from tests.core.given import FLASH, LUNA, NOW, an_attempt

POLICY = SuspicionPolicy()
BAD = "http # bad request"


def after(
    *jobs: str, model: str = "flash", words: str = BAD, every_ms: int = 0, known: Suspicion
) -> Suspicion:
    """These jobs were rejected, one after the other."""
    for number, job in enumerate(jobs):
        known = known.saw_rejected(model, words, job, NOW + number * every_ms)
    return known


@pytest.mark.parametrize(
    ("jobs", "every_ms", "expected"),
    [
        ("abcd", 0, False),
        ("abcde", 0, True),
        ("abcdd", 0, False),  # the same job twice
        ("abcde", 14_999, True),
        ("abcde", 15_000, False),  # the first is a minute ago
    ],
)
def test_five_different_jobs_within_a_minute_are_suspicious(
    jobs: str, every_ms: int, expected: bool
) -> None:
    found = after(*jobs, every_ms=every_ms, known=Suspicion())

    assert found.is_suspect("flash", BAD) is expected


def test_what_says_something_else_or_is_another_model_is_not_counted_with_it() -> None:
    found = after(*"abcd", known=Suspicion())
    found = after("e", words="http # top_k is too large", known=found)
    found = after("f", model="pro", known=found)

    assert not found.suspects


def test_any_success_of_the_model_ends_the_suspicion_and_the_count() -> None:
    found = after(*"abcde", known=Suspicion())
    assert found.saw_success("pro").is_suspect("flash", BAD)
    assert not found.saw_success("flash").is_suspect("flash", BAD)
    assert after(
        *"efgh", known=after(*"abcd", known=Suspicion()).saw_success("flash")
    ).suspects == (frozenset())


def test_a_success_of_another_model_ends_no_count() -> None:
    found = after(*"abcd", known=Suspicion()).saw_success("pro")

    assert after("e", known=found).is_suspect("flash", BAD)


def test_who_is_suspect_stays_so_without_a_success() -> None:
    found = after(*"abcde", known=Suspicion())
    assert found.saw_rejected("flash", BAD, "f", NOW + 3_600_000) is found
    for number in range(POLICY.remembered + 9):
        found = found.saw_rejected("pro", f"{number}", "x", NOW + 3_600_000)

    assert found.is_suspect("flash", BAD)
    assert len(found.rejected) == POLICY.remembered
    assert not found.saw_success("pro").saw_success("flash").suspects


V = VerdictWord


@pytest.mark.parametrize(
    ("target", "verdict", "ago", "expected"),
    [
        (FLASH, V.JOB_REJECTED, 0, 1),
        (FLASH, V.JOB_REJECTED, 60_000, 1),
        (FLASH, V.JOB_REJECTED, 60_001, 0),  # of a run that was replayed, say
        (FLASH, V.PROVIDER_DOWN, 0, 0),
        (Target("openai", "other"), V.JOB_REJECTED, 0, 0),  # its own
    ],
)
def test_who_serves_a_job_refutes_who_has_just_rejected_it(
    target: Target, verdict: V, ago: int, expected: int
) -> None:
    attempt = replace(an_attempt(target, verdict, at=NOW - ago), ms=0)

    assert len(list(refuted([attempt], LUNA, NOW))) == expected


def test_two_rejections_that_others_refute_open_the_model() -> None:
    found = ProviderBreaker(provider="deepseek")
    against = Window(misrouted=1, note="openai served what it rejected: HTTP 400")
    states = []
    for number in range(2):
        vitals = Vitals(provider="deepseek", worker="w/openai", at=NOW, models={"flash": against})
        found = found.saw(vitals, NOW + number)
        states.append(found.breakers["flash"].state if "flash" in found.breakers else None)

    assert states[-1] is BreakerWord.OPEN
    assert states[0] is not BreakerWord.OPEN
    assert "openai served what it rejected" in found.breakers["flash"].evidence
    assert not found.workers  # it is no worker of the pool
