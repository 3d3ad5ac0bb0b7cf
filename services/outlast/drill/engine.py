"""Plays a scenario on real Kafka and says what was seen."""

import asyncio
import secrets
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console

from outlast.client import AsyncClient
from outlast.drill.conservation import Allowance, Published, check
from outlast.drill.dump import calls_of, dump
from outlast.drill.fleet import Fleet
from outlast.drill.scenarios.sight import Ended, Sight
from outlast.drill.scenarios.story import DEAD, PROVIDERS, Scenario, Step
from outlast.drill.screen import Screen
from outlast.drill.watch import Watch
from outlast.edges.answers import Result
from outlast.edges.codec import Codec
from outlast.edges.kafka.connection import Cluster, admin, connect
from outlast.edges.kafka.topics import apply
from outlast.edges.settings import Kafka, Settings, load
from outlast_schemas.state import State
from outlast_schemas.topics import Topics

__all__ = ["Played", "play"]

LOOK_SECONDS: Final = 0.25
RETURN_SECONDS: Final = 45.0
"""Longer than any wait between two probes."""
AT_REST_SECONDS: Final = 20.0
AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What was seen, and what happened when (seconds, text)."""

    sight: Sight
    events: tuple[tuple[float, str], ...]


async def play(
    scenario: Scenario,
    bootstrap_servers: str,
    console: Console,
    *,
    jobs: int | None = None,
    seconds: float | None = None,
    logs: Path | None = None,
) -> Played:
    """Play it on topics of its own, which are removed at the end.

    Args:
        scenario: which one.
        bootstrap_servers: the cluster.
        console: shows the way.
        jobs: in place of the scenario's own number.
        seconds: of trouble, likewise.
        logs: where the logs of all processes stay; else they go.

    Raises:
        OutlastError: when a process is not ready in time.
        KafkaUnreachable: when there is no cluster.
    """
    kafka = Kafka(bootstrap_servers=bootstrap_servers)
    cluster = await connect(kafka)
    prefix = f"outlast-drill-{secrets.token_hex(2)}"
    with tempfile.TemporaryDirectory(prefix="outlast-drill-") as temporary:
        fleet = Fleet(logs or Path(temporary), scenario)
        try:
            await fleet.start(bootstrap_servers, prefix)
            play = _Play(scenario, fleet, console, jobs or scenario.jobs, seconds)
            return await play.run(cluster)
        finally:
            await fleet.stop()
            await _removed(kafka, prefix)


class _Play:
    def __init__(
        self,
        scenario: Scenario,
        fleet: Fleet,
        console: Console,
        jobs: int,
        seconds: float | None,
    ) -> None:
        trouble = scenario.seconds if seconds is None else seconds
        self._scenario, self._fleet, self._console, self._jobs = scenario, fleet, console, jobs
        self._steps = scenario.schedule(trouble)
        self._publishing = scenario.publishing(trouble)
        self._settings: Settings = load({}, str(fleet.config))
        self._topics = Topics(self._settings.kafka.prefix)
        self._contents: dict[str, str] = {}
        self._depth: list[tuple[float, int]] = []
        self._began_ms = 0.0

    async def run(self, cluster: Cluster) -> Played:
        kafka = self._settings.kafka
        client = admin(kafka)
        await client.start()
        try:
            await apply(kafka, self._settings.catalogue, cluster, client)
            async with Watch(self._settings, client).watching() as watch:
                await self._fleet.run(lambda: watch.seconds)
                await self._performed(watch)
                sight = await self._accounted(watch, Codec(cluster.id, self._topics), client)
            return Played(sight=sight, events=tuple(watch.seen.events))
        finally:
            await client.close()

    async def _performed(self, watch: Watch) -> None:
        screen = Screen(self._console, watch, frozenset(PROVIDERS), self._jobs)
        with screen.live():
            looking = asyncio.ensure_future(self._look(watch, screen))
            try:
                watch.begin()
                self._fleet.begin()
                self._began_ms = time.time() * 1000
                watch.tell(f"publishing {self._jobs} jobs over {self._publishing:.0f} s")
                await asyncio.gather(self._publish(), self._happen(watch))
                watch.tell("all jobs published")
                patience = self._scenario.patience_seconds
                done = await watch.until_ended(set(self._contents), patience)
                watch.tell("all jobs ended" if done else "some jobs have not ended yet")
                await self._all_up(watch)
                await self._at_rest(watch)
            finally:
                looking.cancel()
        screen.refresh()

    async def _look(self, watch: Watch, screen: Screen) -> None:
        pool = self._topics.work(DEAD)
        while True:
            if pool in watch.seen.depths:
                self._depth.append((watch.seconds, watch.seen.depths[pool]))
            screen.refresh()
            await asyncio.sleep(LOOK_SECONDS)

    async def _happen(self, watch: Watch) -> None:
        for step in self._steps:
            await asyncio.sleep(max(0.0, step.at - watch.seconds))
            await self._fleet.act(step.act)
            watch.tell(step.told)

    async def _publish(self) -> None:
        """By the clock and not by the acks."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with AsyncClient(self._settings.kafka, source="outlast-drill") as client:
            sent = 0
            while sent < self._jobs:
                due = int((loop.time() - began) / self._publishing * self._jobs) + 1
                due = min(due, self._jobs, sent + AT_ONCE)
                await asyncio.gather(*(self._submit(client, each) for each in range(sent, due)))
                sent = max(sent, due)
                await asyncio.sleep(
                    max(0.0, began + self._publishing * sent / self._jobs - loop.time())
                )

    async def _submit(self, client: AsyncClient, number: int) -> None:
        text = f"In one short sentence: what is the number {number} good for?"
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 16}
        routes = self._scenario.routes
        job = await client.publish(body, route=routes[number % len(routes)])
        self._contents[job.id] = text

    async def _all_up(self, watch: Watch) -> None:
        """Jobs that others served do not wait for a return, but whoever watches does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RETURN_SECONDS):
                while {"open", "half_open"} & {*watch.seen.verdicts.values()}:
                    watch.changed.clear()
                    await watch.changed.wait()

    async def _at_rest(self, watch: Watch) -> None:
        """The account is taken when every commit is made."""
        with suppress(TimeoutError):
            async with asyncio.timeout(AT_REST_SECONDS):
                await watch.measured()
                while any(watch.seen.depths.values()):
                    await watch.measured()

    async def _accounted(self, watch: Watch, codec: Codec, client: AIOKafkaAdminClient) -> Sight:
        counters = {name: each.counters for name, each in self._fleet.simulators.items()}
        counted = {name: each.calls_by_content for name, each in counters.items()}
        calls = calls_of(counted, self._contents)
        account = check(
            Published(acked=frozenset(self._contents)),
            await dump(self._settings.kafka, codec, client),
            calls,
            Allowance(),
        )
        return Sight(
            jobs=account.acked,
            lost=account.lost,
            holds=account.holds,
            account=tuple(account.lines()),
            ended=tuple(self._ended(watch)),
            turns=tuple(watch.seen.turns),
            marks=_marks(self._steps),
            arrived={name: each.seconds.arrived for name, each in counters.items()},
            probes={
                name: each.started - sum(calls[name].values()) for name, each in counters.items()
            },
            depth=tuple(self._depth),
            most_parked=watch.seen.most_parked,
            exits=tuple(self._fleet.exits),
        )

    def _ended(self, watch: Watch) -> list[Ended]:
        seen = watch.seen
        ours = (each for each in seen.results.values() if each.job_id in self._contents)
        return [self._end(each, seen.states[each.job_id]) for each in ours]

    def _end(self, result: Result, state: State) -> Ended:
        last = state.attempts[-1] if state.attempts else None
        return Ended(
            status=result.status.value,
            provider=result.provider,
            calls=state.calls,
            accepted=self._since(state.accepted),
            served=0.0 if last is None else self._since(last.at + last.ms),
            path=tuple((self._since(a.at), a.provider, a.verdict.value) for a in state.attempts),
        )

    def _since(self, at_ms: float) -> float:
        return (at_ms - self._began_ms) / 1000


def _marks(steps: tuple[Step, ...]) -> dict[str, float]:
    return {step.mark: step.at for step in steps if step.mark}


async def _removed(kafka: Kafka, prefix: str) -> None:
    client = admin(kafka)
    await client.start()
    try:
        mine = [name for name in await client.list_topics() if name.startswith(f"{prefix}.")]
        if mine:
            await client.delete_topics(mine)
    finally:
        await client.close()
