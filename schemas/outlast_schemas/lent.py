"""How records ended that their partition's owner had lent: topic ``outlast.lent``."""

from collections.abc import Mapping
from dataclasses import dataclass

from outlast_schemas.fields import array, count, text

__all__ = ["Note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What one incarnation has ended in a partition that is not its own any more.

    The key of the record is ``topic/partition``. ``done``: what follows is acknowledged;
    ``released``: given up untouched; ``cut``: given up while a call may have been under way. Each
    lists offsets. ``turn`` is the assignment of that process in which it began them. A note counts
    only for what the partition's owner knows to be run by ``by``, begun in that turn.
    """

    by: str
    turn: int = 0
    done: tuple[int, ...] = ()
    released: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The object that is written."""
        return {
            "v": 1,
            "by": self.by,
            "turn": self.turn,
            "done": list(self.done),
            "released": list(self.released),
            "cut": list(self.cut),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "Note":
        """Read a note. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on a misfit."""
        return cls(
            by=text(fields["by"]),
            turn=count(fields["turn"]),
            done=_offsets(fields["done"]),
            released=_offsets(fields["released"]),
            cut=_offsets(fields["cut"]),
        )


def _offsets(value: object) -> tuple[int, ...]:
    return tuple(map(count, array(value)))
