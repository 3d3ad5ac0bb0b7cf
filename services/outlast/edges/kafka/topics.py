"""Makes Kafka agree with the table of topics: looks, plans, creates, sets, grows, never deletes."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from outlast.core.errors import KafkaUnreachable, TopicsError
from outlast.core.policy import Catalogue
from outlast.edges.kafka import private
from outlast.edges.kafka.beginnings import begin, unbegun
from outlast.edges.kafka.connection import PATIENCE_SECONDS, Cluster, unreachable
from outlast.edges.kafka.connection import admin as new_admin
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.topic_plan import (
    Change,
    Creation,
    Found,
    Growth,
    Plan,
    compare,
    refuse_starving_pools,
    table,
)
from outlast.edges.settings import Kafka
from outlast_schemas.topics import Topics

__all__ = ["apply", "check", "check_pools", "find", "partitions", "plan", "require"]

SET_ON_THE_TOPIC: Final = 1
"""``config_source`` of a setting that was made on the topic itself."""
LOOKS: Final = 300
SECONDS_BETWEEN_LOOKS: Final = 0.1


async def plan(
    kafka: Kafka, catalogue: Catalogue, cluster: Cluster, admin: AIOKafkaAdminClient
) -> Plan:
    """What ``apply`` would do. ``admin`` is started.

    Raises:
        TopicsError: when a pool's concurrency is below the partitions of its topic.
    """
    names = [topic.name for topic in table(kafka, catalogue)]
    found = await find(names, admin)
    made = compare(kafka, catalogue, found, replicas=cluster.replication_factor)
    counts = {name: topic.partitions for name, topic in found.items()}
    unknown = await unbegun(kafka, _reads(kafka, catalogue), counts, admin)
    orphans = _orphans(kafka, names, await partitions(None, admin))
    return replace(made, beginnings=unknown, notes=(*made.notes, *orphans))


def _orphans(kafka: Kafka, names: list[str], there: Iterable[str]) -> Iterable[str]:
    """A note for each pool's topic whose provider is not configured: nobody reads it."""
    prefix = Topics(kafka.prefix).work("")
    for name in sorted(there):
        if name.startswith(prefix) and name not in names:
            provider = name.removeprefix(prefix)
            yield (
                f"{name} is there and no provider {provider!r} is configured: jobs in it wait "
                "for nobody. Put the provider back until `outlast audit` shows none open"
            )


async def apply(
    kafka: Kafka, catalogue: Catalogue, cluster: Cluster, admin: AIOKafkaAdminClient
) -> Plan:
    """Do it, and return what was done; what could not be done stands in the notes.

    Raises:
        TopicsError: when the broker refuses something, or as :func:`plan`.
    """
    before = await plan(kafka, catalogue, cluster, admin)
    await _create(before.creations, admin)
    await _grow(before.growths, admin)
    await _set(before.changes, admin)
    wanted = {each.topic: each.partitions for each in before.creations}
    wanted |= {each.topic: each.wanted for each in before.growths}
    await _wait_until_there(wanted, admin)
    names = [topic.name for topic in table(kafka, catalogue)]
    # What was wanted is there; the broker that is asked now may not have heard of it yet.
    counts = await partitions(names, admin) | wanted
    beginnings = await unbegun(kafka, _reads(kafka, catalogue), counts, admin)
    in_use = await begin(kafka, beginnings)
    return replace(
        before,
        beginnings=tuple(each for each in beginnings if each.group not in in_use),
        notes=(
            *before.notes,
            *(f"{group} is at work: its new partitions begin by themselves" for group in in_use),
        ),
    )


async def check(kafka: Kafka, needed: Iterable[str], admin: AIOKafkaAdminClient) -> None:
    """Raise ``TopicsError`` that names the topics of ``needed`` which are not there."""
    wanted = list(dict.fromkeys(needed))
    there = await _existing(wanted, admin)
    missing = [name for name in wanted if name not in there]
    if missing:
        raise TopicsError(
            f"missing at {kafka.bootstrap_servers}: {', '.join(missing)}. "
            "Run `outlast topics apply`."
        )


async def require(kafka: Kafka, needed: Iterable[str]) -> dict[str, int]:
    """The partitions of each of these topics, learnt by an own connection.

    Raises ``TopicsError`` as :func:`check`, and ``KafkaUnreachable``.
    """
    asking, names = new_admin(kafka), list(needed)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asking.start()
            await check(kafka, names, asking)
            return await partitions(names, asking)
    except (KafkaError, TimeoutError) as error:
        raise await unreachable(kafka, error) from error
    finally:
        await asking.close()


async def check_pools(kafka: Kafka, catalogue: Catalogue, admin: AIOKafkaAdminClient) -> None:
    """Raise ``TopicsError`` when a pool has fewer permits than its topic has partitions."""
    pools = [topic.name for topic in table(kafka, catalogue) if topic.provider is not None]
    refuse_starving_pools(kafka, catalogue, await partitions(pools, admin))


async def find(names: Iterable[str], admin: AIOKafkaAdminClient) -> dict[str, Found]:
    """Those of the topics that exist, as they are."""
    there = await _existing(names, admin)
    settings = await _settings_of(list(there), admin)
    return {
        name: Found(
            partitions=len(about["partitions"]),
            replicas=min(len(each["replicas"]) for each in about["partitions"]),
            settings={key: value for key, (value, _) in settings.get(name, {}).items()},
            own={key: value for key, (value, own) in settings.get(name, {}).items() if own},
        )
        for name, about in there.items()
    }


async def partitions(names: Iterable[str] | None, admin: AIOKafkaAdminClient) -> dict[str, int]:
    """How many partitions each of the topics has; those that are missing are left out.

    ``None`` asks for all topics of the cluster.
    """
    there = await _existing(names, admin)
    return {name: len(about["partitions"]) for name, about in there.items()}


def _reads(kafka: Kafka, catalogue: Catalogue) -> Mapping[str, tuple[str, ...]]:
    return Groups(kafka.prefix).reads(Topics(kafka.prefix), catalogue.providers)


async def _existing(
    names: Iterable[str] | None, admin: AIOKafkaAdminClient
) -> dict[str, dict[str, Any]]:
    """Topic → what is known of it; those that are not there are left out."""
    wanted = None if names is None else list(names)
    if wanted == []:
        return {}
    try:
        there = (await private.metadata(admin, wanted))["topics"]
    except (KafkaError, OSError, TimeoutError) as error:
        raise KafkaUnreachable(f"the topics cannot be listed: {error!r}") from error
    return {
        about["topic"]: about for about in there if not about["error_code"] and about["partitions"]
    }


async def _settings_of(
    names: list[str], admin: AIOKafkaAdminClient
) -> dict[str, dict[str, tuple[str, bool]]]:
    """Topic → setting → its value, and whether it was made on the topic itself."""
    if not names:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    for response in await admin.describe_configs(asked):
        for code, message, _, name, entries in response.resources:
            _raise(code, message, f"the settings of {name} cannot be read")
            found[name] = {
                key: (value, source == SET_ON_THE_TOPIC) for key, value, _, source, *_ in entries
            }
    return found


async def _create(creations: Iterable[Creation], admin: AIOKafkaAdminClient) -> None:
    wanted = [
        NewTopic(each.topic, each.partitions, each.replicas, topic_configs=dict(each.settings))
        for each in creations
    ]
    if not wanted:
        return
    response = await admin.create_topics(wanted)
    for name, code, message in response.topic_errors:
        if code != TopicAlreadyExistsError.errno:  # another apply at the same time made it
            _raise(code, message, f"{name} cannot be created")


async def _grow(growths: Iterable[Growth], admin: AIOKafkaAdminClient) -> None:
    wanted = {each.topic: NewPartitions(each.wanted) for each in growths}
    if not wanted:
        return
    try:
        await admin.create_partitions(wanted)
    except KafkaError as error:
        raise TopicsError(str(error)) from error


async def _set(changes: Iterable[Change], admin: AIOKafkaAdminClient) -> None:
    """Kafka takes the whole of a topic's own settings: the ones that agree are sent again."""
    wanted: dict[str, dict[str, str]] = {}
    for change in changes:
        wanted.setdefault(change.topic, {})[change.setting] = change.wanted
    if not wanted:
        return
    found = await find(wanted, admin)
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, {**found[name].own, **settings})
        for name, settings in wanted.items()
    ]
    for response in await admin.alter_configs(resources):
        for code, message, _, name in response.resources:
            _raise(code, message, f"the settings of {name} cannot be changed")


async def _wait_until_there(partitions: Mapping[str, int], admin: AIOKafkaAdminClient) -> None:
    """Brokers learn of a new topic a moment after the controller has made it."""
    for _ in range(LOOKS):
        if await _are_led(partitions, admin):
            return
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
    raise TopicsError("the new topics have no leaders yet; run the command again")


async def _are_led(partitions: Mapping[str, int], admin: AIOKafkaAdminClient) -> bool:
    there = await _existing(partitions, admin)
    return all(
        name in there
        and len(there[name]["partitions"]) >= wanted
        and all(each["leader"] >= 0 for each in there[name]["partitions"])
        for name, wanted in partitions.items()
    )


def _raise(code: int, message: str | None, what: str) -> None:
    if code:
        error = for_code(code)
        raise TopicsError(f"{what}: {message or error.__name__}")
