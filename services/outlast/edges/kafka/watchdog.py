"""What aiokafka does silently: a task dies, a rejoin never ends, commits stop counting."""

import asyncio
from typing import Final

from outlast.core.errors import WatchdogTripped
from outlast.edges.kafka import private
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.subscribers import Subscriber

__all__ = ["Watchdog", "watched"]

LOOK_SECONDS: Final = 1.0
REBALANCE_SECONDS: Final = 25.0
"""The rebalance timeout and ten seconds."""
COMMIT_SECONDS: Final = 60.0


async def watched(name: str, subscriber: Subscriber) -> None:
    """Look at a subscriber without a feed. Raises ``WatchdogTripped`` when it stands still."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        dead = private.stands_still(subscriber.consumer) if subscriber.is_started else None
        if dead is not None:
            raise WatchdogTripped(f"{name}: the Kafka client's {dead} task has ended")


class Watchdog:
    """Looks at one feed's consumer every second."""

    def __init__(self, assignment: Assignment) -> None:
        """Watch this one."""
        self._assignment = assignment

    async def run(self) -> None:
        """Return never; raises ``WatchdogTripped`` when only a restart is known to help."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if (trouble := self._trouble()) is not None:
                raise WatchdogTripped(f"{self._assignment.name}: {trouble}")

    def _trouble(self) -> str | None:
        dead = private.stands_still(self._assignment.consumer)
        if dead is not None:
            return f"the Kafka client's {dead} task has ended"
        since = self._assignment.closed_since
        if since is not None and asyncio.get_running_loop().time() - since > REBALANCE_SECONDS:
            return f"no partitions were assigned within {REBALANCE_SECONDS:.0f} s"
        if self._assignment.commits.behind_seconds > COMMIT_SECONDS:
            return f"no commit was acknowledged for {COMMIT_SECONDS:.0f} s"
        return None
