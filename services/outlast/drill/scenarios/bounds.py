"""What a drill must show: each bound makes one line of the table from what was seen."""

from outlast.drill.scenarios.sight import Bound, Ended, Figure, Sight

__all__ = [
    "accounted",
    "all_served",
    "amplification",
    "calls_after_opening",
    "calls_in_trouble",
    "conserved",
    "drained",
    "elsewhere_within",
    "exited",
    "first_seconds",
    "flaps",
    "found_down_within",
    "found_up_within",
    "most_calls",
    "no_dead_letters",
    "openings",
    "parked",
    "stayed",
]


def accounted(sight: Sight) -> Figure:
    """Nothing lost, nothing twice, no call that its records do not tell."""
    return Figure("lost", str(sight.lost), "0, and one end each", not sight.lost and sight.holds)


def no_dead_letters(sight: Sight) -> Figure:
    """An outage is not the job's fault."""
    count = sight.count("dead_lettered") + sight.count("expired")
    return Figure("dead-lettered or expired", str(count), "0", not count)


def all_served(sight: Sight) -> Figure:
    """Every job that was acknowledged."""
    served = sight.count("succeeded")
    return Figure("served", f"{served} of {sight.jobs}", "all", 0 < sight.jobs == served)


def most_calls(bound: int) -> Bound:
    """No job takes more calls than that."""

    def figure(sight: Sight) -> Figure:
        most = max(sight.ended, key=lambda each: each.calls, default=None)
        if most is None:
            return Figure("calls per job", "no job ended", f"at most {bound}", holds=False)
        value = f"{sight.calls_per_job():.2f}, at most {most.calls}"
        if most.calls > bound:
            value += f" ({_told(most)})"
        return Figure("calls per job", value, f"at most {bound}", most.calls <= bound)

    return figure


def _told(job: Ended) -> str:
    calls = ", ".join(f"{at:.1f} s {who} {verdict}" for at, who, verdict in job.path)
    return f"accepted at {job.accepted:.1f} s: {calls}"


def conserved(targets: int) -> tuple[Bound, ...]:
    """What holds in every drill of a route with so many targets."""
    return (accounted, no_dead_letters, all_served, most_calls(targets + 1))


def found_down_within(provider: str, mark: str, seconds: float) -> Bound:
    """The fleet knows, so soon after the mark."""
    return _turned(provider, ("open",), mark, seconds, "found down")


def found_up_within(provider: str, mark: str, seconds: float) -> Bound:
    """The fleet sends jobs again, so soon after the mark."""
    return _turned(provider, ("ramp", "closed"), mark, seconds, "sent jobs again")


def _turned(provider: str, states: tuple[str, ...], mark: str, seconds: float, told: str) -> Bound:
    def figure(sight: Sight) -> Figure:
        since = sight.marks[mark]
        found = [at for state in states if (at := sight.turned(provider, state, since))]
        return _after(f"{provider} {told} after", min(found, default=None), since, seconds)

    return figure


def _after(what: str, at: float | None, since: float, seconds: float) -> Figure:
    value = "never" if at is None else f"{at - since:.1f} s"
    holds = at is not None and at - since <= seconds
    return Figure(what, value, f"at most {seconds:g} s", holds)


def elsewhere_within(provider: str, mark: str, seconds: float) -> Bound:
    """Somebody else serves a job, so soon after the mark."""

    def figure(sight: Sight) -> Figure:
        since = sight.marks[mark]
        at = sight.served_elsewhere(provider, since)
        return _after("first job served elsewhere after", at, since, seconds)

    return figure


def calls_after_opening(provider: str, until: str) -> Bound:
    """From the opening to the mark nobody but a probe calls it."""

    def figure(sight: Sight) -> Figure:
        opened, probes = sight.turned(provider, "open"), sight.probes.get(provider, 0)
        if opened is None:
            return Figure(f"calls to {provider} while it was down", "never found down", "", False)
        calls = sight.calls_between(provider, opened, sight.marks[until])
        promised = f"at most its {probes} probes"
        return Figure(f"calls to {provider} while down", str(calls), promised, calls <= probes)

    return figure


def calls_in_trouble(provider: str, *, after: float, every: float, callers: int) -> Bound:
    """From ``after`` seconds after it began: each caller comes once in ``every`` seconds."""

    def figure(sight: Sight) -> Figure:
        since, until = sight.marks["down"] + after, sight.marks["well"]
        calls, bound = (
            sight.calls_between(provider, since, until),
            callers * _times(until - since, every),
        )
        what = f"calls to {provider} from {after:g} s after the trouble began"
        return Figure(what, str(calls), f"at most {bound}", calls <= bound)

    return figure


def flaps(provider: str, seconds: float) -> Bound:
    """It is found down no more often than it goes down: once in so many seconds."""

    def figure(sight: Sight) -> Figure:
        since, until = sight.marks["down"], sight.marks["well"]
        return openings(provider, "down", _times(until - since, seconds))(sight)

    return figure


def _times(span: float, every: float) -> int:
    return max(1, round(span / every))


def openings(provider: str, since: str, most: int) -> Bound:
    """How often it is found down from the mark on."""

    def figure(sight: Sight) -> Figure:
        count = sight.openings(provider, sight.marks[since])
        what = f"{provider} found down since {since}"
        return Figure(what, f"{count} times", f"at most {most}", count <= most)

    return figure


def amplification(provider: str, bound: float) -> Bound:
    """Calls per job of those that were accepted after the opening."""

    def figure(sight: Sight) -> Figure:
        opened = sight.turned(provider, "open")
        value = None if opened is None else sight.calls_per_job(opened)
        said = "never found down" if value is None else f"{value:.3f}"
        holds = value is not None and value <= bound
        return Figure("calls per job after the opening", said, f"at most {bound:g}", holds)

    return figure


def first_seconds(provider: str, mark: str, *, seconds: int = 20, at_first: int) -> Bound:
    """Calls in each second from when jobs are sent again; few ``at_first``, within two seconds."""

    def figure(sight: Sight) -> Figure:
        what = f"calls per second at {provider}'s return"
        since = sight.turned(provider, "ramp", sight.marks[mark])
        if since is None:
            return Figure(what, "no ramp", "a ramp", holds=False)
        rate = sight.rate(provider, since, seconds)
        value = " ".join(map(str, rate))
        return Figure(what, value, f"at most {at_first} in two s", sum(rate[:2]) <= at_first)

    return figure


def parked(sight: Sight) -> Figure:
    """What nobody can serve waits where it costs nothing."""
    return Figure("most parked at once", str(sight.most_parked), "some", sight.most_parked > 0)


def exited(process: str, code: int, mark: str, seconds: float) -> Bound:
    """The process, and no other, ends by itself so soon after the mark."""

    def figure(sight: Sight) -> Figure:
        since = sight.marks[mark]
        told = ", ".join(
            f"{e.process} with {e.code} after {e.at - since:.1f} s" for e in sight.exits
        )
        alone = len(sight.exits) == 1 and sight.exits[0].process == process
        holds = alone and sight.exits[0].code == code and sight.exits[0].at - since <= seconds
        promised = f"{process} with {code} within {seconds:g} s"
        return Figure("left by itself", told or "nobody", promised, holds)

    return figure


def stayed(sight: Sight) -> Figure:
    """A provider in trouble is no reason for a worker to leave."""
    told = ", ".join(f"{e.process} with {e.code} at {e.at:.1f} s" for e in sight.exits)
    return Figure("left by itself", told or "nobody", "nobody", not sight.exits)


def drained(provider: str, mark: str, least: int) -> Bound:
    """How many jobs a second leave the pool from the mark until it is empty.

    Not from the opening on: each worker that finds it down hands its part over before that.
    """

    def figure(sight: Sight) -> Figure:
        what = f"moves per second out of {provider}'s pool since {mark}"
        began = sight.marks[mark]
        series = [each for each in sight.depth if each[0] >= began]
        empty = next((at for at, depth in series if depth == 0), None)
        if not series or empty is None:
            return Figure(what, "never empty", f"at least {least}", holds=False)
        jobs = series[0][1]
        rate = jobs / max(empty - began, 0.5)
        value = f"{rate:.0f} ({jobs} in {empty - began:.1f} s)"
        return Figure(what, value, f"at least {least}", rate >= least)

    return figure
