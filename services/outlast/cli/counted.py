"""An archive that counts what is read from it, for the eyes of whoever waits."""

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from outlast.ports import Archive, EndedRun, Open
from outlast_schemas.dead_letter import DeadLetter
from outlast_schemas.job import Job

__all__ = ["Counted"]

T = TypeVar("T")


class Counted:
    """Fulfils :class:`outlast.ports.Archive` by another one."""

    def __init__(self, archive: Archive, count: Callable[[int], None]) -> None:
        """``count`` is told of each record."""
        self._archive = archive
        self._count = count

    def accepted(self) -> AsyncIterator[Job]:
        """Every record of the jobs topic."""
        return self._counting(self._archive.accepted())

    def ended(self) -> AsyncIterator[EndedRun]:
        """Every record of all result topics."""
        return self._counting(self._archive.ended())

    def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """Every dead letter."""
        return self._counting(self._archive.dead_letters())

    def open(self) -> AsyncIterator[Open]:
        """Every record that no stage has done yet."""
        return self._counting(self._archive.open())

    async def _counting(self, records: AsyncIterator[T]) -> AsyncIterator[T]:
        async for record in records:
            self._count(1)
            yield record
