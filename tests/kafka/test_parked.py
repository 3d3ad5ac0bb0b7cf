"""For whom parked jobs wait, told from real records and real commits, and read once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from outlast.core.lifecycle import Hop
from outlast.core.overview import Parked
from outlast.core.progress import Progress, encode
from outlast.edges.codec import Encoded
from outlast.edges.kafka import parked as module
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.parked import ParkedJobs
from tests.core.given import CATALOGUE, a_job
from tests.kafka.cluster import Place, place

pytestmark = pytest.mark.kafka

WEST = ("outlast-scope", b"openai,anthropic")


@asynccontextmanager
async def a_place(servers: str) -> AsyncIterator[Place]:
    """One partition of parked jobs, and a fleet of four."""
    async with place(servers, topic_partitions={"parked": 1}) as where:
        where = replace(where, catalogue=CATALOGUE)
        await where.apply()
        yield where


def on(where: Place) -> TopicPartition:
    return TopicPartition(where.topics.parked, 0)


async def park(where: Place, *headers: tuple[str, bytes | None], **state: Any) -> None:
    await where.write(Hop(where.topics.parked, a_job(*headers, **state)))


async def are_done(where: Place, progress: Progress) -> None:
    commit = (progress.low, encode(progress))
    await where.commit(Groups(where.kafka.prefix).park, {on(where): commit})


def looking(where: Place, most: int = 100) -> ParkedJobs:
    return ParkedJobs(where.kafka, where.admin, where.catalogue, most)


async def test_a_job_waits_for_the_first_that_may_and_can_take_it(kafka: str) -> None:
    async with a_place(kafka) as where:
        nothing = await looking(where).look()
        await park(where)
        await park(where, avoid={"deepseek": 1 << 50})  # it would go there, were it up
        await park(where, WEST)
        await park(where, ("outlast-operation", b"embeddings"))
        await park(where, route="west")  # by the route's own scope
        await park(where, route="local/tiny")
        await park(where, route="gone")
        await park(where, ("outlast-scope", b"nobody"))
        topic = where.topics.parked
        await where.write(Encoded(topic, b"k", b"x", [("outlast-state", b"[]")]))
        await where.write(Encoded(topic, b"k", b"x", []))

        found = await looking(where).look()

    assert nothing == Parked({})
    assert found == Parked({"deepseek": 2, "openai": 3, "local": 1})


async def test_what_is_done_is_not_counted_and_what_was_read_is_not_read_again(kafka: str) -> None:
    async with a_place(kafka) as where:
        jobs = looking(where)
        for _ in range(4):
            await park(where)
            await park(where, WEST)
        await are_done(where, Progress(1, 4, (1, 3)))  # 0 and 2 are done
        first = await jobs.look()
        # Nobody can read these any more; that they are still counted shows that nobody did.
        await where.admin.delete_records({on(where): RecordsToDelete(6)})
        await park(where)
        second = await jobs.look()
        await are_done(where, Progress(3, 7, (3, 5)))
        third = await jobs.look()
        await are_done(where, Progress(9, 9))
        fourth = await jobs.look()

    assert first == Parked({"deepseek": 2, "openai": 4})
    assert second == Parked({"deepseek": 3, "openai": 4})
    assert third == Parked({"deepseek": 1, "openai": 3})
    assert fourth == Parked({})


async def test_more_than_it_remembers_is_said_and_read_when_there_is_room(kafka: str) -> None:
    async with a_place(kafka) as where:
        jobs = looking(where, most=3)
        for _ in range(5):
            await park(where)
        first, again = await jobs.look(), await jobs.look()
        await are_done(where, Progress(2, 2))
        second = await jobs.look()

    assert first == again == Parked({"deepseek": 3}, is_all=False)
    assert second == Parked({"deepseek": 3})


async def test_what_takes_too_long_is_read_at_the_next_look(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_place(kafka) as where:
        jobs = looking(where)
        await park(where)
        with monkeypatch.context() as patch:
            patch.setattr(module, "MOST_SECONDS", -1.0)
            first = await jobs.look()
        second = await jobs.look()

    assert (first, second) == (Parked({}, is_all=False), Parked({"deepseek": 1}))


async def test_a_group_that_was_set_back_is_read_again(kafka: str) -> None:
    async with a_place(kafka) as where:
        jobs = looking(where)
        for _ in range(3):
            await park(where)
        await are_done(where, Progress(2, 2))
        first = await jobs.look()
        await are_done(where, Progress(1, 1))
        second = await jobs.look()

    assert (first, second) == (Parked({"deepseek": 1}), Parked({"deepseek": 2}))


async def test_a_commit_of_somebody_else_is_taken_by_its_offset(kafka: str) -> None:
    async with a_place(kafka) as where:
        for _ in range(3):
            await park(where)
        group = Groups(where.kafka.prefix).park
        await where.commit(group, {on(where): (1, "no metadata of ours")})

        assert await looking(where).look() == Parked({"deepseek": 2})
