"""The rules of conservation: what may not be, and who breaks it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from outlast.drill.conservation.evidence import Allowance, Calls, Dump, Published, Run
from outlast.drill.conservation.lives import Life
from outlast_schemas.result import Status

__all__ = ["Offender", "Rule", "broken", "extra_calls", "repeats", "strangers"]


class Rule(StrEnum):
    """What may not be, in the words of the report."""

    UNKNOWN_ID = "never published by us, and it is there"
    REFUSED = "refused when it was published, and it is there"
    FOREIGN = "neither a result nor a dead letter, and it lies among them"
    LOST = "accepted, and neither ended nor open"
    NO_RESULT = "set aside, and no result tells it"
    NO_LETTER = "not served, and there is no dead letter"
    CONTRADICTED = "a later result differs from the first"
    SCATTERED = "results of one run in more than one partition, so none is the first"
    TOO_MANY_CALLS = "more calls than a run may take"
    TOO_MANY_CHARGED = "more charged calls than a run may take"
    UNSEEN = "answered by a provider that never saw it"
    REPEATED = "more than one result"
    OPEN_TWICE = "open beyond its end, or in more than one place"
    SPARE_LETTER = "more dead letters than results that go with them"
    EXTRA_CALLS = "called more often than its records say"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offender:
    """Who breaks which rule, how many times over, and where to look."""

    rule: Rule
    job_id: str
    evidence: str
    count: int = 1

    def __str__(self) -> str:
        """One line of the report."""
        return f"{self.job_id}: {self.rule} ({self.evidence})"


def strangers(published: Published, dump: Dump) -> Iterator[Offender]:
    """Records that cannot come from what was published."""
    for place in dump.foreign:
        yield Offender(rule=Rule.FOREIGN, job_id="no job", evidence=str(place))
    ours, refused = published.ours, published.refused
    for job_id, places in _whereabouts(dump).items():
        if job_id not in ours:
            rule = Rule.REFUSED if job_id in refused else Rule.UNKNOWN_ID
            yield Offender(rule=rule, job_id=job_id, evidence=", ".join(places))


def _whereabouts(dump: Dump) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for job_id, count in dump.accepted.items():
        found[job_id].append(f"{count} in jobs")
    for (job_id, run), count in dump.replayed.items():
        found[job_id].append(f"{count} in jobs as run {run}")
    for each in dump.traces:
        found[each.job_id].append(str(each.place))
    return found


def broken(life: Life, calls: Calls, allowance: Allowance) -> Iterator[Offender]:
    """Rules that no fault excuses.

    A later result that differs from the first is one of them: a reader who keeps the first acts
    on it, so a run told as not served must not turn out otherwise. Only where the first says
    ``succeeded`` is whatever follows harmless: it is dropped as any repeat, and counts as one.
    """
    charged = max((each.charged or 0 for each in life.ends), default=0)
    counts = {
        Rule.LOST: not life.traces,
        Rule.NO_RESULT: bool(life.letters) and not (life.ends or life.open),
        Rule.NO_LETTER: _without_letter(life),
        Rule.CONTRADICTED: _contradicted(life),
        Rule.SCATTERED: len({(each.place.topic, each.place.partition) for each in life.ends}) - 1,
        Rule.TOO_MANY_CALLS: life.most_calls - allowance.max_calls,
        Rule.TOO_MANY_CHARGED: charged - allowance.max_charged,
        Rule.UNSEEN: _unseen(life, calls),
    }
    return _named(life, counts)


def repeats(life: Life) -> Iterator[Offender]:
    """What a crash or a frozen process repeats, and nothing else: each is allowed so many times.

    A record that the publisher wrote twice and that has not been routed yet is no repeat.
    """
    counts = {
        Rule.REPEATED: len(life.ends) - 1 - _contradicted(life),
        Rule.OPEN_TWICE: _open_twice(life),
        Rule.SPARE_LETTER: _spare_letters(life),
    }
    return _named(life, counts)


def extra_calls(lives: Mapping[Run, Life], calls: Calls) -> Iterator[Offender]:
    """Jobs that providers saw more often than the visible ends of their runs report.

    What an open run took so far stands in its record, so none may be in flight.
    """
    seen: Counter[str] = Counter()
    for provider_calls in calls.values():
        seen.update(provider_calls)
    told: Counter[str] = Counter()
    for life in lives.values():
        told[life.job_id] += life.calls
    for job_id, count in seen.items():
        if count > told[job_id]:
            by = ", ".join(
                f"{name} {each[job_id]}" for name, each in calls.items() if job_id in each
            )
            evidence = f"{by} calls seen, {told[job_id]} told"
            extra = count - told[job_id]
            yield Offender(rule=Rule.EXTRA_CALLS, job_id=job_id, evidence=evidence, count=extra)


def _named(life: Life, counts: Mapping[Rule, int]) -> Iterator[Offender]:
    for rule, count in counts.items():
        if count > 0:
            yield Offender(rule=rule, job_id=life.job_id, evidence=str(life), count=int(count))


def _without_letter(life: Life) -> int:
    unserved = (Status.DEAD_LETTERED, Status.EXPIRED)
    return sum(life.results(each) > 0 and life.letters_for(each) == 0 for each in unserved)


def _contradicted(life: Life) -> int:
    if not life.ends or life.ends[0].status is Status.SUCCEEDED:
        return 0
    return len(life.ends) - life.results(life.ends[0].status)


def _unseen(life: Life, calls: Calls) -> int:
    """A success that names no provider is one of nobody."""
    served = [each.provider for each in life.ends if each.status is Status.SUCCEEDED]
    return sum(
        name is None or (name in calls and not calls[name].get(life.job_id)) for name in served
    )


def _open_twice(life: Life) -> int:
    copies = max(0, life.began - 1)
    published_again = min(copies, sum(each.hop == 0 for each in life.open))
    return len(life.open) - published_again - (0 if life.ends else 1)


def _spare_letters(life: Life) -> int:
    if not (life.ends or life.open):
        return 0
    kinds = (Status.DEAD_LETTERED, Status.EXPIRED)
    return sum(max(0, life.letters_for(each) - life.results(each)) for each in kinds)
