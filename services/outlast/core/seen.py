"""Copies: the same (job id, replays, hop) read at another offset.

A crash between a record's ack and its predecessor's commit writes the record again. Who reads
both drops the second, as long as the first is remembered: in flight here, or done here.
"""

from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum, auto
from typing import Final

__all__ = ["Place", "Seen", "Sight"]

REMEMBERED: Final = 100_000
"""How many records are remembered; at 800 a second that is the two minutes of the look-back."""

Key = tuple[str, int, int]
"""Job id, replays, hop."""
Place = tuple[str, int, int]
"""Topic, partition, offset."""


class Sight(Enum):
    """What a record is to one who remembers the others."""

    NEW = auto()
    COPY = auto()
    CONFLICT = auto()


_First = tuple[Place, Hashable]
"""Where a record stands, and what tells its body from others."""


class Seen:
    """The memory of one feed, bounded by count, the oldest forgotten first."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        """Remember at most so many records."""
        self._firsts: OrderedDict[Key, _First] = OrderedDict()
        self._remembered = remembered

    def look(self, key: Key, place: Place, body: Hashable = None) -> Sight:
        """Remember the record unless another with its key is; say what it is.

        ``body`` tells two jobs apart that were published under one id: the same key with another
        body is a conflict. The same offset is never a copy of itself.
        """
        first = self._firsts.get(key)
        if first is None or first[0] == place:
            self._remember(key, (place, body))
            return Sight.NEW
        return Sight.COPY if first[1] == body else Sight.CONFLICT

    def is_first(self, key: Key, place: Place) -> bool:
        """Whether nothing else with its key is remembered."""
        first = self._firsts.get(key)
        return first is None or first[0] == place

    def forget(self, key: Key, place: Place) -> None:
        """An admission was given up unfinished: what comes next is no copy of it."""
        first = self._firsts.get(key)
        if first is not None and first[0] == place:
            del self._firsts[key]

    def _remember(self, key: Key, first: _First) -> None:
        self._firsts[key] = first
        if len(self._firsts) > self._remembered:
            self._firsts.popitem(last=False)

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._firsts)
