"""Every run of every job with all its records side by side."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from outlast.drill.conservation.evidence import Dump, End, Letter, Open, Published, Run, Trace
from outlast_schemas.dead_letter import Reason
from outlast_schemas.result import Status

__all__ = ["Life", "lives_of"]

T = TypeVar("T", End, Letter, Open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One run: how many records began it, its results, dead letters and open records.

    Each kind stands in the order of its partition, so that the first result is the one every
    reader keeps. Dead letters of a conflict belong to another body and are left out.
    """

    job_id: str
    replays: int
    began: int
    ends: tuple[End, ...] = ()
    letters: tuple[Letter, ...] = ()
    open: tuple[Open, ...] = ()

    @property
    def traces(self) -> tuple[Trace, ...]:
        """All its records but those done in the jobs topic; none means that it is lost."""
        return (*self.ends, *self.letters, *self.open)

    @property
    def calls(self) -> int:
        """How many calls its visible end reports; without one, its latest record."""
        return self.ends[0].calls if self.ends else self.most_calls

    @property
    def most_calls(self) -> int:
        """The highest count in any of its records."""
        return max((each.calls for each in self.traces), default=0)

    def results(self, status: Status) -> int:
        """How many results have this status."""
        return sum(each.status is status for each in self.ends)

    def letters_for(self, status: Status) -> int:
        """How many dead letters go with a result of this status."""
        return sum(_status_beside(each) is status for each in self.letters)

    def __str__(self) -> str:
        """All its records, for one who looks for them."""
        parts = [f"run {self.replays}: {self.began} in jobs"]
        parts += [f"{each.status} after {each.calls} calls at {each.place}" for each in self.ends]
        parts += [f"dead letter {each.reason} at {each.place}" for each in self.letters]
        parts += [f"open after {each.calls} calls at {each.place}" for each in self.open]
        return ", ".join(parts)


def lives_of(published: Published, dump: Dump) -> dict[Run, Life]:
    """All runs that should be or are there: also those of acknowledged jobs without a record."""
    began = {(job_id, 0): count for job_id, count in dump.accepted.items()} | dict(dump.replayed)
    ends, open_ = _by_run(dump.ends), _by_run(dump.open)
    letters = _by_run(each for each in dump.letters if each.reason is not Reason.CONFLICT)
    acked = ((job_id, 0) for job_id in sorted(published.acked))
    return {
        run: Life(
            job_id=run[0],
            replays=run[1],
            began=began.get(run, 0),
            ends=tuple(ends.get(run, ())),
            letters=tuple(letters.get(run, ())),
            open=tuple(open_.get(run, ())),
        )
        for run in dict.fromkeys((*acked, *began, *ends, *letters, *open_))
    }


def _by_run(records: Iterable[T]) -> dict[Run, list[T]]:
    found: defaultdict[Run, list[T]] = defaultdict(list)
    for each in sorted(records, key=_place):
        found[each.job_id, each.replays].append(each)
    return found


def _place(record: Trace) -> tuple[str, int, int]:
    return record.place.topic, record.place.partition, record.place.offset


def _status_beside(letter: Letter) -> Status:
    return Status.EXPIRED if letter.reason is Reason.DEADLINE else Status.DEAD_LETTERED
