"""How every scenario begins and ends: a fleet, then its jobs settle and are accounted for."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from outlast.drill.conservation import Account
from outlast_schemas.result import Status
from tests.kafka.chaos.cluster import Cluster
from tests.kafka.chaos.figures import Row, Table, longest_pause
from tests.kafka.chaos.fleet import Fleet, fleet

__all__ = ["Outcome", "Scenario"]

SETTLE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a scenario came to, with every offender by name."""

    row: Row
    account: Account
    lost: set[str]
    open: dict[str, int]
    not_allowed: Counter[str]
    statuses: set[Status]
    logs: str

    def require_promises(self) -> None:
        """Nothing lost or stuck, everything served, no call repeated that did not have to be."""
        self.require_nothing_lost()
        assert self.account.holds, self._say(*self.account.lines())
        assert not self.not_allowed, self._say(f"called too often: {self.not_allowed}")

    def require_nothing_lost(self) -> None:
        """Nothing lost or stuck, everything served."""
        assert self.row.jobs, "no job was acknowledged: the scenario shows nothing"
        assert not self.lost, self._say(f"lost: {sorted(self.lost)[:20]}")
        assert not self.open, self._say(f"not done: {self.open}")
        assert self.statuses == {Status.SUCCEEDED}, self._say(f"statuses: {self.statuses}")

    def _say(self, *lines: str) -> str:
        return "\n".join((*lines, self.logs))


@dataclass
class Scenario:
    """Gives a test its fleet, and the table its row."""

    name: str
    cluster: Cluster
    table: Table
    directory: Path
    _began: float = field(default_factory=time.monotonic)

    @asynccontextmanager
    async def fleet(self, *stages: str, **options: Any) -> AsyncIterator[Fleet]:
        """A fleet with a process for each of these stages: route and retry unless given."""
        async with fleet(self.directory, self.cluster.bootstrap_servers, **options) as here:
            await here.stages(*(stages or ("route", "retry")))
            yield here

    def accounted(self, account: Account) -> Account:
        """Put what the checker counted into the table, where the providers' view does not matter.

        What is lost there was meant to be: the test says which.
        """
        self.table.add(
            Row(
                scenario=self.name,
                jobs=account.acked,
                lost=account.lost,
                repeated=account.repeated,
                extra_calls=account.extra_calls,
                allowed_calls=account.allowance.extra_calls,
                pause_seconds=None,
                seconds=time.monotonic() - self._began,
            )
        )
        return account

    async def outcome(
        self, here: Fleet, within: float = SETTLE_SECONDS, *, shows_pauses: bool = True
    ) -> Outcome:
        """Let everything end, count it, put the row into the table."""
        lost = await here.settle(within)
        extra = here.extra_calls()
        allowed = await here.allowed()
        not_allowed = extra - allowed
        starts = [(call.began, call.job) for call in here.calls]
        row = Row(
            scenario=self.name,
            jobs=len(here.acked),
            lost=len(lost),
            repeated=here.repeats,
            extra_calls=extra.total(),
            allowed_calls=allowed.total(),
            pause_seconds=longest_pause(here.acked, starts) if shows_pauses else None,
            seconds=time.monotonic() - self._began,
        )
        return Outcome(
            row=self.table.add(row),
            account=await here.account(allowed.total()),
            lost=lost,
            open={topic: count for topic, count in (await here.depths()).items() if count},
            not_allowed=not_allowed,
            statuses={each.result.status for each in here.ended.values()},
            logs=f"{here.story(not_allowed)}\n{here.tails()}",
        )
