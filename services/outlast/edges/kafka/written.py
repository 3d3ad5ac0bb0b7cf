"""Counts what a process has written and Kafka has acknowledged, for those who watch from outside.

Outlast's own numbers, since the process began: each addition costs the hot path a look at what
kind of record it was and one entry of a counter.
"""

from collections import Counter

from outlast.core.lifecycle import Hop, Outgoing
from outlast_schemas.dead_letter import Reason
from outlast_schemas.result import Result, Status
from outlast_schemas.state import State

__all__ = ["Written"]


class Written:
    """What was written, by where it went or why."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.hops: Counter[str] = Counter()
        """By topic, the jobs that were sent on."""
        self.results: Counter[Status] = Counter()
        self.dead_letters: Counter[Reason] = Counter()
        self.failovers: Counter[tuple[str, str]] = Counter()
        """By the provider that had failed a job, or had handed it over, and the one it went to."""

    def add(self, record: Outgoing) -> None:
        """It is acknowledged."""
        # Not a match, which takes twice the time: every job comes by here on each move.
        if isinstance(record, Hop):
            self.hops[record.topic] += 1
            state = record.job.state
            if state.target is not None and (state.attempts or state.avoid):
                self._count_failover(state, state.target.partition("/")[0])
        elif isinstance(record, Result):
            self.results[record.status] += 1
        else:
            self.dead_letters[record.reason] += 1

    def _count_failover(self, state: State, to: str) -> None:
        if state.attempts:
            before = state.attempts[-1].provider
        else:  # it was never called: what its pool handed over avoids that pool
            before = next((each for each in state.avoid if "/" not in each), to)
        if before != to:
            self.failovers[before, to] += 1
