"""The wait that reset headers speak of: a part of it, and only of a limit that is used up."""

from datetime import UTC, datetime, timedelta

import pytest

from outlast.core.classify import retry_after

NOW = 1_774_820_100.0


def openai(kind: str, remaining: str, reset: str) -> dict[str, str]:
    """OpenAI's two headers, and Groq's."""
    return {f"x-ratelimit-remaining-{kind}": remaining, f"x-ratelimit-reset-{kind}": reset}


def anthropic(kind: str, remaining: str, reset: str) -> dict[str, str]:
    """Anthropic's two headers."""
    return {
        f"anthropic-ratelimit-{kind}-remaining": remaining,
        f"anthropic-ratelimit-{kind}-reset": reset,
    }


def in_seconds(seconds: float, zone: str = "Z") -> str:
    """An instant so long from now, as RFC 3339."""
    instant = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=seconds)
    return instant.isoformat().replace("+00:00", zone)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        # the whole is back so soon that there is no need to guess
        (openai("requests", "0", "12ms"), 0.012),
        (openai("tokens", "0", "1s"), 1.0),
        # a part of it is there long before
        (openai("tokens", "0", "6s"), 1.0),
        (openai("requests", "0", "1m0s"), 6.0),
        (openai("tokens", "0", "6m0s"), 36.0),
        # a limit by day: its calls trickle in
        (openai("requests", "0", "24h0m0s"), 60.0),
        (openai("requests", "0", "1h2m3.5s"), 60.0),
        (openai("requests", "0", "1m26.4s"), 8.64),
        (openai("requests", "0", "150µs"), 0.00015),
        # plain seconds, as Azure writes them
        (openai("requests", "0", "10"), 1.0),
        (openai("tokens", "0.0", "30"), 3.0),
        # the longer of two
        (openai("requests", "0", "20s") | openai("tokens", "0", "40s"), 4.0),
        # only what is used up counts
        (openai("requests", "7", "60s"), None),
        (openai("requests", "7", "60s") | openai("tokens", "0", "20s"), 2.0),
        ({"x-ratelimit-reset-requests": "60s"}, None),
        ({"x-ratelimit-remaining-requests": "0"}, None),
        # Azure's way to say that it does not know
        (openai("requests", "-1", "-1"), None),
        (openai("requests", "0", "-1"), None),
        # nothing that can be read
        (openai("requests", "none", "60s"), None),
        (openai("requests", "0", ""), None),
        (openai("requests", "0", "soon"), None),
        (openai("requests", "0", "6 m"), None),
        (openai("requests", "0", "m6s"), None),
        (openai("requests", "0", "0s"), None),
        (openai("requests", "0", "nan"), None),
        (openai("requests", "0", "inf"), None),
        (openai("requests", "0", "9" * 400 + "h"), None),
        # another header's name
        (openai("images", "0", "60s"), None),
        # Anthropic
        (anthropic("requests", "0", in_seconds(30)), 3.0),
        (anthropic("tokens", "0", in_seconds(30, "+00:00")), 3.0),
        (anthropic("input-tokens", "0", in_seconds(30)), 3.0),
        (anthropic("output-tokens", "0", in_seconds(0.5)), 0.5),
        (anthropic("output-tokens", "0", in_seconds(7_200)), 60.0),
        (anthropic("requests", "3", in_seconds(30)), None),
        (anthropic("requests", "0", in_seconds(-30)), None),
        (anthropic("requests", "0", "2026-03-29T21:36:00"), None),
        (anthropic("requests", "0", "30"), None),
        (anthropic("requests", "0", "9999-99-99T00:00:00Z"), None),
    ],
)
def test_of_a_limit_that_is_used_up_a_part_of_the_time_is_waited(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers, None, NOW) == (
        None if seconds is None else pytest.approx(seconds, rel=1e-3)
    )


@pytest.mark.parametrize(
    ("headers", "payload", "seconds"),
    [
        ({"retry-after": "7"}, None, 7.0),
        ({"retry-after-ms": "1500"}, None, 1.5),
        ({}, {"error": {"details": [{"retryDelay": "9s"}]}}, 9.0),
        # what cannot be read is none
        ({"retry-after": "-1"}, None, 6.0),
    ],
)
def test_what_the_provider_says_outright_goes_first(
    headers: dict[str, str], payload: object, seconds: float
) -> None:
    reset = openai("requests", "0", "1m0s")

    assert retry_after(headers | reset, payload, NOW) == seconds
