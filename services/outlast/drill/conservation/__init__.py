"""Accounts for every job of a drill, and names each that was lost, repeated or made up.

Three inputs know different things and must agree: the publisher, the topics, the providers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from outlast.drill.conservation.evidence import (
    Allowance,
    Calls,
    Dump,
    End,
    Letter,
    Open,
    Published,
    Run,
    Trace,
)
from outlast.drill.conservation.lives import lives_of
from outlast.drill.conservation.rules import (
    Offender,
    Rule,
    broken,
    extra_calls,
    repeats,
    strangers,
)
from outlast_schemas.result import Status

__all__ = [
    "Account",
    "Allowance",
    "Calls",
    "Dump",
    "End",
    "Letter",
    "Offender",
    "Open",
    "Published",
    "Rule",
    "Run",
    "Trace",
    "check",
]

LISTED: Final = 20
"""Offenders that a report lists; further ones are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of everything; it holds when nobody offends.

    ``acked``, ``unknown`` and ``failed`` count ids, as does ``landed``: those of unknown fate that
    are there. ``ended`` counts runs by the status of their first result, ``open`` those without
    one that are under way, ``lost`` those that are nowhere. ``repeated`` are results beyond the
    first, ``open_twice`` records beyond an end or beyond the one a run may have, ``spare_letters``
    dead letters without a result of their own; ``calls`` is what providers saw, ``extra_calls``
    what no record tells of it. Allowed ones are counted too, but offend nobody.
    """

    acked: int
    unknown: int
    failed: int
    landed: int
    ended: Counter[Status]
    open: int
    lost: int
    contradicted: int
    repeated: int
    open_twice: int
    spare_letters: int
    calls: int
    extra_calls: int
    allowance: Allowance
    offenders: tuple[Offender, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every rule is kept."""
        return not self.offenders

    @property
    def terminal(self) -> int:
        """Runs that have a result."""
        return self.ended.total()

    @property
    def repeats(self) -> int:
        """All that ``Allowance.repeats`` bounds."""
        return self.repeated + self.open_twice + self.spare_letters

    def lines(self) -> list[str]:
        """The report for people: figures, then offenders."""
        ends = ", ".join(f"{self.ended[each]} {each}" for each in Status)
        return [
            f"published: {self.acked} acked, {self.unknown} unknown ({self.landed} landed), "
            f"{self.failed} failed",
            f"runs: {self.terminal} ended ({ends}), {self.open} open, {self.lost} lost",
            f"repeats: {self.repeated} results, {self.open_twice} open records, "
            f"{self.spare_letters} dead letters; allowed {self.allowance.repeats}; "
            f"{self.contradicted} results differ from the first",
            f"calls: {self.calls} seen, {self.extra_calls} extra; "
            f"allowed {self.allowance.extra_calls}",
            *_listed(self.offenders),
        ]


def check(published: Published, dump: Dump, calls: Calls, allowance: Allowance) -> Account:
    """Compare the three inputs, all taken at rest.

    Ids that were not published, or refused, are named once and not looked at further. Without
    ``calls`` of a provider nothing is said of what it saw.
    """
    lives = lives_of(published, dump)
    known = published.ours  # made once: it is as large as all that was published
    ours = [life for life in lives.values() if life.job_id in known]
    always = [each for life in ours for each in broken(life, calls, allowance)]
    again = [each for life in ours for each in repeats(life)]
    extra = [*extra_calls(lives, calls)]
    counts: Counter[Rule] = Counter()
    for each in (*always, *again, *extra):
        counts[each.rule] += each.count
    unknown = published.unknown - published.acked
    return Account(
        acked=len(published.acked),
        unknown=len(unknown),
        failed=len(published.refused),
        landed=len({life.job_id for life in ours if life.job_id in unknown}),
        ended=Counter(life.ends[0].status for life in ours if life.ends),
        open=sum(bool(life.open) and not life.ends for life in ours),
        lost=counts[Rule.LOST],
        contradicted=counts[Rule.CONTRADICTED],
        repeated=counts[Rule.REPEATED],
        open_twice=counts[Rule.OPEN_TWICE],
        spare_letters=counts[Rule.SPARE_LETTER],
        calls=sum(sum(each.values()) for each in calls.values()),
        extra_calls=counts[Rule.EXTRA_CALLS],
        allowance=allowance,
        offenders=(
            *strangers(published, dump),
            *always,
            *_beyond(allowance.repeats, again),
            *_beyond(allowance.extra_calls, extra),
        ),
    )


def _beyond(allowed: int, named: list[Offender]) -> Iterable[Offender]:
    """All of them once there are too many: nobody can say which one was the fault's."""
    return named if sum(each.count for each in named) > allowed else ()


def _listed(offenders: tuple[Offender, ...]) -> Iterator[str]:
    yield from map(str, offenders[:LISTED])
    if len(offenders) > LISTED:
        yield f"and {len(offenders) - LISTED} more"
