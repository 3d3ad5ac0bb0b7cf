"""Runs `outlast` with one fault planted: ``python -m tests.kafka.chaos.faulty --fault NAME -- …``.

``leader-dies``: the process ends as SIGKILL would end it when it leads the group and has to say who
gets what, with more members than itself: between JoinGroup and SyncGroup. ``stalls``: on SIGUSR1
the event loop stands still for longer than the session.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka.consumer.group_coordinator import GroupCoordinator

from outlast.cli import main

KILLED: Final = 137
STALL_SECONDS: Final = 60.0


def leader_dies() -> None:
    """End in the leader's assignment."""
    assign = GroupCoordinator._perform_assignment

    async def dying(self: Any, response: Any) -> Any:
        if len(response.members) > 1:
            os._exit(KILLED)
        return await assign(self, response)

    GroupCoordinator._perform_assignment = dying


def stalls() -> None:
    """Stand still when told to."""
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(STALL_SECONDS))


FAULTS: Final[Mapping[str, Callable[[], None]]] = {"leader-dies": leader_dies, "stalls": stalls}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", choices=FAULTS, required=True)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    FAULTS[given.fault]()
    sys.argv = ["outlast", *(each for each in given.arguments if each != "--")]
    main()
