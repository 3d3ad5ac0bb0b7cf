"""Topics that refuse, forget or are made anew: waited for, counted and told, never passed over."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from deploy.kafka.broker import Broker, free_port
from outlast.drill.conservation import Account, Allowance, Rule
from outlast.edges.kafka.connection import admin
from outlast.edges.kafka.scan import from_the_first, scan
from tests.kafka.chaos.faults_b import (
    Access,
    Guarded,
    Settings,
    as_user,
    conserved,
    events,
    has_logged,
    launch,
    named,
)
from tests.kafka.chaos.fleet import Fleet, fleet
from tests.kafka.chaos.scenario import Scenario
from tests.kafka.secured import PASSWORD, USER, _write_files, unsigned_token

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]

WORK: Final = ("work", "--provider", "deepseek")
PARTITIONS: Final = 6
QUIET_SECONDS: Final = 8.0
"""Longer than the steps in which a refused write is tried again."""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[str, Guarded]]:
    """One broker with a user for the workers."""
    _write_files(tmp_path, unsigned_token())
    port = free_port(24092, count=5)
    secured = Guarded(
        port=port + 2,
        keystore=tmp_path / "broker.pem",
        truststore=tmp_path / "ca.pem",
        users={USER: PASSWORD},
    )
    with Broker(tmp_path / "kafka", port=port, secured=secured) as broker:
        yield broker.bootstrap_servers, secured


async def refused(here: Fleet, how: type[Settings] | type[Access]) -> Account:
    """Dead letters of both stages that write some are refused for a while."""
    route, worker = [*await here.stages("route"), await here.worker("w0")]
    await worker.ready()
    await how.refuse(here)

    rejected = await named(here, *(f"REJECT ME {number}" for number in range(5)))
    await has_logged(worker, "outbox.refused")
    await here.publisher.some(20)
    await here.until_deep(here.topics.work("deepseek"), 25)
    await named(here, "nowhere", route="no-such-route")
    await has_logged(route, "outbox.refused")
    await here.publisher.some(20)
    await asyncio.sleep(QUIET_SECONDS)
    calls = Counter(call.job for call in here.calls)
    await how.mend(here)
    lost = await here.settle(30)
    account = await conserved(here, Allowance())

    assert calls, "no rejected job was called"
    assert calls <= Counter(rejected), "something new was taken, or a call made again"
    assert not lost, here.tails()
    assert account.holds, account.lines()
    assert account.ended == {"succeeded": 40, "dead_lettered": 6}
    assert account.repeats == account.extra_calls == 0
    assert route.exit_code is worker.exit_code is None
    return account


async def test_dead_letters_refused_for_their_size_wait(scenario: Scenario) -> None:
    async with fleet(scenario.directory, scenario.cluster.bootstrap_servers) as here:
        scenario.accounted(await refused(here, Settings))


async def test_dead_letters_that_a_rule_forbids_wait(
    scenario: Scenario, guarded: tuple[str, Guarded]
) -> None:
    servers, secured = guarded
    async with fleet(scenario.directory, servers) as here:
        as_user(here, secured)
        scenario.accounted(await refused(here, Access))


async def pending(here: Fleet, topic: str) -> dict[TopicPartition, dict[int, str]]:
    """The records of a topic, by offset, with their job."""
    client = admin(here.kafka)
    starts = from_the_first([TopicPartition(topic, number) for number in range(PARTITIONS)])
    found: dict[TopicPartition, dict[int, str]] = {tp: {} for tp in starts}
    async for record in scan(here.kafka, starts):
        job = (dict(record.headers).get("ce_id") or b"").decode()
        found[TopicPartition(record.topic, record.partition)][record.offset] = job
    await client.close()
    return found


def half_of_unread(jobs: dict[int, str], served: set[str]) -> list[int]:
    """The lower half of the offsets that nobody has read."""
    unread = sorted(offset for offset, job in jobs.items() if job not in served)
    return unread[: len(unread) // 2]


async def delete_before(here: Fleet, offsets: dict[TopicPartition, int]) -> None:
    """As retention does."""
    client = admin(here.kafka)
    await client.start()
    try:
        await client.delete_records({tp: RecordsToDelete(at) for tp, at in offsets.items()})
    finally:
        await client.close()


@pytest.mark.parametrize("stage", ["route", "work"])
async def test_unread_records_that_retention_deletes_are_counted_as_lost(
    scenario: Scenario, stage: str
) -> None:
    async with scenario.fleet("route", partitions=PARTITIONS) as here:
        worker = await (await here.worker("w0")).ready()
        await here.publisher.some(60)
        assert not await here.settle(30)
        victim = worker if stage == "work" else next(iter(here.processes))
        topic = here.topics.work("deepseek") if stage == "work" else here.topics.jobs
        served = set(here.acked)

        await victim.stop()
        await here.publisher.some(60)
        await here.until_deep(topic, 60)
        there = await pending(here, topic)
        unread = {
            tp: sorted(o for o, j in each.items() if j not in served) for tp, each in there.items()
        }
        gone = {tp: offsets[: len(offsets) // 2] for tp, offsets in unread.items()}
        doomed = {there[tp][offset] for tp, offsets in gone.items() for offset in offsets}
        await delete_before(here, {tp: each[-1] + 1 for tp, each in gone.items() if each})
        heir = await (await launch(here, "heir", *(WORK if stage == "work" else (stage,)))).ready()
        lost = await here.settle(20)
        told = sum(each["count"] for each in events(heir, "feed.records_lost"))
        account = scenario.accounted(await conserved(here, Allowance()))

    assert doomed
    assert lost == doomed
    assert told == len(doomed)
    named_lost = {each.job_id for each in account.offenders if each.rule is Rule.LOST}
    assert named_lost == doomed
    assert len(account.offenders) == len(doomed), account.lines()


async def make_anew(here: Fleet, topic: str) -> None:
    """Delete it, and make it again, empty."""
    client = admin(here.kafka)
    await client.start()
    try:
        await client.delete_topics([topic])
        async with asyncio.timeout(30):
            while topic in await client.list_topics():
                await asyncio.sleep(0.1)
    finally:
        await client.close()
    code, out, err = await here.outlast("topics", "apply")
    assert code == 0, out + err


@pytest.mark.parametrize("jobs", [5, 200])
async def test_a_topic_made_anew_under_a_live_worker(scenario: Scenario, jobs: int) -> None:
    """Whether the new one stays shorter than what was done of the old one, or outgrows it."""
    async with scenario.fleet("route", partitions=PARTITIONS) as here:
        worker = await (await here.worker("w0")).ready()
        await here.publisher.some(60)
        assert not await here.settle(30)

        await make_anew(here, here.topics.work("deepseek"))
        await here.publisher.some(jobs)
        lost = await here.settle(40)
        account = scenario.accounted(await conserved(here, Allowance()))
        told = events(worker, "feed.log_began_anew")

    assert not lost, worker.log.read_text()
    assert account.holds, account.lines()
    assert told


async def test_a_topic_made_anew_while_its_worker_is_down(scenario: Scenario) -> None:
    async with scenario.fleet("route", partitions=PARTITIONS) as here:
        worker = await (await here.worker("w0")).ready()
        await here.publisher.some(60)
        assert not await here.settle(30)

        assert await worker.stop() == 0
        await make_anew(here, here.topics.work("deepseek"))
        await here.publisher.some(80)
        await here.until_deep(here.topics.work("deepseek"), 80)
        await (await here.worker("w0")).ready()
        lost = await here.settle(30)
        account = scenario.accounted(await conserved(here, Allowance()))

    assert not lost
    assert account.holds, account.lines()
