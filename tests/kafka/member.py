"""One member of a group with its feed, in this process: joins, works, leaves or dies."""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import RequestTimedOutError

from outlast.core.errors import Released
from outlast.core.lifecycle import Hop
from outlast.core.progress import Progress, Start, decode
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Encoded
from outlast.edges.kafka import private
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.clients import Consumer, Producer
from outlast.edges.kafka.connection import groupless_consumer
from outlast.edges.kafka.feed import Feed
from outlast.edges.kafka.lending import Lending
from outlast.edges.kafka.lent import Lent
from outlast.edges.kafka.loading import BeginAt
from outlast.edges.kafka.membership import Membership
from outlast.edges.kafka.moves import Onward, SendAll, nowhere
from outlast.edges.kafka.publish import Publisher
from outlast.edges.kafka.quarantine import Quarantine
from outlast.edges.kafka.room import Room
from outlast.edges.kafka.starts import Starts
from outlast.edges.kafka.subscribers import Subscriber, connected_broker, feed_subscriber
from outlast.edges.process import Moving
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job
from tests.core.given import a_job
from tests.kafka.cluster import Place, place

BOUND_SECONDS = "OUTLAST_TESTS_BOUND"
BOUND = float(os.environ.get(BOUND_SECONDS, "30"))
"""So many seconds a state may take to come; less where it is known that it will not."""
FAILS_WITHIN = 10.0


async def until(holds: Callable[[], object], seconds: float = BOUND) -> None:
    """Wait for a state, with a bound."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


class Stage:
    """What a test lets happen to jobs: each is held until it is let go, or told to raise."""

    starts: Starts
    """Of the member that runs it."""

    def __init__(self, *, open: bool = False) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.released: set[str] = set()
        self.raises: dict[str, Exception] = {}
        self.raises_always: Exception | None = None
        self._all = open
        self._gates: dict[str, asyncio.Event] = {}

    async def __call__(self, job: Job) -> None:
        self.started.append(job.id)
        if error := self.raises_always or self.raises.get(job.id):
            raise error
        gate = self._gates.setdefault(job.id, asyncio.Event())
        if not self._all:
            await gate.wait()
        if job.id in self.released:
            raise Released
        self.ended.append(job.id)

    @property
    def running(self) -> set[str]:
        return set(self.started) - set(self.ended)

    def let_go(self, *jobs: str) -> None:
        """These may end; without names all may, now and later."""
        self._all = self._all or not jobs
        for job in jobs or tuple(self._gates):
            self._gates.setdefault(job, asyncio.Event()).set()

    def release(self, job: str) -> None:
        """Its stage gives it up."""
        self.released.add(job)
        self.let_go(job)


class Waits(Stage):
    """Each job rests until there is a permit for it; only then it has started."""

    def __init__(self, *, open: bool = False) -> None:
        super().__init__(open=open)
        self.waiting: set[str] = set()
        self.gave_up: list[str] = []
        self._permits: dict[str, asyncio.Event] = {}

    async def __call__(self, job: Job) -> None:
        permit = self._permits.setdefault(job.id, asyncio.Event())
        self.waiting.add(job.id)
        try:
            async with self.starts.resting(job):
                await permit.wait()
        except Released:
            self.gave_up.append(job.id)
            raise
        finally:
            self.waiting.discard(job.id)
        await super().__call__(job)

    def permit(self, job: str) -> None:
        """It need not wait any longer."""
        self._permits.setdefault(job, asyncio.Event()).set()


class Commits:
    """Stands between the members and the broker: commits pass, fail, or hang."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They pass at first."""
        self.failing = False
        self.tried = 0
        self._passing = 0
        self._may_pass = asyncio.Event()
        self._may_pass.set()
        self._real = private.commit
        monkeypatch.setattr(private, "commit", self._commit)

    async def _commit(self, consumer: AIOKafkaConsumer, offsets: Any) -> None:
        self.tried += 1
        if self.failing:
            raise RequestTimedOutError
        self._passing -= 1
        if self._passing < 0 and not self._may_pass.is_set():
            await self._may_pass.wait()
        await self._real(consumer, offsets)

    def hang(self, *, after: int = 0) -> None:
        """None is sent from now on, except so many more."""
        self._passing = after
        self._may_pass.clear()

    def go_on(self) -> None:
        """What hangs or would fail passes."""
        self.failing = False
        self._may_pass.set()


class Member:
    """A process's worth of one feed; ``topic`` is read by the group of the same name."""

    def __init__(
        self,
        where: Place,
        topic: str,
        stage: Callable[[Job], Any],
        *,
        instance: str = "host-0",
        begin_at: BeginAt | None = None,
        room: int = 10_000,
        rest_takes_room: bool = True,
        fetches_all_first: bool = False,
        quarantine: Quarantine | None = None,
        most_seconds: float = 660.0,
        onward: Onward = nowhere,
        send_all: SendAll | None = None,
    ) -> None:
        self.set_aside: list[tuple[str, Reason]] = []
        self.instance = instance
        self._where, self._topic = where, topic
        self.clock = BrokerClock()
        self.may_start = True
        self.is_writing = False
        self.membership = Membership(f"{instance}.{uuid.uuid4().hex[:8]}")
        self._fetches_all_first = fetches_all_first
        self.lending = Lending(
            where.topics.lent,
            lambda: groupless_consumer(where.kafka, where.topics.lent),
            self._tell,
        )
        self.quarantine = quarantine or Quarantine()
        self.assignment = Assignment(
            name="test",
            consumer=self._consumer,
            clock=self.clock,
            begin_at=begin_at,
            lent=Lent(self.membership, self.lending, most_seconds=most_seconds),
        )
        self.starts = Starts(self.assignment, self.quarantine)
        if isinstance(stage, Stage):
            stage.starts = self.starts
        self.feed = Feed(
            name="test",
            assignment=self.assignment,
            codec=where.codec,
            stage=stage,
            set_aside=self._aside,
            room=Room(lambda: room + (0 if rest_takes_room else self.starts.at_rest)),
            may_start=lambda: self.may_start,
            is_writing=lambda task: self.is_writing,
            starts=self.starts,
            onward=onward,
            send_all=send_all or _unused,
        )
        self.quarantine.watch(self.feed.wake)
        self._subscriber: Subscriber | None = None
        self._notes = Publisher(where.kafka)
        self._tasks: list[asyncio.Task[None]] = []

    def _consumer(self) -> AIOKafkaConsumer:
        if self._subscriber is None:
            raise RuntimeError("it has not joined")
        return self._subscriber.consumer

    async def _tell(self, note: Encoded) -> None:
        await self._notes.publish(note, "note")

    async def _aside(self, job: Job, reason: Reason, detail: str) -> None:
        self.set_aside.append((job.id, reason))

    @property
    def borrowed(self) -> int:
        """How many records of its partitions others run."""
        return self.assignment.records.borrowed

    def start(self, offset: int, partition: int = 0) -> Start:
        """What it knows of the work on a record."""
        return self.assignment.records.start(TopicPartition(self._topic, partition), offset)

    @property
    def owned(self) -> set[int]:
        """The partitions that may admit more."""
        return {tp.partition for tp in self.assignment.open_partitions()}

    async def join(self) -> None:
        """Returns with the first assignment, which may be of nothing, and works from then on."""
        self._broker = await connected_broker(self._where.kafka)
        self._subscriber = feed_subscriber(
            self._broker,
            self._where.kafka,
            (self._topic,),
            group=self._topic,
            instance=self.instance,
            listener=self.assignment,
            membership=self.membership,
        )
        await self.lending.start()
        self.listen()
        await self._subscriber.start()
        await until(lambda: self.assignment.generations or self.assignment.fatal)
        if self._fetches_all_first:
            owned, consumer = self.assignment.owned, self.assignment.consumer
            await until(lambda: all(consumer.highwater(tp) is not None for tp in owned))
        self._tasks = [
            asyncio.create_task(each)
            for each in (
                self.feed.run(),
                self.assignment.commits.run(),
                self.assignment.lent.run(self._consumer),
                self.lending.tell_all(),
            )
        ]

    def listen(self) -> None:
        """Read what others tell."""
        self._reading = asyncio.create_task(self.lending.read())

    def stop_listening(self) -> None:
        """What others tell from now on is read later."""
        self._reading.cancel()

    async def failure(self) -> BaseException | None:
        """Why the feed ended by itself; nothing when it did not in time."""
        done, _ = await asyncio.wait({self._tasks[0]}, timeout=FAILS_WITHIN)
        return self._tasks[0].exception() if done else None

    async def leave(self, drain_seconds: float = BOUND) -> int:
        """As a process does that was asked to stop; returns how many jobs were cut off."""
        self.clock.let_go()
        assert self._subscriber is not None
        moving = Moving(self.feed, self.assignment, self._subscriber)
        cut = await moving.drain(drain_seconds)
        assert await self.lending.flush(drain_seconds)
        await moving.leave()
        await self._disconnected()
        return cut

    async def die(self) -> None:
        """As a killed process: no commit, no word to anybody, nothing ends."""
        assert self._subscriber is not None
        # At first: it would take part in a rebalance, and commit, while all the rest ends.
        cast(Consumer, self._subscriber.consumer).cut()
        self.assignment.commits.closed()
        for task in self._tasks[1:]:
            task.cancel()
        await self.feed.drain(0)
        await self._disconnected()

    async def _disconnected(self) -> None:
        for task in (*self._tasks, self._reading):
            task.cancel()
        await asyncio.wait([*self._tasks, self._reading])
        await self.lending.stop()
        await self._notes.close()
        await self._broker.stop()
        self._tasks = []

    @property
    def is_here(self) -> bool:
        return bool(self._tasks)


async def _unused(hops: Sequence[Hop], acked: Callable[[int], None]) -> None:
    raise AssertionError(f"nothing goes on here, but {len(hops)} did")


class Corner:
    """A topic of a test's own, its group, and the members it starts."""

    def __init__(self, where: Place, topic: str, producer: AIOKafkaProducer) -> None:
        self.where, self.topic = where, topic
        self.members: list[Member] = []
        self._producer = producer

    async def join(self, stage: Callable[[Job], Any], **options: Any) -> Member:
        member = Member(self.where, self.topic, stage, **options)
        self.members.append(member)
        await member.join()
        return member

    async def publish(
        self, job_id: str, partition: int = 0, *, body: bytes = b"{}", **headers: bytes
    ) -> int:
        """Its offset."""
        named = [("ce_id", job_id.encode()), *headers.items()]
        meta = await self._producer.send_and_wait(
            self.topic, body, partition=partition, headers=named
        )
        return int(meta.offset)

    async def move(self, job_id: str, *, body: bytes = b"{}", **state: int) -> None:
        """Write a job under way, as a stage does."""
        job = replace(a_job(body=body, **state), id=job_id)  # type: ignore[arg-type]
        encoded = self.where.codec.encode(Hop(self.topic, job), 0)
        await self._producer.send_and_wait(
            self.topic, encoded.value, partition=0, headers=encoded.headers
        )

    async def publish_all(self, jobs: Iterable[tuple[str, int]]) -> None:
        """Many at once, as (id, partition)."""
        acks = [
            await self._producer.send(
                self.topic, b"{}", partition=partition, headers=[("ce_id", job_id.encode())]
            )
            for job_id, partition in jobs
        ]
        await asyncio.gather(*acks)

    async def committed(self, partition: int = 0) -> Progress:
        tp = TopicPartition(self.topic, partition)
        found = await self.where.admin.list_consumer_group_offsets(self.topic, partitions=[tp])
        try:
            return decode(found[tp].offset, found[tp].metadata)
        except ValueError:
            return Progress(found[tp].offset, -1)

    async def until_committed(self, *expected: Progress) -> None:
        """Wait until the partitions from 0 on are committed so; fails saying how they are."""
        found: list[Progress] = []
        try:
            async with asyncio.timeout(BOUND):
                while found != list(expected):
                    now = [await self.committed(number) for number in range(len(expected))]
                    found = now
        except TimeoutError:
            raise AssertionError(f"committed: {found}, not {expected}") from None


@contextlib.asynccontextmanager
async def corner(
    servers: str, *, partitions: int = 1, begun: bool = True, moving: bool = False
) -> AsyncIterator[Corner]:
    """An own topic whose group has committed 0, as ``topics apply`` sees to.

    ``moving`` makes it a topic of jobs under way instead of published ones.
    """
    async with place(servers) as where:
        topic = where.topics.work("local") if moving else where.topics.jobs
        settings = {"message.timestamp.type": "LogAppendTime"}
        await where.admin.create_topics(
            [
                NewTopic(topic, partitions, 1, topic_configs=settings),
                NewTopic(where.topics.lent, 2, 1, topic_configs=settings),
            ]
        )
        if begun:
            zeros = {TopicPartition(topic, number): 0 for number in range(partitions)}
            await where.commit(topic, zeros)
        producer = Producer(bootstrap_servers=servers, acks="all", client_id=uuid.uuid4().hex)
        await producer.start()
        here = Corner(where, topic, producer)
        try:
            yield here
        finally:
            for member in here.members:
                if member.is_here:
                    await member.die()
            await producer.stop()
