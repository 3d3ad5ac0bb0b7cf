"""Each way in which aiokafka stands still in silence, provoked in a real consumer, is noticed."""

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import ConsumerStoppedError, KafkaError, for_code
from aiokafka.partitioner import DefaultPartitioner
from structlog.testing import capture_logs

from outlast.core.errors import WatchdogTripped
from outlast.edges.codec import Encoded
from outlast.edges.kafka import private
from outlast.edges.kafka import watchdog as module
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.clients import Consumer
from outlast.edges.kafka.connection import addresses
from outlast.edges.kafka.watchdog import Watchdog
from tests.kafka.cluster import Place, partitions, place
from tests.kafka.member import until

pytestmark = pytest.mark.kafka

BOUND: Final = 60.0
QUIET_SECONDS: Final = 3.0
FENCED: Final = 82
"""FENCED_INSTANCE_ID, which aiokafka 0.14 does not know by name."""


@dataclass
class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """A consumer of a group, and what the watchdog is told of it: as the assignment tells it."""

    where: Place
    topic: str
    instance: str | None = "host-0"
    revoking: Callable[[], Any] | None = None
    name: str = "test"
    closed_since: float | None = None
    generations: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=8))
    idle: float | None = None
    commits: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(behind_seconds=0.0))
    got: list[Any] = field(default_factory=list)
    lent: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(me=uuid.uuid4().hex))

    async def join(self) -> None:
        self.consumer = Consumer(
            **addresses(self.where.kafka),
            group_id=self.topic,
            group_instance_id=self.instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=300,
            rebalance_timeout_ms=60_000,
            request_timeout_ms=70_000,
            fetch_max_wait_ms=100,
            max_poll_interval_ms=86_400_000,
        )
        self.consumer.subscribe([self.topic], listener=self)
        await self.consumer.start()

    async def on_partitions_revoked(self, revoked: object) -> None:
        self.closed_since = asyncio.get_running_loop().time()
        if self.revoking is not None:
            await self.revoking()

    async def on_partitions_assigned(self, assigned: object) -> None:
        now = asyncio.get_running_loop().time()
        self.closed_since = None
        self.generations.append((now, private.generation(self.consumer)))

    async def ends(self) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = await self.consumer.end_offsets(
            self.consumer.assignment()
        )
        return found

    async def read(self) -> None:
        """As the feed does: only while it has partitions, and whatever comes."""
        while True:
            await asyncio.sleep(0.05)
            if self.closed_since is not None:
                continue
            with contextlib.suppress(KafkaError):
                found = await self.consumer.getmany(timeout_ms=100)
                self.got += [each for several in found.values() for each in several]

    @property
    def watchdog(self) -> Watchdog:
        return Watchdog(
            cast(Assignment, self),
            instance=self.instance,
            generations=self.generations,
            idle_since=lambda: self.idle,
        )

    async def tripped(self) -> str:
        """What the watchdog says in the end."""
        with pytest.raises(WatchdogTripped) as caught:
            await asyncio.wait_for(self.watchdog.run(), BOUND)
        return str(caught.value)

    async def is_left_alone(self) -> bool:
        """Whether the watchdog says nothing for a while."""
        watching = asyncio.create_task(self.watchdog.run())
        done, _ = await asyncio.wait({watching}, timeout=QUIET_SECONDS)
        watching.cancel()
        await asyncio.wait({watching})
        return not done


@dataclass
class Stand:
    """A topic of two partitions, and whoever reads it."""

    where: Place
    topic: str
    members: list[Member] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def member(self, *, reads: bool = True, **named: Any) -> Member:
        one = Member(self.where, self.topic, **named)
        self.members.append(one)
        await one.join()
        if reads:
            self.tasks.append(asyncio.create_task(one.read()))
        return one

    async def write(self, number: int, partition: int) -> None:
        lands = DefaultPartitioner()
        keys = (b"%d" % each for each in range(100))
        key = next(each for each in keys if lands(each, [0, 1], [0, 1]) == partition)
        await self.where.write(*(Encoded(self.topic, key, b"x", []) for _ in range(number)))


@contextlib.asynccontextmanager
async def stand(servers: str) -> AsyncIterator[Stand]:
    async with place(servers) as where:
        topic = f"{where.kafka.prefix}.{uuid.uuid4().hex[:6]}"
        await where.admin.create_topics([NewTopic(topic, 2, 1)])
        here = Stand(where, topic)
        try:
            yield here
        finally:
            for task in here.tasks:
                task.cancel()
            await asyncio.gather(*here.tasks, return_exceptions=True)
            for one in here.members:
                with contextlib.suppress(ConsumerStoppedError, KafkaError):
                    await one.consumer.stop()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same watchdog, with less patience."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(module, "REBALANCE_SECONDS", 1.5)
    monkeypatch.setattr(module, "COMPARE_SECONDS", 0.2)
    monkeypatch.setattr(module, "BEHIND_SECONDS", 1.0)


@pytest.mark.parametrize("task", ["fetcher", "coordinator"])
async def test_a_background_task_that_ended_is_noticed(kafka: str, task: str) -> None:
    async with stand(kafka) as here:
        one = await here.member()
        fetcher, coordinator = one.consumer._fetcher, one.consumer._coordinator
        ended = {"fetcher": fetcher._fetch_task, "coordinator": coordinator._coordination_task}
        ended[task].cancel()

        assert await one.tripped() == f"test: the Kafka client's {task} task has ended"


@pytest.mark.usefixtures("hurried")
async def test_a_rejoin_that_lasts_because_of_another_member_is_noticed(kafka: str) -> None:
    async with stand(kafka) as here:
        one, stays = await here.member(), asyncio.Event()
        other = await here.member(instance="host-1", reads=False)
        other.revoking = stays.wait
        joining = asyncio.create_task(here.member(instance="host-2", reads=False))
        said = await one.tripped()
        stays.set()
        await joining

        assert said == "test: no partitions were assigned within 2 s"


@pytest.mark.usefixtures("hurried")
async def test_who_is_no_member_any_more_and_cannot_find_its_coordinator_is_noticed(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stand(kafka) as here:
        one, found = await here.member(), asyncio.Event()
        coordinator = one.consumer._coordinator
        monkeypatch.setattr(coordinator, "ensure_coordinator_known", found.wait)
        coordinator.reset_generation()
        said = await one.tripped()
        monkeypatch.undo()
        found.set()

        assert said == "test: it has been no member of its group for 2 s"


async def test_an_error_that_nobody_hears_of_no_longer_keeps_a_member_out(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stand(kafka) as here:
        one = await here.member()
        coordinator = one.consumer._coordinator
        rejoin, errors = coordinator._do_rejoin_group, [KafkaError("once")]

        async def fails_once(subscription: object) -> Any:
            if errors:
                raise errors.pop()
            return await rejoin(subscription)

        monkeypatch.setattr(coordinator, "_do_rejoin_group", fails_once)
        coordinator.request_rejoin()
        await until(lambda: coordinator._pending_exception is not None)
        await asyncio.sleep(1.0)
        stood_still = one.closed_since is not None
        with capture_logs() as logs:
            watching = asyncio.create_task(one.watchdog.run())
            await until(lambda: one.closed_since is None)
            watching.cancel()
            await asyncio.wait({watching})

        assert stood_still
        assert [each["event"] for each in logs] == ["feed.coordination_failed"]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("in_its_heartbeat", [True, False])
async def test_a_group_that_answers_with_errors_only_is_noticed(
    kafka: str, monkeypatch: pytest.MonkeyPatch, in_its_heartbeat: bool
) -> None:
    async with stand(kafka) as here:
        one = await here.member(reads=not in_its_heartbeat)

        async def fails(*_: object) -> Any:
            raise KafkaError("InvalidGroupIdError()")

        method = "_do_heartbeat" if in_its_heartbeat else "_do_rejoin_group"
        monkeypatch.setattr(one.consumer._coordinator, method, fails)
        one.consumer._coordinator.request_rejoin()
        said = await one.tripped()
        monkeypatch.undo()

        assert "InvalidGroupIdError()" in said
        assert ("no partitions were assigned" in said) is not in_its_heartbeat


@pytest.mark.usefixtures("hurried")
async def test_who_is_shut_out_by_a_twin_learns_it_before_it_has_failed_for_long(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stand(kafka) as here:
        one = await here.member()

        async def fenced(*_: object) -> Any:
            raise KafkaError(repr(for_code(FENCED)()))  # as aiokafka hands it on

        monkeypatch.setattr(one.consumer._coordinator, "_do_heartbeat", fenced)
        said = await one.tripped()
        monkeypatch.undo()

        assert "the same instance id" in said


@pytest.mark.usefixtures("hurried")
async def test_a_partition_that_is_not_fetched_is_noticed_though_another_is(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stand(kafka) as here:
        one = await here.member()
        [stuck] = partitions(here.topic, [0])
        await here.write(5, 0)
        await here.write(5, 1)
        await until(lambda: len(one.got) == 10)
        fetcher = one.consumer._fetcher
        actions = fetcher._get_actions_per_node

        def without_one(assignment: Any) -> Any:
            rest = SimpleNamespace(tps=assignment.tps - {stuck}, state_value=assignment.state_value)
            return actions(rest)

        monkeypatch.setattr(fetcher, "_get_actions_per_node", without_one)
        await asyncio.sleep(0.5)  # what was asked before is answered
        await here.write(3, 0)
        watching = asyncio.create_task(one.tripped())
        while not watching.done():
            await here.write(1, 1)
            await asyncio.sleep(0.1)

        assert len(one.got) > 10
        assert watching.result() == (
            f"test: {here.topic}/0 was read to offset 5 of 8, and nothing came of it for 1 s"
        )


@pytest.mark.usefixtures("hurried")
async def test_what_came_and_waits_for_room_is_no_trouble_unless_the_feed_asks_for_it(
    kafka: str,
) -> None:
    async with stand(kafka) as here:
        one = await here.member(reads=False)
        await here.write(5, 0)
        await until(lambda: any(private.is_buffered(one.consumer, tp) for tp in tps(one)))

        assert await one.is_left_alone()
        one.idle = asyncio.get_running_loop().time()
        assert "was read to offset 0 of 5" in await one.tripped()


@pytest.mark.usefixtures("hurried")
async def test_who_has_read_everything_is_left_alone(kafka: str) -> None:
    async with stand(kafka) as here:
        one = await here.member()
        await here.write(5, 0)
        await until(lambda: len(one.got) == 5)
        one.idle = asyncio.get_running_loop().time()

        assert await one.is_left_alone()


async def test_commits_that_are_not_acknowledged_are_noticed(kafka: str) -> None:
    async with stand(kafka) as here:
        one = await here.member()
        one.commits.behind_seconds = 61.0

        assert await one.tripped() == "test: no commit was acknowledged for 60 s"


@pytest.mark.parametrize("knows_generations", [True, False])
async def test_of_two_members_of_one_instance_id_one_goes_and_says_why(
    kafka: str, knows_generations: bool
) -> None:
    async with stand(kafka) as here:
        twins = [await here.member(instance="host-7")]
        joining = asyncio.create_task(here.member(instance="host-7"))
        await until(lambda: len(here.members) == 2 and here.members[1].generations)
        twins.append(here.members[1])
        for twin in twins if not knows_generations else ():
            twin.generations = deque(maxlen=0)  # as when each of the joins makes a new one
        watching = [asyncio.create_task(twin.tripped()) for twin in twins]
        gone, stays = await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
        said = gone.pop().result()
        for task in (joining, *stays):
            task.cancel()
        await asyncio.wait({joining, *stays})

        assert "times within 10 s" in said or "the group has shut it out" in said
        assert "the same instance id, 'host-7'" in said
        assert "OUTLAST_INSTANCE_ID" in said


def tps(one: Member) -> list[TopicPartition]:
    return sorted(one.consumer.assignment())
