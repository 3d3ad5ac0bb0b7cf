"""The only place that wires: settings in, a running process out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from outlast.app.monitoring import watch
from outlast.app.parts import Parts
from outlast.app.stages import add_health, add_park, add_retry, add_route, add_work
from outlast.core.errors import SettingsError
from outlast.core.policy import Provider
from outlast.edges.kafka import private
from outlast.edges.kafka.connection import Cluster, admin, connect
from outlast.edges.kafka.topics import check, check_pools
from outlast.edges.monitor import Monitor
from outlast.edges.settings import Settings, api_key
from outlast_schemas.topics import Topics

__all__ = ["STAGES", "Selection", "StageName", "run"]

StageName = Literal["route", "work", "retry", "park", "health"]
STAGES: Final[tuple[StageName, ...]] = ("route", "work", "retry", "park", "health")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What this process shall run; ``providers`` is for work, empty means all configured."""

    stages: tuple[StageName, ...] = STAGES
    providers: tuple[str, ...] = ()
    max_in_flight: int = 4_000
    begin_at: Literal["earliest", "latest"] | None = None
    instance: str | None = None


async def run(settings: Settings, selection: Selection, environ: Mapping[str, str]) -> None:
    """Run the selected stages until a signal; returns after a clean drain.

    Raises:
        SettingsError: a selected provider is not configured, its key is missing, or the port of
            ``monitoring.listen`` is in use.
        KafkaUnreachable: no broker answers.
        TopicsError: topics or committed offsets are missing.
        WatchdogTripped: a client library stands still.
    """
    private.check()
    pools = _pools(settings, selection)
    keys = _keys(pools, environ)
    # First of all, so that a port in use is known before anything is joined.
    async with Monitor(settings.monitoring) as monitor:
        cluster = await connect(settings.kafka)
        await _check_topics(settings)
        parts = await _parts(settings, selection, cluster, pools, keys)
        if monitor.is_on:
            watch(parts, monitor)
        await parts.process().run(monitor.condition)


async def _parts(
    settings: Settings,
    selection: Selection,
    cluster: Cluster,
    pools: tuple[Provider, ...],
    keys: Mapping[str, str | None],
) -> Parts:
    """Everything that was selected, ready to run."""
    parts = await Parts.connected(
        settings,
        cluster,
        instance=selection.instance,
        begin_at=selection.begin_at,
    )
    if "health" in selection.stages:
        add_health(parts)
    if "route" in selection.stages:
        add_route(parts)
    if "retry" in selection.stages:
        add_retry(parts)
    if "park" in selection.stages:
        add_park(parts)
    for provider in pools:
        add_work(parts, provider, keys[provider.name], selection.max_in_flight)
    return parts


def _pools(settings: Settings, selection: Selection) -> tuple[Provider, ...]:
    if "work" not in selection.stages:
        return ()
    known = settings.catalogue.providers
    names = ", ".join(known) or "none are configured"
    unknown = [name for name in selection.providers if name not in known]
    if unknown or not known:
        raise SettingsError(
            [f"provider {name!r} is not configured ({names})" for name in unknown]
            or ["no provider is configured: add [providers.<name>] to outlast.toml"]
        )
    return tuple(known[name] for name in selection.providers or tuple(known))


def _keys(pools: tuple[Provider, ...], environ: Mapping[str, str]) -> dict[str, str | None]:
    """Each pool's key. Raises ``SettingsError`` that names every one that is missing."""
    keys: dict[str, str | None] = {}
    mistakes: list[str] = []
    for pool in pools:
        try:
            keys[pool.name] = api_key(pool, environ)
        except SettingsError as error:
            mistakes += error.mistakes
    if mistakes:
        raise SettingsError(mistakes)
    return keys


async def _check_topics(settings: Settings) -> None:
    catalogue = settings.catalogue
    table = Topics(settings.kafka.prefix).table(
        tuple(catalogue.providers), tuple(sorted(catalogue.results))
    )
    client = admin(settings.kafka)
    await client.start()
    try:
        await check(settings.kafka, [topic.name for topic in table], client)
        await check_pools(settings.kafka, catalogue, client)
    finally:
        await client.close()
