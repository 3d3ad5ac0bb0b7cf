"""Whatever happens to who is up and who parks: nothing is lost, nothing leaves twice, all leave."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from outlast.core.policy import Catalogue, Route, Target
from outlast_schemas.health import BreakerWord
from tests.core.given import CATALOGUE
from tests.edges.parked_topic import Loop, World
from tests.stages.fakes import turns

HOUR: Final = 3_600
TOLD: Final = 300
"""Seconds within which a parked job is told that it has expired."""
GOES: Final = {"either": {"deepseek", "openai"}, "east": {"deepseek"}, "west": {"openai"}}
"""By route, the providers that its jobs may go to."""
FEW: Final = Catalogue(
    providers={name: CATALOGUE.providers[name] for name in ("deepseek", "openai")},
    routes={
        name: Route(name=name, targets=tuple(Target(each, "m") for each in sorted(goes)))
        for name, goes in GOES.items()
    },
)

routes = st.sampled_from(sorted(GOES))
providers = st.sampled_from(sorted(FEW.providers))
spans = st.sampled_from((20, 4_000, 10**7))
processes = st.integers(0, 1)


class Parking(RuleBasedStateMachine):
    """Three partitions, of which so few records are in hand that most lie behind."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.runner = asyncio.Runner(loop_factory=lambda: self.loop)
        self.world = World(self.loop, partitions=3, window=2, processes=2, catalogue=FEW)
        self.count = 0
        self.moved_at = 0.0
        self.routes: dict[str, str] = {}
        self.deadlines: dict[str, float] = {}

    def run(self, story: Coroutine[Any, Any, None]) -> None:
        self.runner.run(story)

    @initialize(
        groups=st.lists(st.tuples(routes, st.integers(1, 9), spans), min_size=1, max_size=4)
    )
    def begin(self, groups: list[tuple[str, int, int]]) -> None:
        async def begun() -> None:
            self.world.begin()
            self.world.down(*FEW.providers)
            await turns()

        self.run(begun())
        for group in groups:
            self.park(*group)

    def teardown(self) -> None:
        async def ended() -> None:
            if self.world.is_begun:
                await self._all_leave()
                await self.world.end()

        self.run(ended())
        self.runner.close()

    async def _all_leave(self) -> None:
        for pool in self.world.pools.values():
            pool.limit = 20
        self.world.up(*self.world.pools)
        await asyncio.sleep(HOUR + 120)
        assert self.world.parked() == []
        self.nothing_is_lost_and_nothing_leaves_twice()

    @rule(group=st.tuples(routes, st.integers(1, 20), spans))
    def more_are_parked(self, group: tuple[str, int, int]) -> None:
        self.park(*group)

    def park(self, route: str, count: int, seconds: int) -> None:
        self.run(self._parked(route, count, seconds))

    async def _parked(self, route: str, count: int, seconds: int) -> None:
        for _ in range(count):
            job_id = f"job-{self.count}"
            self.count += 1
            self.routes[job_id] = route
            self.deadlines[job_id] = self.loop.seconds + seconds
            self.world.park(job_id, seconds, route=route)
        await turns()

    @rule(provider=providers, word=st.sampled_from((*BreakerWord, BreakerWord.OPEN)))
    def verdict(self, provider: str, word: BreakerWord) -> None:
        async def said() -> None:
            self.world.say(provider, word)
            await turns()

        self.run(said())

    @rule(provider=providers, times=st.integers(1, 12), seconds=st.sampled_from((1, 20)))
    def flaps(self, provider: str, times: int, seconds: int) -> None:
        async def flapped() -> None:
            for _ in range(times):
                self.world.down(provider)
                await asyncio.sleep(seconds)
                self.world.up(provider)
                await asyncio.sleep(seconds)

        self.run(flapped())

    @rule(provider=providers, limit=st.sampled_from((0, 1, 5)))
    def has_room(self, provider: str, limit: int) -> None:
        self.world.pools[provider].limit = limit

    @rule(seconds=st.sampled_from((1, 16, 61, TOLD + 1, HOUR)))
    def time_passes(self, seconds: int) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(process=processes)
    def restart(self, process: int) -> None:
        async def restarted() -> None:
            await self.world.parkers[process].restart()
            await turns()

        self.moved_at = self.loop.seconds
        self.run(restarted())

    @rule(owners=st.tuples(processes, processes, processes))
    def move(self, owners: tuple[int, int, int]) -> None:
        async def moved() -> None:
            for parker in self.world.parkers:
                parker.own(())  # all is taken away before it is given
            for process, parker in enumerate(self.world.parkers):
                parker.own([number for number, owner in enumerate(owners) if owner == process])
            await turns()

        self.moved_at = self.loop.seconds
        self.run(moved())

    @rule(provider=providers)
    def stays_up(self, provider: str) -> None:
        """Long enough for the longest wait between two passes; what comes meanwhile leaves too."""

        async def stayed() -> None:
            for pool in self.world.pools.values():  # who is preferred and up is waited for
                pool.limit = 20
            self.world.up(provider)
            await asyncio.sleep(TOLD)
            await self._parked("either", 1, 10**7)
            await asyncio.sleep(HOUR + 120)

        self.run(stayed())
        left = {job.id for job in self.world.parked()}
        assert not [each for each in left if provider in GOES[self.routes[each]]]

    @invariant()
    def nothing_is_lost_and_nothing_leaves_twice(self) -> None:
        there = Counter(job.id for job in self.world.parked())
        there.update({job_id: len(left) for job_id, left in self.world.left.items()})
        assert there == Counter(list(self.routes))

    @invariant()
    def each_goes_where_it_may_and_only_where_there_is_room(self) -> None:
        for job_id, left in self.world.left.items():
            assert set(left) <= GOES[self.routes[job_id]] | {"expired"}
        assert self.world.overrun == 0

    @invariant()
    def who_has_expired_is_told_in_time_and_nobody_else(self) -> None:
        for job_id, left in self.world.left.items():
            assert left != ["expired"] or self.deadlines[job_id] <= self.loop.seconds
        for job in self.world.parked():
            last = max(self.deadlines[job.id], self.moved_at)
            assert self.loop.seconds <= last + TOLD

    @invariant()
    def nothing_is_written_anew_but_to_let_others_by(self) -> None:
        for job_id, count in self.world.written.items():
            assert count <= 1 + self.world.passes[self.world.partition(job_id)]


TestParking = Parking.TestCase
TestParking.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
