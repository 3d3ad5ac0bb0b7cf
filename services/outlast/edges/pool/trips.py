"""What this process alone holds against its provider, until the fleet has spoken."""

from collections.abc import Collection, Mapping
from typing import Final

import structlog

from outlast.core.errors import WatchdogTripped
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health

__all__ = ["Trips"]

log = structlog.get_logger()

ALONE_MS: Final = 10_000
"""So long a worker may hold a model to be down that the fleet finds well."""
FRESH_MS: Final = 30_000
SETTLED_MS: Final = 2_000
"""So long after a trip a verdict may still not know of it."""


class Trips:
    """Trips at once on the own evidence; the fleet's verdict ends it, or ends the process.

    Instants are epoch ms of the broker's clock.
    """

    def __init__(self, provider: str) -> None:
        """Nothing is held against anybody."""
        self._provider = provider
        self._since: dict[str, int] = {}
        self._why: dict[str, str] = {}
        self.targets: Collection[str] = ()
        """What is not called: the provider's name, or ``provider/model``."""

    def take(self, against: Mapping[str, str], health: Health | None, now: int) -> bool:
        """The own evidence as it is now; says whether something tripped.

        What calls that were under way have disproved since is held against nobody any more.
        """
        tripped = False
        for key in self._since.keys() - against.keys():
            self._end(key)
        for key, why in against.items():
            if key not in self._since and _is_closed(health, key, now):
                self._since[key], self._why[key] = now, why
                tripped = True
                log.warning("work.tripped", provider=self._provider, model=key, evidence=why)
        self._tell()
        return tripped

    def review(self, health: Health | None, now: int) -> list[str]:
        """The keys that are held against nobody any more.

        Raises ``WatchdogTripped`` when the fleet is well and only this process is not.
        """
        ended = []
        for key, tripped in list(self._since.items()):
            # An owner of the verdict that came later begins with the last one's, and has to hear
            # of the trouble first.
            since = tripped if health is None else max(tripped, health.epoch)
            if not _is_closed(health, key, now):
                ended.append(key)  # the fleet says so too: from here on it leads
            elif now - since >= ALONE_MS:
                if health is None or now - health.at > FRESH_MS:
                    ended.append(key)  # nobody judges: try again
                elif health.at >= since + SETTLED_MS:
                    raise WatchdogTripped(self._alone(key))
        for key in ended:
            self._end(key)
        self._tell()
        return ended

    @property
    def held(self) -> Mapping[str, str]:
        """What is held against it and why, by model (``*`` for the provider).

        It is told again as long as it is held: a worker that has tripped calls nobody, so an owner
        of the verdict that came after its failures were told hears of them in no other way.
        """
        return dict(self._why)

    def _end(self, key: str) -> None:
        del self._since[key], self._why[key]

    def _tell(self) -> None:
        self.targets = frozenset(
            self._provider if key == EVERY_MODEL else f"{self._provider}/{key}"
            for key in self._since
        )

    def _alone(self, key: str) -> str:
        what = self._provider if key == EVERY_MODEL else f"{self._provider}/{key}"
        return (
            f"calls of {what} fail here for {ALONE_MS // 1000} s while the fleet finds it well: "
            "the fault is this process's or this machine's (its network, its key)"
        )


def _is_closed(health: Health | None, key: str, now: int) -> bool:
    """Whether the fleet's verdict lets everything through; none, or a stale one, does."""
    if health is None or now - health.at > FRESH_MS:
        return True
    verdicts = (health.models.get(key), health.models.get(EVERY_MODEL))
    return all(each is None or each.state is BreakerWord.CLOSED for each in verdicts)
