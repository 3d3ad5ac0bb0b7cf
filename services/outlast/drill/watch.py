"""What an onlooker sees of a drill, read from the topics alone: verdicts, calls, depths, ends."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import orjson
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from outlast.core.overview import worst
from outlast.drill.scenarios.sight import Turn
from outlast.edges.answers import Result, result_of
from outlast.edges.codec import Record
from outlast.edges.kafka.connection import groupless_consumer
from outlast.edges.kafka.depth import depths
from outlast.edges.kafka.groups import Groups
from outlast.edges.settings import Settings
from outlast_schemas import headers as h
from outlast_schemas.health import Health
from outlast_schemas.state import State
from outlast_schemas.topics import Topics
from outlast_schemas.vitals import Vitals

__all__ = ["Seen", "Watch"]

DEPTHS_EVERY_SECONDS: Final = 0.5
LINES: Final = 200


@dataclass(slots=True)
class Seen:
    """The picture so far.

    ``events`` are (seconds, what happened), ``turns`` the verdicts that turned.
    """

    verdicts: dict[str, str] = field(default_factory=dict)
    vitals: dict[str, Vitals] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    events: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=LINES))
    turns: list[Turn] = field(default_factory=list)
    up_again: dict[str, int] = field(default_factory=dict)
    most_parked: int = 0

    @property
    def failed_over(self) -> int:
        """Jobs that more than one provider was asked for."""
        return sum(
            len({each.provider for each in state.attempts}) > 1 for state in self.states.values()
        )

    def served_again(self, provider: str) -> int:
        """Jobs that the provider served after the fleet had found it up again."""
        since = self.up_again.get(provider)
        if since is None:
            return 0
        last = [state.attempts[-1] for state in self.states.values() if state.attempts]
        return sum(
            each.provider == provider and each.verdict == "succeeded" and each.at >= since
            for each in last
        )

    def elsewhere(self, first: dict[str, str]) -> int:
        """Jobs served by another provider than their route's first (route → its name)."""
        return sum(
            count
            for (route, provider), count in self.served.items()
            if first.get(route, provider) != provider
        )


class Watch:
    """Reads the topics until left; what it sees stands in :attr:`seen`."""

    def __init__(self, settings: Settings, admin: AIOKafkaAdminClient) -> None:
        """``admin`` is started, and stays the caller's."""
        self.seen = Seen()
        self.changed = asyncio.Event()
        self._settings = settings
        self._admin = admin
        self._topics = Topics(settings.kafka.prefix)
        self._began = asyncio.get_running_loop().time()

    @property
    def seconds(self) -> float:
        """Since the drill's first job."""
        return asyncio.get_running_loop().time() - self._began

    def begin(self) -> None:
        """The first job is published now."""
        self._began = asyncio.get_running_loop().time()

    def tell(self, text: str) -> None:
        """Add to the timeline."""
        self.seen.events.append((self.seconds, text))
        self.changed.set()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["Watch"]:
        """Watch for as long as the context lasts."""
        topics = self._topics
        consumer = groupless_consumer(
            self._settings.kafka, topics.vitals, topics.health, topics.results()
        )
        await consumer.start()
        tasks = [
            asyncio.ensure_future(self._read(consumer)),
            asyncio.ensure_future(self._measure(consumer)),
        ]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await consumer.stop()

    async def until_ended(self, job_ids: set[str], seconds: float) -> bool:
        """Wait until each of the jobs has a result; false when that takes longer."""
        return await self._until(lambda: not job_ids - self.seen.results.keys(), seconds)

    async def until_trusted(self, provider: str, seconds: float) -> bool:
        """Wait until jobs are sent to the provider, be it step by step; false as above."""
        words = ("closed", "ramp")
        return await self._until(
            lambda: self.seen.verdicts.get(provider, "closed") in words, seconds
        )

    async def _until(self, is_so: Callable[[], bool], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not is_so():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return False
        return True

    async def measured(self) -> None:
        """Wait until the depths have been taken twice: no reading is from before this call."""
        for _ in range(2):
            before = self.seen.depths
            while self.seen.depths is before:
                self.changed.clear()
                await self.changed.wait()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=250)).values():
                for record in records:
                    self._take(record)
            self.changed.set()

    def _take(self, record: Record) -> None:
        if record.topic == self._topics.vitals:
            vitals = Vitals.from_json(orjson.loads(record.value or b""))
            self.seen.vitals[vitals.provider] = vitals
        elif record.topic == self._topics.health:
            self._take_verdict(Health.from_json(orjson.loads(record.value or b"")))
        elif (result := result_of(record)) is not None:
            self._take_result(result, record)

    def _take_verdict(self, health: Health) -> None:
        _, verdict = worst(health, health.at)
        if verdict is None:
            return
        before = self.seen.verdicts.get(health.provider, "closed")
        self.seen.verdicts[health.provider] = verdict.state.value
        if verdict.state.value != before:
            turn = Turn(self.seconds, health.provider, verdict.state.value, verdict.evidence)
            self.seen.turns.append(turn)
        match before, verdict.state.value:
            case (("closed" | "ramp"), "open"):
                self.tell(f"{health.provider} is down for the fleet: {verdict.evidence}")
            case ("half_open", "open"):
                self.tell(f"{health.provider}: a probe failed")
            case (("open" | "half_open"), "ramp"):
                self.seen.up_again[health.provider] = verdict.since
                self.tell(f"{health.provider} is tried again: {verdict.evidence}")
            case ("ramp", "closed"):
                self.tell(f"{health.provider} is up again: {verdict.evidence}")
            case _:
                pass

    def _take_result(self, result: Result, record: Record) -> None:
        if result.job_id in self.seen.results:
            return
        self.seen.results[result.job_id] = result
        state = dict(record.headers).get(h.STATE)
        self.seen.states[result.job_id] = State.from_json(orjson.loads(state or b""))
        self.seen.served[(result.route or "", result.provider or result.status.value)] += 1

    async def _measure(self, consumer: AIOKafkaConsumer) -> None:
        providers = self._settings.catalogue.providers
        groups = Groups(self._settings.kafka.prefix).moving(self._topics, providers)
        while True:
            found = await depths(groups, self._admin, consumer)
            self.seen.depths = found
            self.seen.most_parked = max(self.seen.most_parked, found[self._topics.parked])
            await asyncio.sleep(DEPTHS_EVERY_SECONDS)
