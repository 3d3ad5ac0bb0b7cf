"""The outbox on three brokers: denied, frozen and killed ones cost time, and never a record."""

import asyncio
import contextlib
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest
from structlog.testing import capture_logs

from deploy.kafka.broker import Broker, free_port
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Encoded
from outlast.edges.kafka import private, producers
from outlast.edges.kafka.connection import producer
from outlast.edges.kafka.outbox import Outbox
from outlast.edges.kafka.scan import from_the_first, scan
from outlast.edges.settings import Kafka
from tests.kafka import secured
from tests.kafka.brokers import passing
from tests.kafka.cluster import Place, partitions, place
from tests.kafka.member import until

pytestmark = pytest.mark.kafka

BOUND: Final = 60.0
TOPIC, LITERAL, WRITE, DENY = 2, 3, 4, 2
AUTHORIZER: Final = (
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
    "allow.everyone.if.no.acl.found=true\n"
    "super.users=User:ANONYMOUS\n"
)


class Guarded(Broker):
    """A broker that knows who may do what; without a rule, everybody may do everything."""

    def _wanted(self, node: int) -> str:
        return super()._wanted(node) + AUTHORIZER


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[secured.Fortress]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(secured, "Broker", Guarded)
        with secured.fortress(tmp_path_factory.mktemp("guarded")) as one:
            yield one


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with passing(tmp_path_factory.mktemp("three"), port=free_port(count=6), nodes=3) as three:
        yield three


@dataclass
class Desk:
    """An outbox, and what its test may do to the cluster."""

    where: Place
    brokers: Broker
    outbox: Outbox
    built: list[AIOKafkaProducer] = field(default_factory=list)

    def topic(self, name: str) -> str:
        return f"{self.where.kafka.prefix}.{name}"

    def records(self, name: str, number: int) -> list[Encoded]:
        values = [b"%d" % each for each in range(number)]
        return [Encoded(self.topic(name), value, value, []) for value in values]

    def writing(self, name: str, number: int = 50) -> "asyncio.Future[list[None]]":
        return asyncio.gather(*map(self.outbox.write, self.records(name, number)))

    async def create(self, name: str, **configs: str) -> None:
        await self.where.admin.create_topics(
            [NewTopic(self.topic(name), 3, len(self.brokers.nodes), topic_configs=configs)]
        )

    async def configure(self, name: str, **configs: str) -> None:
        named = {each.replace("_", "."): value for each, value in configs.items()}
        resource = ConfigResource(ConfigResourceType.TOPIC, self.topic(name), configs=named)
        await self.where.admin.alter_configs([resource])

    async def deny(self, name: str, *, denied: bool = True) -> None:
        rule = (TOPIC, self.topic(name), LITERAL, f"User:{secured.USER}", "*", WRITE, DENY)
        request = CreateAclsRequest(*rule) if denied else DeleteAclsRequest(*rule)
        await self.where.admin._send_to_controller(request)
        async with asyncio.timeout(BOUND):  # the broker hears of it a moment later
            while bool(await self._rules(rule)) is not denied:
                await asyncio.sleep(0.05)

    async def _rules(self, rule: Sequence[Any]) -> Sequence[Any]:
        answer = await self.where.admin._send_request(DescribeAclsRequest(*rule))
        found: Sequence[Any] = answer.resources
        return found

    async def counted(self, name: str) -> Counter[bytes]:
        first = from_the_first(partitions(self.topic(name), range(3)))
        return Counter([each.value async for each in scan(self.where.kafka, first)])

    async def leader(self, name: str, partition: int = 0) -> int:
        about = await private.metadata(self.where.admin, [self.topic(name)])
        found = {each["partition"]: each["leader"] for each in about["topics"][0]["partitions"]}
        return int(found[partition])

    async def key_elsewhere(self, name: str, node: int) -> bytes:
        """A key of a partition that another node leads."""
        for number in range(100):
            found = self.built[-1]._partition(
                self.topic(name), None, b"%d" % number, None, b"%d" % number, None
            )
            if await self.leader(name, found) != node:
                return b"%d" % number
        raise AssertionError(f"node {node} leads all of {name}")

    def freeze(self, *nodes: int) -> None:
        for node in nodes:
            os.kill(self.brokers.pids[node], signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.brokers.pids.values():
            os.kill(pid, signal.SIGCONT)

    async def thawed(self) -> None:
        self.thaw()
        await asyncio.to_thread(self.brokers.start)  # when all of them answer


@contextlib.asynccontextmanager
async def desk(brokers: Broker, written_as: Kafka | None = None) -> AsyncIterator[Desk]:
    async with place(brokers.bootstrap_servers) as where:
        built = list[AIOKafkaProducer]()

        def build() -> AIOKafkaProducer:
            built.append(producer(written_as or where.kafka))
            return built[-1]

        outbox = Outbox(
            build, where.codec, BrokerClock(), largest=1_000_000, too_large=lambda _: []
        )
        await outbox.start()
        here = Desk(where, brokers, outbox, built)
        try:
            yield here
        finally:
            here.thaw()
            await outbox.stop()


async def test_what_a_rule_forbids_to_write_waits_until_it_is_allowed(
    guarded: secured.Fortress,
) -> None:
    way = "SASL_PLAINTEXT SCRAM-SHA-512"
    alice = Kafka(bootstrap_servers=guarded.servers("SASL_PLAINTEXT"), **guarded.settings(way))
    async with desk(guarded.broker, alice) as here:
        await here.create("letters")
        await here.create("results")
        await asyncio.wait_for(here.writing("letters", 1), BOUND)
        await here.deny("letters")
        first, second = here.records("letters", 1)[0], here.records("results", 1)[0]
        with capture_logs() as logs:
            pair = asyncio.create_task(in_turn(here.outbox, first, second))
            await until(lambda: here.outbox.is_blocked)
            for _ in range(3):
                await asyncio.wait_for(here.writing("results", 10), BOUND)
            await until(lambda: told(logs, "outbox.not_taken"))
            assert not pair.done()
            await here.deny("letters", denied=False)
            await asyncio.wait_for(pair, BOUND)

        assert await here.counted("letters") == {b"0": 2}
        assert await here.counted("results") == {b"0": 4} | {b"%d" % n: 3 for n in range(1, 10)}
        # refused when it is sent, and after that the new producer is not told of the topic
        for event in ("outbox.refused", "outbox.not_taken"):
            assert {each["error"] for each in told(logs, event)} == {
                "TopicAuthorizationFailedError"
            }
        assert not here.outbox.is_blocked


@pytest.mark.chaos
async def test_what_waits_in_a_broken_producer_is_awaited_there_and_not_written_twice(
    brokers: Broker,
) -> None:
    async with desk(brokers) as here:
        await here.create("slow")
        await here.create("tiny", **{"max.message.bytes": "1000"})
        for name in ("slow", "tiny"):
            await asyncio.wait_for(here.writing(name, 9), BOUND)
        node = await here.leader("slow")
        key = await here.key_elsewhere("tiny", node)
        here.freeze(node)
        waiting = here.writing("slow", 90)
        large = Encoded(here.topic("tiny"), key, noise(2_000), [])
        refused = asyncio.create_task(here.outbox.write(large))
        await until(lambda: len(here.built) >= 2)  # the refused record has broken the first
        assert not waiting.done()
        await here.thawed()
        # Only now: a producer that begins may ask the frozen one, for longer than it stays leader.
        await until(lambda: len(here.built) >= 3, BOUND)
        await here.configure("tiny", max_message_bytes="10000")
        await asyncio.wait_for(waiting, BOUND)
        await asyncio.wait_for(refused, BOUND)

        assert set((await here.counted("slow")).values()) == {1, 2}  # nine were written before
        assert (await here.counted("slow")).total() == 99
        await until(lambda: all(map(is_gone, here.built[:-1])), BOUND)


async def test_a_rebuild_that_hangs_on_frozen_brokers_is_said_and_ends_when_they_answer(
    brokers: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producers, "REBUILD_SECONDS", 0.5)
    async with desk(brokers) as here:
        await here.create("tiny", **{"max.message.bytes": "1000"})
        await here.create("wide")
        await asyncio.wait_for(here.writing("wide", 9), BOUND)
        large = Encoded(here.topic("tiny"), b"k", noise(2_000), [])
        with capture_logs() as logs:
            freezing = frozen_when_refused(here)
            refused = asyncio.create_task(here.outbox.write(large))
            await until(lambda: told(logs, "outbox.rebuilds_slowly"), BOUND)
            await here.thawed()
            await freezing
            await here.configure("tiny", max_message_bytes="10000")
            await asyncio.wait_for(refused, BOUND)
            await asyncio.wait_for(here.writing("wide", 9), BOUND)

        assert not told(logs, "outbox.not_rebuilt")
        assert await here.counted("tiny") == {large.value: 1}
        assert set((await here.counted("wide")).values()) == {2}
        await until(lambda: all(map(is_gone, here.built[:-1])), BOUND)


@pytest.mark.chaos
async def test_with_two_of_three_brokers_dead_it_is_blocked_and_then_goes_on_by_itself(
    brokers: Broker,
) -> None:
    async with desk(brokers) as here:
        await here.create("wide")
        await asyncio.wait_for(here.writing("wide", 9), BOUND)
        with capture_logs() as logs:
            for node in (2, 3):
                await asyncio.to_thread(brokers.kill, node)
            waiting = here.writing("wide", 300)
            await until(lambda: told(logs, "outbox.slow"), BOUND)
            assert here.outbox.is_blocked
            assert not waiting.done()
            await asyncio.to_thread(brokers.start)
            await asyncio.wait_for(waiting, BOUND)
            await until(lambda: told(logs, "outbox.goes_on"), BOUND)

        counted = await here.counted("wide")
        assert (len(counted), counted.total()) == (300, 309)
        assert not here.outbox.is_blocked
        assert [each["topic"] for each in told(logs, "outbox.slow")] == [here.topic("wide")]


def told(logs: Sequence[Any], event: str) -> list[Any]:
    return [each for each in logs if each["event"] == event]


async def in_turn(outbox: Outbox, *records: Encoded) -> None:
    for record in records:
        await outbox.write(record)


def frozen_when_refused(here: Desk) -> "asyncio.Task[None]":
    """Freeze all brokers in the moment in which a new producer is made."""

    async def freeze() -> None:
        while len(here.built) < 2:
            await asyncio.sleep(0)
        here.freeze(*here.brokers.nodes)

    return asyncio.create_task(freeze())


def noise(size: int) -> bytes:
    """Bytes that no compression makes smaller."""
    return b"".join(uuid.uuid4().bytes for _ in range(size // 16))


def is_gone(producer: AIOKafkaProducer) -> bool:
    """Whether nothing is left of it: no task, no connection."""
    sender, client = producer._sender.sender_task, producer.client
    is_idle = (sender is None or sender.done()) and client._sync_task is None
    return is_idle and not any(each.connected() for each in client._conns.values())
