"""Who may be worked on together in this process: a record that may have killed one has to be alone.

All feeds of a process share one quarantine, because what kills it ends them all.
"""

import asyncio
import sys
from collections.abc import Callable, Hashable
from typing import Final

from outlast.core.quarantine import SUSPECT, company

__all__ = ["Quarantine"]

_NO_LIMIT: Final = sys.maxsize


class Quarantine:
    """Counts the records that are worked on, and how few they have to be.

    Without suspects it is one comparison and one dictionary entry for each record.
    """

    def __init__(self) -> None:
        """Begin with nobody."""
        self._inside: dict[Hashable, int] = {}
        self._suspects: dict[Hashable, int] = {}
        self._asking: dict[Hashable, int] = {}
        self._most = _NO_LIMIT
        self._changed = asyncio.Event()
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed()`` when somebody may enter who could not before."""
        self._watchers.append(changed)

    def enters(self, place: Hashable, unclean: int, asking: Hashable) -> bool:
        """Take it in, if there is room beside it; a suspect that must wait lets nobody pass it.

        Args:
            place: of the record.
            unclean: its starts that ended with the death of their process.
            asking: who asks on its behalf: one suspect at a time for each of them.
        """
        if self._asking or len(self._inside) >= min(self._most, company(unclean)):
            if unclean >= SUSPECT:
                self._asking.setdefault(asking, unclean)
                self._count()
            if not self._is_its_turn(unclean, asking):
                return False
        self._inside[place] = unclean
        if unclean >= SUSPECT:
            self._suspects[place] = unclean
            self._asking.pop(asking, None)
            self._count()
        return True

    def _is_its_turn(self, unclean: int, asking: Hashable) -> bool:
        """Who asked first comes first: what is behind it would else take every free place."""
        first = next(iter(self._asking), asking)
        room = min(map(company, (unclean, *self._suspects.values())))
        return first == asking and len(self._inside) < room

    async def entered(self, place: Hashable, unclean: int) -> None:
        """Return when it is taken in."""
        try:
            while not self.enters(place, unclean, place):
                changed = self._changed
                await changed.wait()
        finally:
            self.withdraws(place)

    def leaves(self, place: Hashable) -> None:
        """It is not worked on any more."""
        if self._inside.pop(place, None) is None:
            return
        was_limited = self._most != _NO_LIMIT
        if self._suspects.pop(place, None) is not None:
            self._count()
        if was_limited:
            self._tell()

    def withdraws(self, asking: Hashable) -> None:
        """Who asked does not any more."""
        if self._asking.pop(asking, None) is not None:
            self._count()
            self._tell()

    def _count(self) -> None:
        self._most = min(
            map(company, (*self._suspects.values(), *self._asking.values())), default=_NO_LIMIT
        )

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for watcher in self._watchers:
            watcher()
