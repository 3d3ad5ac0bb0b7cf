"""The permits for calls: who may call now, and who waits for one."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from outlast.core.choose import Ramp
from outlast.core.errors import Released
from outlast.core.policy import Permit
from outlast.edges.pool.rates import Rates
from outlast.edges.pool.throttling import Throttling
from outlast_schemas.job import Job

__all__ = ["Gate", "Permits"]


@dataclass(frozen=True, slots=True)
class _Turn:
    comes: "asyncio.Future[Permit]"
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What stands between a job and its call.

    Attributes:
        share: how many of the pool's permits this process has now.
        ramp: how a model is trusted again, if it is.
        of_ramp: this process's part of a ramp's permits.
        is_up: whether the model may be called at all.
        throttling: what slows all after a refusal.
        rates: the requests and tokens a minute, where they are bounded.
        tokens: how many a job may use.
    """

    share: Callable[[], int]
    ramp: Callable[[str], Ramp | None]
    of_ramp: Callable[[int], int]
    is_up: Callable[[str], bool]
    throttling: Throttling
    rates: Rates
    tokens: Callable[[Job], int]


class Permits:
    """Counts calls against what may be, and lets those wait that come too many.

    Those of one model are first in, first out; models take turns, so that one that ramps does not
    hold up the others.
    """

    def __init__(
        self, gate: Gate, resting: Callable[[Job], AbstractAsyncContextManager[None]]
    ) -> None:
        """``resting`` is a context in which a job waits."""
        self._gate: Final = gate
        self._resting = resting
        self.calls = 0
        self._ramping: Counter[tuple[str, int]] = Counter()
        self._waiting: dict[str, deque[_Turn]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_letting_go = False

    @property
    def waiting(self) -> int:
        """How many jobs wait for a permit."""
        return sum(len(each) for each in self._waiting.values())

    async def take(self, job: Job, model: str) -> Permit:
        """A permit; the job rests until there is one for it, or until its model is down.

        Raises ``Released`` when the pool lets go, or the job's partition moves away.
        """
        tokens = self._gate.tokens(job) if self._gate.rates.counts_tokens else 0
        if not self._waiting and (permit := self._free(model, tokens)) is not None:
            return permit
        if self._is_letting_go:
            raise Released
        turn = _Turn(asyncio.get_running_loop().create_future(), tokens)
        self._waiting.setdefault(model, deque()).append(turn)
        self.grant()
        try:
            async with self._resting(job):
                return await turn.comes
        except BaseException:
            self._give_back(turn.comes)
            raise

    def put(self, permit: Permit) -> None:
        """The call has ended, or was not made."""
        self.calls -= 1
        self._gate.rates.put(permit)
        if permit.ramp is not None:
            self._ramping[permit.ramp] -= 1
            if not self._ramping[permit.ramp]:
                del self._ramping[permit.ramp]
        self.grant()

    def _free(self, model: str, tokens: int) -> Permit | None:
        if self.calls >= self._gate.share():
            return None
        ramp = self._gate.ramp(model)
        key = None if ramp is None else (ramp.key, ramp.since)
        if ramp is not None and self._ramping[ramp.key, ramp.since] >= self._gate.of_ramp(
            ramp.permits
        ):
            return None
        wait = self._gate.throttling.wait_ms() or self._gate.rates.wait_ms(tokens)
        if wait != 0:
            self._look_again(wait)
            return None
        if key is not None:
            self._ramping[key] += 1
        return self._taken(Permit(model, tokens, key))

    def _taken(self, permit: Permit) -> Permit:
        self.calls += 1
        self._gate.rates.take(permit)
        self._gate.throttling.began(permit)
        return permit

    def _look_again(self, wait_ms: int | None) -> None:
        """When a rate lets the next one through; where it never does, a rebalance tells."""
        if wait_ms is None:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + wait_ms / 1000
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()  # something came back meanwhile
        self._timer = loop.call_at(at, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self.grant()

    def grant(self) -> None:
        """Something may be free now: one of each model in turn, while there is."""
        models = list(self._waiting)
        while models:
            models = [model for model in models if self._granted(model)]

    def _granted(self, model: str) -> bool:
        waiting = self._waiting[model]
        while waiting and waiting[0].comes.done():
            waiting.popleft()
        if not waiting:
            del self._waiting[model]
            return False
        permit = self._free(model, waiting[0].tokens)
        if permit is None and not self._gate.is_up(model):
            self.calls += 1
            permit = Permit(model, used=0)  # to look again, and be handed over
        if permit is None:
            return False
        waiting.popleft().comes.set_result(permit)
        return True

    def _give_back(self, turn: "asyncio.Future[Permit]") -> None:
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self.put(turn.result())
        else:
            turn.cancel()

    def let_go(self) -> None:
        """Who waits for a permit is not to wait any more: the process drains."""
        self._is_letting_go = True
        for waiting in self._waiting.values():
            for turn in waiting:
                if not turn.comes.done():
                    turn.comes.set_exception(Released())
        self._waiting.clear()
