"""What every command starts from: the settings, and a connection to the cluster."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import typer
from aiokafka.admin import AIOKafkaAdminClient

from outlast.edges import logs
from outlast.edges.codec import Codec
from outlast.edges.kafka.archive import Archive
from outlast.edges.kafka.connection import Cluster, admin, connect
from outlast.edges.kafka.topics import check
from outlast.edges.settings import Settings, environment, load
from outlast_schemas.topics import Topics

__all__ = ["Connected", "Invocation", "connected", "settings_of"]


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options that stand before the command."""

    config: str | None = None


def settings_of(context: typer.Context) -> Settings:
    """The settings for this invocation, and quiet libraries: what they say, our errors say.

    Raises ``SettingsError``.
    """
    logs.configure(environment(), libraries=logging.CRITICAL)
    invocation = context.find_object(Invocation) or Invocation()
    return load(environment(), invocation.config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """What an operator's command works with."""

    settings: Settings
    cluster: Cluster
    admin: AIOKafkaAdminClient
    topics: Topics
    codec: Codec
    archive: Archive


@asynccontextmanager
async def connected(settings: Settings, *, needs_topics: bool = True) -> AsyncIterator[Connected]:
    """Connect. Raises ``KafkaUnreachable``, or ``TopicsError`` when our topics are missing."""
    cluster = await connect(settings.kafka)
    topics = Topics(settings.kafka.prefix)
    codec = Codec(cluster.id, topics)
    client = admin(settings.kafka)
    await client.start()
    try:
        if needs_topics:
            needed = [topics.jobs, topics.results(), topics.dead_letters]
            await check(settings.kafka, needed, client)
        yield Connected(
            settings=settings,
            cluster=cluster,
            admin=client,
            topics=topics,
            codec=codec,
            archive=Archive(settings.kafka, codec, client),
        )
    finally:
        await client.close()
