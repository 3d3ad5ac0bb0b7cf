"""Which parked jobs stand in the way of others that can go: these alone are written anew.

What is parked is read in order, and only so much of it is in hand. Where nothing behind it can
go, all of it stays as it is, however long that lasts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka import TopicPartition

from outlast.core import sweep
from outlast.core.decide import View, next_after_parking
from outlast.core.lifecycle import Ask, Park
from outlast.core.policy import Target
from outlast.core.sweep import Passing
from outlast.edges.clock import BrokerClock
from outlast.edges.kafka.ahead import Ahead
from outlast_schemas.job import Job

__all__ = ["Passes"]

log = structlog.get_logger()

LOOK_SECONDS: Final = 5.0

Ends = Mapping[TopicPartition, int]
Windows = Mapping[TopicPartition, range]
"""Of each owned partition the offsets in hand: from the lowest that is not done on."""


@dataclass(frozen=True, slots=True)
class _Pass:
    """Up to the job at ``last``, who has no room at one of the targets is passed over."""

    last: int
    targets: frozenset[Target] = frozenset()

    def is_only_for(self, provider: str) -> bool:
        """Whether all who are let by would go there."""
        return bool(self.targets) and all(each.provider == provider for each in self.targets)


class Passes:
    """The passes under way: in a partition one for those that can go, one for the expired."""

    def __init__(
        self,
        *,
        ahead: Ahead,
        windows: Callable[[], Windows],
        ends: Callable[[], Awaitable[Ends]],
        is_crowded: Callable[[], bool],
        view: Callable[[], View],
        room: Callable[[Target], int],
        clock: BrokerClock,
    ) -> None:
        """Prepare.

        Args:
            ahead: what lies behind that which is in hand.
            windows: what is in hand.
            ends: where each owned partition ends now.
            is_crowded: whether anything lies behind that which is in hand.
            view: the world at this moment.
            room: how many jobs a target has room for now, beyond those in hand that wait for it.
            clock: broker time.
        """
        self._ahead = ahead
        self._windows = windows
        self._ends = ends
        self._is_crowded = is_crowded
        self._view = view
        self._room = room
        self._clock = clock
        self._passes: dict[TopicPartition, tuple[_Pass, ...]] = {}
        self._states: dict[TopicPartition, Passing] = {}
        self._watchers: list[Callable[[Ends], None]] = []

    def watch(self, began: Callable[[Ends], None]) -> None:
        """Call ``began(ends)`` at each look that begins passes, with where each of them ends."""
        self._watchers.append(began)

    def is_in_the_way(self, job: Job, target: Target | None = None) -> bool:
        """Whether it has to let others by, unless it waits for room where they go to."""
        origin = job.origin
        passes = self._passes.get(TopicPartition(origin.topic, origin.partition), ())
        return any(origin.offset < each.last and target not in each.targets for each in passes)

    def stop(self, provider: str) -> None:
        """It is worse: nobody is passed over for those who would go there."""
        self._passes = {
            tp: tuple(each for each in passes if not each.is_only_for(provider))
            for tp, passes in self._passes.items()
        }

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """See what lies behind; where some of that can go, or has expired, others let it by."""
        self._come_to(self._windows())
        if not self._is_crowded():
            return
        await self._ahead.read(await self._ends())
        windows = self._windows()
        self._come_to(windows)
        began = {tp: begun for tp, window in windows.items() if (begun := self._begun(tp, window))}
        for tp, begun in began.items():
            self._passes[tp] = (*self._passes.get(tp, ()), *begun)
        if began:
            log.info("park.passes", partitions=len(began))
            ends = {tp: 1 + max(each.last for each in begun) for tp, begun in began.items()}
            for watcher in self._watchers:
                watcher(ends)

    def _come_to(self, windows: Windows) -> None:
        """So far it is in hand: who was to be let by is, or the partition is another's."""
        self._ahead.came_to({tp: window.stop for tp, window in windows.items()})
        self._passes = {
            tp: tuple(each for each in passes if windows[tp].stop <= each.last)
            for tp, passes in self._passes.items()
            if tp in windows
        }
        self._states = {tp: self._states.get(tp, Passing()) for tp in windows}

    def _begun(self, tp: TopicPartition, window: range) -> tuple[_Pass, ...]:
        """The passes that begin now, beside those under way."""
        passes = self._passes.get(tp, ())
        state, now = self._states[tp], self._clock.now()
        begun: list[_Pass] = []
        may_pass = sweep.may_pass(state, now) and not any(each.targets for each in passes)
        if may_pass and (found := dict(self._going(tp))):
            last = max(found)
            state = sweep.passed(state, now, last - window.start)
            targets = frozenset(each for each in found.values() if each is not None)
            begun.append(_Pass(last, targets))
        expired = self._ahead.of(tp).expired(now)
        if expired is not None and sweep.may_tell(state, now):
            state = sweep.told(state, now)
            begun.append(_Pass(expired))
        self._states[tp] = state
        return tuple(begun)

    def _going(self, tp: TopicPartition) -> Iterator[tuple[int, Target | None]]:
        """The last of each kind that can leave now, and where to; ``None``: it ends."""
        view = self._view()
        for offset, job in self._ahead.of(tp).kinds():
            match next_after_parking(job, view):
                case Ask(_, target):
                    if self._room(target) > 0:
                        yield offset, target
                case Park():
                    continue
                case _:
                    yield offset, None
