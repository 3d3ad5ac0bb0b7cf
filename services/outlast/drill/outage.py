"""The fire drill: a provider goes down while jobs are published, and comes back."""

import asyncio
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from outlast.audit import Report, audit
from outlast.client import AsyncClient
from outlast.drill.scenarios.story import DEAD
from outlast.drill.scene import LocalModel, Scene
from outlast.drill.screen import Screen
from outlast.drill.timeline import OUTAGE, route_of
from outlast.drill.watch import Seen, Watch
from outlast.edges.codec import Codec
from outlast.edges.kafka.archive import Archive
from outlast.edges.kafka.connection import Cluster, admin, connect
from outlast.edges.kafka.topics import apply
from outlast.edges.settings import Kafka, Settings, load
from outlast_schemas.topics import Topics

__all__ = ["Drill", "Drilled", "drill"]

PUBLISHING_SECONDS: Final = 50.0
LAST_SHARE: Final = 0.1
"""Of the jobs so many are held back until the provider is tried again: else it might serve none.

It is probed after waits that are left to chance.
"""
PATIENCE_SECONDS: Final = 90.0
TELL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """What is drilled: where, with how many jobs, and with which real model if any."""

    bootstrap_servers: str
    jobs: int
    local: LocalModel | None = None
    keep: bool = False
    seconds: float = PUBLISHING_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """How it ended: ``seen`` from outside, and the audit."""

    seen: Seen
    report: Report
    simulated: frozenset[str]


async def drill(
    wanted: Drill,
    console: Console,
    ended: Callable[[Drilled], None],
    kept: Callable[[Path], None],
) -> None:
    """Run the drill; ``ended`` is told the outcome, ``kept`` the configuration that stays up.

    The topics have a prefix of their own, and are removed at the end.
    """
    cluster = await connect(Kafka(bootstrap_servers=wanted.bootstrap_servers))
    prefix = f"outlast-drill-{secrets.token_hex(2)}"
    with tempfile.TemporaryDirectory(prefix="outlast-drill-") as directory:
        scene = Scene(Path(directory), wanted.local)
        try:
            await scene.start(wanted.bootstrap_servers, prefix)
            await _drilled(wanted, scene, cluster, console, ended)
            if wanted.keep:
                kept(scene.config)
                await asyncio.Event().wait()
        finally:
            await scene.stop()
            await _removed(Kafka(bootstrap_servers=wanted.bootstrap_servers), prefix)


async def _drilled(
    wanted: Drill,
    scene: Scene,
    cluster: Cluster,
    console: Console,
    ended: Callable[[Drilled], None],
) -> None:
    settings = load({}, str(scene.config))
    client = admin(settings.kafka)
    await client.start()
    try:
        await apply(settings.kafka, settings.catalogue, cluster, client)
        await scene.run_stages()
        async with Watch(settings, client).watching() as watch:
            await _performed(wanted, scene, settings, watch, console)
            archive = Archive(
                settings.kafka, Codec(cluster.id, Topics(settings.kafka.prefix)), client
            )
            report = await audit(archive)
        ended(Drilled(seen=watch.seen, report=report, simulated=scene.simulated))
    finally:
        await client.close()


async def _performed(
    wanted: Drill, scene: Scene, settings: Settings, watch: Watch, console: Console
) -> None:
    screen = Screen(console, watch, scene.simulated, wanted.jobs)
    with screen.live():
        telling = asyncio.ensure_future(_tell(screen))
        try:
            watch.begin()
            watch.tell(f"publishing {wanted.jobs} jobs over {wanted.seconds:.0f} s")
            ids, _ = await asyncio.gather(
                _publish(settings, wanted, watch), _happen(scene, watch, wanted.seconds)
            )
            watch.tell("all jobs published")
            all_ended = await watch.until_ended(ids, PATIENCE_SECONDS)
            watch.tell("all jobs ended" if all_ended else "some jobs have not ended yet")
        finally:
            telling.cancel()
    # The picture has gone; what stays is the timeline, whole.
    screen.refresh()


async def _tell(screen: Screen) -> None:
    while True:
        screen.refresh()
        await asyncio.sleep(TELL_SECONDS)


async def _publish(settings: Settings, wanted: Drill, watch: Watch) -> set[str]:
    """Publish at a steady rate, by the clock and not by the acks."""
    loop = asyncio.get_running_loop()
    began, last = loop.time(), int(wanted.jobs * (1 - LAST_SHARE))
    ids = set()
    async with AsyncClient(settings.kafka, source="outlast-drill") as client:
        for number in range(wanted.jobs):
            after = wanted.seconds * number / wanted.jobs
            await asyncio.sleep(max(0.0, began + after - loop.time()))
            if number == last:
                await watch.until_trusted(DEAD, PATIENCE_SECONDS)
                began = loop.time() - after
            job = await client.publish(_body(number), route=route_of(number))
            ids.add(job.id)
    return ids


def _body(number: int) -> dict[str, object]:
    text = f"In one short sentence: what is the number {number} good for?"
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 16, "temperature": 0}


async def _happen(scene: Scene, watch: Watch, seconds: float) -> None:
    for step in OUTAGE:
        await asyncio.sleep(max(0.0, step.share * seconds - watch.seconds))
        await scene.happen(step.happening)
        watch.tell(step.told)


async def _removed(kafka: Kafka, prefix: str) -> None:
    client = admin(kafka)
    await client.start()
    try:
        mine = [name for name in await client.list_topics() if name.startswith(f"{prefix}.")]
        if mine:
            await client.delete_topics(mine)
    finally:
        await client.close()
