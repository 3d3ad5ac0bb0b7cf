"""What only an operator can mend, told now and then: the jobs go elsewhere, or wait."""

from typing import Final

import structlog

from outlast.core.verdict import Verdict
from outlast_schemas.attempt import VerdictWord

__all__ = ["Alarms"]

log = structlog.get_logger()

EVERY_MS: Final = 60_000
MENDED_BY: Final = {
    VerdictWord.ACCOUNT_BLOCKED: ("work.account_blocked", "api_key_env, and the account's balance"),
    VerdictWord.MISROUTED: ("work.misrouted", "base_url, and the models in the routes' targets"),
}
"""Verdicts that pass by no waiting, and the settings that cause them."""


class Alarms:
    """Says once a minute what would else be said with each call."""

    def __init__(self, provider: str) -> None:
        """Nothing has been said yet."""
        self._provider = provider
        self._told: dict[str, int] = {}

    def ended(self, verdict: Verdict, now: int) -> None:
        """A call came to this; ``now`` is epoch ms."""
        if verdict.word in MENDED_BY:
            event, setting = MENDED_BY[verdict.word]
            look_at = f"providers.{self._provider}.{setting}"
            self.tell(event, now, provider=self._provider, note=verdict.note, look_at=look_at)

    def tell(self, event: str, now: int, **more: str | None) -> None:
        """Say it, unless it was said within the last minute."""
        if now - self._told.get(event, 0) >= EVERY_MS:
            self._told[event] = now
            log.error(event, **more)
