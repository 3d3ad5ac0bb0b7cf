"""How long a provider wishes to be left alone."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import mktime_tz, parsedate_tz
from math import isfinite
from typing import Final

__all__ = ["retry_after"]

LONGEST: Final = 31 * 86_400.0
"""Seconds; a monthly spend limit is the longest wait a provider is known to ask for."""

SECONDS: Final = re.compile(r"(\d+(?:\.\d+)?)s")

OPENAI_KINDS: Final = ("requests", "tokens")
ANTHROPIC_KINDS: Final = ("requests", "tokens", "input-tokens", "output-tokens")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?)(h|ms|m|s|us|µs|μs|ns)")
SECONDS_OF: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "ns": 1e-9}
PART: Final = 0.1
"""A reset header tells when the whole limit is back, a minute or, with a limit by day, a day from
now; the first call is possible long before. After so much of that time there is room for some."""
SOON: Final = 1.0
"""Seconds; no shorter a part is waited for, unless the whole is back sooner."""
PATIENCE: Final = 60.0
"""Seconds; no longer a part is waited for, so that a limit by day still lets its calls trickle."""


def retry_after(headers: Mapping[str, str], payload: object, now: float) -> float | None:
    """Seconds to wait, or ``None`` where the provider names no usable time.

    The order is that of OpenAI's own client: ``retry-after-ms``, ``retry-after`` in seconds,
    ``retry-after`` as an HTTP date; then Gemini's ``RetryInfo.retryDelay`` in the body; then a part
    of the time until a limit is whole again of which nothing remains. Zero, negative, NaN and
    infinite values are no answer (Azure sends -1).

    Args:
        headers: with lower-case names.
        payload: the parsed body.
        now: epoch seconds.
    """
    for seconds in _candidates(headers, payload, now):
        if seconds is not None and isfinite(seconds) and seconds > 0:
            return min(seconds, LONGEST)
    return None


def _candidates(headers: Mapping[str, str], payload: object, now: float) -> Iterator[float | None]:
    milliseconds = _number(headers.get("retry-after-ms"))
    yield None if milliseconds is None else milliseconds / 1000
    named = headers.get("retry-after")
    yield _number(named)
    yield _until(named, now)
    yield _retry_delay(payload)
    yield _part_of_reset(headers, now)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _until(text: str | None, now: float) -> float | None:
    date = parsedate_tz(text) if text else None
    try:
        return None if date is None else mktime_tz(date) - now
    except (ValueError, OverflowError):
        return None


def _retry_delay(payload: object) -> float | None:
    if isinstance(payload, list):
        payload = payload[0] if payload else None
    error = payload.get("error") if isinstance(payload, Mapping) else None
    details = error.get("details") if isinstance(error, Mapping) else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, Mapping) else None
        if isinstance(delay, str) and (found := SECONDS.fullmatch(delay)):
            return float(found[1])
    return None


def _part_of_reset(headers: Mapping[str, str], now: float) -> float | None:
    named = (each for each in _resets(headers, now) if each is not None)
    resets = [each for each in named if isfinite(each) and each > 0]
    if not resets:
        return None
    whole = max(resets)
    return min(PATIENCE, max(PART * whole, min(SOON, whole)))


def _resets(headers: Mapping[str, str], now: float) -> Iterator[float | None]:
    """Seconds until each limit is whole again of which nothing remains.

    A duration as Go writes it, or plain seconds (OpenAI, Groq, Azure), or an instant (Anthropic).
    """
    for kind in OPENAI_KINDS:
        if _number(headers.get(f"x-ratelimit-remaining-{kind}")) == 0:
            text = headers.get(f"x-ratelimit-reset-{kind}")
            yield _number(text)
            yield _duration(text)
    for kind in ANTHROPIC_KINDS:
        if _number(headers.get(f"anthropic-ratelimit-{kind}-remaining")) == 0:
            yield _instant(headers.get(f"anthropic-ratelimit-{kind}-reset"), now)


def _duration(text: str | None) -> float | None:
    if not text or DURATION.sub("", text):
        return None
    return sum(float(count) * SECONDS_OF.get(unit, 1e-6) for count, unit in DURATION.findall(text))


def _instant(text: str | None, now: float) -> float | None:
    try:
        return (
            None if text is None else (datetime.fromisoformat(text) - EPOCH).total_seconds() - now
        )
    except (ValueError, TypeError):  # no instant, or one without a zone
        return None
