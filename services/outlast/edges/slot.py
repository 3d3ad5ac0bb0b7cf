"""A slot: which of a group's members on this host this one is, locked while it lives.

A process that crashed and returns takes the same slot, and with it its partitions, in
milliseconds, because Kafka knows it again by its instance id.
"""

import fcntl
import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import IO, Final

from outlast.core.errors import SettingsError

__all__ = ["Slot"]

MOST: Final = 256


class Slot:
    """The instance id of one member."""

    def __init__(self, name: str, held: IO[str] | None) -> None:
        """Hold the lock for as long as this value lives."""
        self.name = name
        self._held = held

    @classmethod
    def take(cls, group: str, configured: str | None) -> "Slot":
        """Take the configured id, or host + the first free number in this group.

        ``group`` names the cluster too. Raises ``SettingsError`` when the configured id is in use
        on this host, because two members of one id push each other out of the group for ever.
        """
        if configured:
            held = _lock(group, configured)
            if held is None:
                raise SettingsError(
                    [f"OUTLAST_INSTANCE_ID {configured!r} is in use by another process here"]
                )
            return cls(configured, held)
        host = socket.gethostname()
        for number in range(MOST):
            name = f"{host}-{number}"
            if (held := _lock(group, name)) is not None:
                return cls(name, held)
        raise SettingsError([f"{MOST} processes of this kind run on this host already"])

    def release(self) -> None:
        """Let another process here take it."""
        if self._held is not None:
            self._held.close()


def _lock(group: str, name: str) -> IO[str] | None:
    folder = Path(tempfile.gettempdir()) / f"outlast-slots-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # A digest, since groups and configured ids are of any length and hold any character.
    digest = hashlib.sha256(f"{group}\0{name}".encode()).hexdigest()
    held = (folder / f"{digest}.lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    return held
