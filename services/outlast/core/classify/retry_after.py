"""How long a provider wishes to be left alone."""

import re
from collections.abc import Iterator, Mapping
from email.utils import mktime_tz, parsedate_tz
from math import isfinite
from typing import Final

__all__ = ["retry_after"]

LONGEST: Final = 31 * 86_400.0
"""Seconds; a monthly spend limit is the longest wait a provider is known to ask for."""

SECONDS: Final = re.compile(r"(\d+(?:\.\d+)?)s")


def retry_after(headers: Mapping[str, str], payload: object, now: float) -> float | None:
    """Seconds to wait, or ``None`` where the provider names no usable time.

    The order is that of OpenAI's own client: ``retry-after-ms``, ``retry-after`` in seconds,
    ``retry-after`` as an HTTP date; then Gemini's ``RetryInfo.retryDelay`` in the body. Zero,
    negative, NaN and infinite values are no answer (Azure sends -1).

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
