"""What the parts of one process share: the clock, the way out, the fleet's health, the slot."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cached_property, partial
from socket import gethostname
from typing import Any, Final, Literal
from uuid import uuid4

from faststream.kafka import KafkaBroker

from outlast.core.lifecycle import Outgoing, SetAside, records
from outlast.edges.clock import BrokerClock
from outlast.edges.codec import Codec
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.connection import (
    Cluster,
    groupless_consumer,
    largest_record,
    producer,
)
from outlast.edges.kafka.feed import Feed
from outlast.edges.kafka.groups import Groups
from outlast.edges.kafka.lending import Lending
from outlast.edges.kafka.lent import Lent
from outlast.edges.kafka.membership import Membership
from outlast.edges.kafka.moves import Onward, nowhere
from outlast.edges.kafka.outbox import Outbox
from outlast.edges.kafka.pace import PaceTable
from outlast.edges.kafka.patience import Stage
from outlast.edges.kafka.quarantine import Quarantine
from outlast.edges.kafka.room import Room
from outlast.edges.kafka.starts import Starts
from outlast.edges.kafka.subscribers import Subscriber, connected_broker, feed_subscriber
from outlast.edges.kafka.tables import HealthTable
from outlast.edges.kafka.writing import Writing
from outlast.edges.pool import ProviderPool
from outlast.edges.process import Moving, Process
from outlast.edges.settings import Settings
from outlast.edges.slot import Slot
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job
from outlast_schemas.topics import Topics

__all__ = ["MOVE_SECONDS", "Desk", "Parts"]


MOVE_SECONDS: Final = 120.0
"""So long a stage that only moves records may take for one, its wait for a due time left out."""


class Desk:
    """What one feed is made of, before it is."""

    assignment: Assignment
    starts: Starts
    subscriber: Subscriber

    def __init__(self, name: str, group: str, instance: str, membership: Membership) -> None:
        """``instance`` is its slot in the group."""
        self.name = name
        self.group = group
        self.instance = instance
        self.membership = membership


class Parts:
    """Shared things, and the list of what will run."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        broker: KafkaBroker,
        instance: str | None,
        begin_at: Literal["earliest", "latest"] | None,
    ) -> None:
        """Make what is shared; :meth:`connected` is the way to get one."""
        kafka = settings.kafka
        self.kafka = kafka
        self.catalogue = settings.catalogue
        self.broker = broker
        self._life = uuid4().hex[:8]
        self.worker = f"{instance or gethostname()}.{self._life}"
        self.topics = Topics(kafka.prefix)
        self.groups = Groups(kafka.prefix)
        self.clock = BrokerClock()
        self.codec = Codec(cluster.id, self.topics, kafka.max_body_bytes)
        self.outbox = Outbox(
            partial(producer, kafka),
            self.codec,
            self.clock,
            largest=largest_record(kafka),
            too_large=self._too_large,
        )
        self.writing = Writing(self.outbox)
        self.health = HealthTable(partial(groupless_consumer, kafka, self.topics.health))
        self.lending = Lending(
            self.topics.lent,
            partial(groupless_consumer, kafka, self.topics.lent),
            self.outbox.write,
        )
        self.quarantine = Quarantine()
        self.moving: list[Moving] = []
        self.pools: dict[str, ProviderPool] = {}
        self.others: list[Subscriber] = []
        self.background: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.health.run,
            self.lending.read,
            self.lending.tell_all,
        ]
        self.let_go: list[Callable[[], None]] = [self.clock.let_go]
        self.close: list[Callable[[], Awaitable[None]]] = [
            broker.stop,
            self.health.stop,
            self.lending.stop,
            self.outbox.stop,
        ]
        self._begin_at = begin_at
        self._cluster = cluster.id
        self._instance = instance
        self._slots: list[Slot] = []

    @cached_property
    def pace(self) -> PaceTable:
        """How busy the workers are; read only where somebody asks."""
        build = partial(groupless_consumer, self.kafka, self.topics.vitals)
        pace = PaceTable(build, self.clock, self.health.fleet)
        self.background.append(pace.run)
        return pace

    @classmethod
    async def connected(
        cls,
        settings: Settings,
        cluster: Cluster,
        *,
        instance: str | None,
        begin_at: Literal["earliest", "latest"] | None,
    ) -> "Parts":
        """Connect the way out and read the fleet's health to its end: before anything decides."""
        parts = cls(settings, cluster, await connected_broker(settings.kafka), instance, begin_at)
        await parts.outbox.start()
        await asyncio.gather(parts.health.start(), parts.lending.start())
        return parts

    def slot(self, group: str) -> str:
        """This process's instance id in a group: a slot of its own in each, held to the end."""
        self._slots.append(Slot.take(f"{self._cluster}.{group}", self._instance))
        return self._slots[-1].name

    def desk(self, name: str, group: str, most_seconds: float = MOVE_SECONDS) -> "Desk":
        """A feed's place in its group, and its partitions; ``most_seconds`` one record may take."""
        instance = self.slot(group)
        membership = Membership(f"{instance}.{self._life}")
        lent = Lent(
            membership,
            self.lending,
            most_seconds=most_seconds,
            may_call_in=lambda: not self.outbox.is_blocked,
        )
        desk = Desk(name, group, instance, membership)
        desk.assignment = Assignment(
            name=name,
            consumer=lambda: desk.subscriber.consumer,
            clock=self.clock,
            begin_at=self._begin_at,
            lent=lent,
        )
        desk.starts = Starts(desk.assignment, self.quarantine)
        return desk

    def add_feed(
        self,
        desk: "Desk",
        topics: tuple[str, ...],
        stage: Stage,
        room: Callable[[], int],
        *,
        onward: Onward = nowhere,
        divided: bool = False,
    ) -> Moving:
        """Put a feed together: consumer, partitions, engine.

        Args:
            desk: its place in its group.
            topics: what it reads.
            stage: what is done with each job.
            room: how many jobs of a topic may be in flight.
            onward: where a job goes at once, for which the stage need not run.
            divided: each partition has its own part of a topic's room.
        """
        desk.subscriber = feed_subscriber(
            self.broker,
            self.kafka,
            topics,
            group=desk.group,
            instance=desk.instance,
            listener=desk.assignment,
            membership=desk.membership,
        )
        feed = Feed(
            name=desk.name,
            assignment=desk.assignment,
            codec=self.codec,
            stage=stage,
            set_aside=self.set_aside,
            room=Room(room, parts=(lambda: len(desk.assignment.owned)) if divided else None),
            may_start=lambda: not self.outbox.is_blocked,
            is_writing=self.writing.is_by,
            starts=desk.starts,
            onward=onward,
            send_all=self.writing.send_all,
        )
        self.quarantine.watch(feed.wake)
        moving = Moving(feed, desk.assignment, desk.subscriber)
        self.moving.append(moving)
        return moving

    async def set_aside(self, job: Job, reason: Reason, detail: str) -> None:
        """Dead-letter a job whose record or stage is at fault."""
        decision = SetAside(job, reason, detail)
        await self.writing.send(records(decision, self.topics, self.catalogue, self.clock.now()))

    def _too_large(self, job: Job) -> Sequence[Outgoing]:
        detail = "with what Outlast adds to it, the record does not fit its next topic"
        decision = SetAside(job, Reason.TOO_LARGE, detail)
        return records(decision, self.topics, self.catalogue, self.clock.now())

    def process(self) -> Process:
        """All that was added, ready to run."""
        return Process(
            moving=self.moving,
            others=self.others,
            background=self.background,
            let_go=self.let_go,
            close=self.close,
            told=self.lending.flush,
            drain_seconds=self.catalogue.defaults.drain_seconds,
        )
