"""Topics on real Kafka: what is missing is made, what differs is set, nothing is overwritten."""

import asyncio
from dataclasses import replace

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from outlast.core.errors import TopicsError
from outlast.core.policy import Catalogue, Limits
from outlast.edges.kafka import topics
from outlast.edges.kafka.clients import Consumer
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.topic_plan import table
from tests.kafka.cluster import CATALOGUE, Place, partitions, place

pytestmark = pytest.mark.kafka


async def set_settings(where: Place, topic: str, settings: dict[str, str]) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, settings)
    [response] = await where.admin.alter_configs([resource])
    assert response.resources[0][0] == 0


def concurrency(permits: int) -> Catalogue:
    provider = replace(CATALOGUE.providers["local"], limits=Limits(concurrency=permits))
    return replace(CATALOGUE, providers={"local": provider})


async def test_apply_makes_kafka_agree_with_the_table(kafka: str) -> None:
    async with place(kafka, topic_partitions={"parked": 5}, max_body_bytes=2_000_000) as where:
        wanted = table(where.kafka, where.catalogue)
        assert len((await where.plan()).creations) == len(wanted)

        await where.apply()

        assert not (await where.plan()).differs
        found = await topics.find([topic.name for topic in wanted], where.admin)
        for topic in wanted:
            settings = topic.settings(max_body_bytes=2_000_000, min_insync_replicas=1)
            assert settings.items() <= found[topic.name].settings.items()
        counts = {n.removeprefix(f"{where.kafka.prefix}."): f.partitions for n, f in found.items()}
        assert counts["jobs"] == counts["retry.5s"] == counts["vitals"] == 3
        assert counts["work.local"] == 3  # no more than the pool has permits
        assert counts["parked"] == 5
        assert counts["control"] == counts["health"] == counts["lent"] == 1


async def test_every_group_begins_at_offset_0(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()

        reads = Groups(where.kafka.prefix).reads(where.topics, where.catalogue.providers)
        for group, names in reads.items():
            for name in names:
                assert await where.committed(group, name) == {0: 0, 1: 0, 2: 0}


async def test_a_commit_that_is_there_is_never_overwritten(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        group, jobs = Groups(where.kafka.prefix).route, where.topics.jobs
        await where.commit(group, {TopicPartition(jobs, 1): (7, "o1.note")})
        grown = replace(where, kafka=replace(where.kafka, topic_partitions={"jobs": 5}))

        done = await grown.apply()

        assert [str(each) for each in done.growths] == [f"grow {jobs}: 3 → 5 partitions"]
        assert await where.committed(group, jobs) == {0: 0, 1: 7, 2: 0, 3: 0, 4: 0}
        [kept] = (
            await where.admin.list_consumer_group_offsets(group, partitions=partitions(jobs, [1]))
        ).values()
        assert kept.metadata == "o1.note"
        assert not (await grown.plan()).differs


async def test_a_setting_that_differs_is_set_and_the_others_stay(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        jobs = where.topics.jobs
        own = (await topics.find([jobs], where.admin))[jobs].own
        await set_settings(where, jobs, {**own, "retention.ms": "1000", "segment.bytes": "1048576"})
        async with asyncio.timeout(10):
            while not (planned := await where.plan()).differs:
                await asyncio.sleep(0.05)  # the broker tells of it a moment later

        await where.apply()

        assert [str(each) for each in planned.changes] == [
            f"set retention.ms of {jobs}: 1000 → 604800000"
        ]
        assert not (await where.plan()).differs
        assert (await topics.find([jobs], where.admin))[jobs].own == {
            **own,
            "segment.bytes": "1048576",  # an operator's own setting
        }


async def test_topics_of_others_are_let_be(kafka: str) -> None:
    async with place(kafka) as where:
        other = f"{where.kafka.prefix}.other"
        await where.admin.create_topics([NewTopic(other, 1, 1)])

        await where.apply()

        assert other in await where.admin.list_topics()


async def test_two_applies_at_once_both_succeed(kafka: str) -> None:
    async with place(kafka) as where:
        await asyncio.gather(where.apply(), where.apply())

        assert not (await where.plan()).differs


@pytest.mark.parametrize("step", ["plan", "apply"])
async def test_a_pool_with_fewer_permits_than_partitions_is_refused(kafka: str, step: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        starved = replace(where, catalogue=concurrency(2))

        with pytest.raises(
            TopicsError, match=r"concurrency is 2, but .* has 3 partitions"
        ) as caught:
            await getattr(starved, step)()

        assert caught.value.exit_code == 2
        with pytest.raises(TopicsError, match="concurrency is 2"):
            await topics.check_pools(where.kafka, starved.catalogue, where.admin)


async def test_more_permits_than_partitions_change_nothing(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()

        assert not (await replace(where, catalogue=concurrency(500)).plan()).differs


async def test_what_the_broker_refuses_is_raised(kafka: str) -> None:
    async with place(kafka) as where:
        impossible = replace(where, cluster=replace(where.cluster, brokers=3))

        with pytest.raises(TopicsError, match=r"cannot be created: .*replication factor"):
            await impossible.apply()


async def test_a_group_at_work_begins_its_new_partitions_by_itself(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        group, jobs = Groups(where.kafka.prefix).route, where.topics.jobs
        member = Consumer(jobs, bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
        await member.start()
        try:
            grown = replace(where, kafka=replace(where.kafka, topic_partitions={"jobs": 4}))
            done = await grown.apply()
        finally:
            await member.stop()

        assert any(note.startswith(f"{group} is at work") for note in done.notes)
        assert await where.committed(group, jobs) == {0: 0, 1: 0, 2: 0}


async def test_check_names_what_is_missing_and_the_command_that_mends_it(kafka: str) -> None:
    async with place(kafka) as where:
        needed = [where.topics.jobs, where.topics.parked]
        with pytest.raises(TopicsError, match="outlast topics apply") as caught:
            await topics.check(where.kafka, needed, where.admin)
        assert all(name in str(caught.value) for name in needed)
        assert not set(needed) & set(await where.admin.list_topics())  # asking makes none

        await where.apply()

        await topics.check(where.kafka, needed, where.admin)


async def test_a_pool_whose_provider_is_gone_from_the_configuration_is_named(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        without = replace(where, catalogue=replace(where.catalogue, providers={}))

        notes = [note for note in (await without.plan()).notes if "work.local" in note]
        assert len(notes) == 1
        assert "no provider 'local' is configured" in notes[0]
        assert not any("work.local" in note for note in (await where.plan()).notes)
