"""How each stage is put together from its decision, its ports and its feed."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import orjson
import structlog
from aiokafka import TopicPartition

from outlast import retry, route, work
from outlast.app.parts import MOVE_SECONDS, Desk, Parts
from outlast.core.capability import CHAT, EMBEDDINGS, Operation
from outlast.core.lifecycle import Hop
from outlast.core.policy import Provider, Target
from outlast.core.tokens import reserve
from outlast.core.watermark import Watermark
from outlast.edges.codec import Encoded
from outlast.edges.kafka.ahead import Ahead
from outlast.edges.kafka.backlog import queued
from outlast.edges.kafka.passes import Passes
from outlast.edges.kafka.scan import scan
from outlast.edges.kafka.subscribers import vitals_subscriber
from outlast.edges.kafka.sweeps import Sweeps
from outlast.edges.kafka.watchdog import watched
from outlast.edges.pool import ProviderPool, Share
from outlast.edges.providers.call import ProviderCall
from outlast.edges.providers.probe import ProbedCall
from outlast.edges.providers.transport import Transport
from outlast.health import VerdictOwner
from outlast.park import park
from outlast.ports import HealthPorts, ParkPorts, Ports, WorkPorts
from outlast_schemas import headers as h
from outlast_schemas.health import Health
from outlast_schemas.job import Job
from outlast_schemas.vitals import Vitals

__all__ = ["add_health", "add_park", "add_retry", "add_route", "add_work"]

log = structlog.get_logger()

MOVES_IN_FLIGHT: Final = 4_000
"""Per topic, for stages that only move records: more of them cost more each (measured)."""
WAITS_IN_FLIGHT: Final = 20_000
"""Per tier, a few KB each: who waits beyond it leaves late, not by its due time."""
HANDED_ON_IN_FLIGHT: Final = 1_000
"""How many jobs of a pool whose provider is down are handed on side by side."""
TICK_SECONDS: Final = 1.0


def add_route(parts: Parts) -> None:
    """The first door."""
    desk = parts.desk("route", parts.groups.route)
    ports = _ports(parts, desk)
    parts.add_feed(
        desk,
        (parts.topics.jobs,),
        lambda job: route.route(job, ports),
        lambda: MOVES_IN_FLIGHT,
        onward=lambda job: route.goes_on(job, ports),
    )


def add_retry(parts: Parts) -> None:
    """The second door."""
    desk = parts.desk("retry", parts.groups.retry)
    ports = _ports(parts, desk)

    def room() -> int:
        return min(WAITS_IN_FLIGHT, MOVES_IN_FLIGHT + desk.starts.at_rest)

    parts.add_feed(
        desk,
        parts.topics.retries,
        lambda job: retry.retry(job, ports),
        room,
        onward=lambda job: retry.goes_on(job, ports),
    )


def add_park(parts: Parts) -> None:
    """The third door, and what opens it."""
    desk = parts.desk("park", parts.groups.park)
    passes = _passes(
        parts, desk, lambda: moving.feed.is_crowded, lambda target: sweeps.free(target)
    )
    sweeps = Sweeps(
        catalogue=parts.catalogue,
        clock=parts.clock,
        fleet=parts.health.fleet,
        ends=desk.assignment.ends,
        passes=passes,
        pace=parts.pace,
    )
    ports = ParkPorts(**_shared(parts, desk), sweeps=sweeps, ramped=parts.pace.ramped())
    # Divided: else the partitions would take from each other what is passed over in one of them.
    moving = parts.add_feed(
        desk,
        (parts.topics.parked,),
        lambda job: park(job, ports),
        lambda: MOVES_IN_FLIGHT,
        divided=True,
    )
    parts.health.watch(sweeps.saw)
    desk.assignment.watch(sweeps.owe)
    parts.pace.watch(sweeps.busy)
    parts.background += [sweeps.run, passes.run]
    parts.let_go.append(sweeps.let_go)


def _passes(
    parts: Parts, desk: Desk, is_crowded: Callable[[], bool], room: Callable[[Target], int]
) -> Passes:
    records = desk.assignment.records
    ahead = Ahead(
        scan=partial(scan, parts.kafka),
        is_done=records.is_done,
        codec=parts.codec,
        catalogue=parts.catalogue,
        clock=parts.clock,
    )
    return Passes(
        ahead=ahead,
        windows=lambda: {tp: _in_hand(records.marks[tp]) for tp in records.owned},
        ends=desk.assignment.ends,
        is_crowded=is_crowded,
        view=Ports(**_shared(parts, desk)).view,
        room=room,
        clock=parts.clock,
    )


def _in_hand(mark: Watermark) -> range:
    return range(mark.low, mark.position)


def add_work(parts: Parts, provider: Provider, key: str | None, most: int) -> None:
    """One provider's pool."""
    topic = parts.topics.work(provider.name)
    transport = Transport()
    made = ProviderCall(provider, key, transport, lambda: parts.clock.now() / 1000)
    call = ProbedCall(provider, _models(parts, provider.name), made)
    desk = parts.desk(
        f"work.{provider.name}",
        parts.groups.work(provider.name),
        provider.clocks.total_seconds + MOVE_SECONDS,
    )
    share = Share(desk.assignment, topic, provider.limits.concurrency, most)
    pool = ProviderPool(
        provider=provider,
        worker=parts.worker,
        clock=parts.clock,
        share=share,
        queued=lambda: queued(desk.assignment),
        tokens=lambda job: reserve(parts.codec.body(job), _operation(job)),
        fleet=parts.health.fleet,
        tell=partial(_tell, parts),
        probe=call.probe,
        resting=desk.starts.resting,
    )
    parts.pools[provider.name] = pool
    desk.assignment.lent.watch(lambda *_: pool.grant())
    ports = WorkPorts(**_shared(parts, desk), call=call, pool=pool)

    models = tuple(_models(parts, provider.name))

    is_up = True

    def room() -> int:
        nonlocal is_up  # looked at once for all that is dispatched together
        is_up = pool.is_up(models)
        return pool.room if is_up else HANDED_ON_IN_FLIGHT

    def onward(job: Job) -> Hop | None:
        return None if is_up else work.goes_on(job, provider.name, ports)

    moving = parts.add_feed(
        desk, (topic,), lambda job: work.work(job, provider.name, ports), room, onward=onward
    )

    def saw(before: Health | None, after: Health) -> None:
        pool.saw(before, after)
        moving.feed.wake()

    parts.health.watch(saw)
    parts.background.append(pool.run)
    parts.let_go += [pool.stop, pool.let_go]
    parts.close.append(transport.aclose)


def add_health(parts: Parts) -> None:
    """The owner of verdicts."""
    partitions: dict[str, int] = {}

    def owns(provider: str) -> bool:
        tp = TopicPartition(parts.topics.vitals, partitions[provider])
        return subscriber.is_started and tp in subscriber.consumer.assignment()

    owner = VerdictOwner(
        HealthPorts(clock=parts.clock, verdicts=_Verdicts(parts), known=parts.health.of), owns
    )

    async def saw(heard: list[tuple[Vitals, int]]) -> None:
        partitions.update({vitals.provider: partition for vitals, partition in heard})
        await owner.saw(*(vitals for vitals, _ in heard))

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await owner.tick()

    subscriber = vitals_subscriber(
        parts.broker,
        parts.topics.vitals,
        group=parts.groups.health,
        instance=parts.slot(parts.groups.health),
        saw=saw,
    )
    parts.others.append(subscriber)
    parts.background.append(tick)
    parts.background.append(lambda: watched("vitals", subscriber))


class _Verdicts:
    """Writes verdicts to the fleet."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def publish(self, health: Health) -> None:
        """Return when it is acknowledged."""
        value = orjson.dumps(health.to_json())
        topic = self._parts.topics.health
        await self._parts.outbox.write(Encoded(topic, health.provider.encode(), value, []))


async def _tell(parts: Parts, vitals: Vitals) -> None:
    value = orjson.dumps(vitals.to_json())
    topic = parts.topics.vitals
    await parts.outbox.write(Encoded(topic, vitals.provider.encode(), value, []))


def _models(parts: Parts, provider: str) -> Iterator[str]:
    """The provider's models in all routes."""
    targets = (each for route in parts.catalogue.routes.values() for each in route.targets)
    return (each.model for each in targets if each.provider == provider)


def _operation(job: Job) -> Operation:
    return EMBEDDINGS if job.header(h.OPERATION) == EMBEDDINGS else CHAT


def _ports(parts: Parts, desk: Desk) -> Ports:
    return Ports(**{**_shared(parts, desk), "fleet": parts.pace.ramped()})


def _shared(parts: Parts, desk: Desk) -> Mapping[str, Any]:
    return {
        "catalogue": parts.catalogue,
        "topics": parts.topics,
        "clock": parts.clock,
        "outbox": parts.writing,
        "codec": parts.codec,
        "fleet": parts.health,
        "starts": desk.starts,
    }
