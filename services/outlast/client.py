"""What a backend imports: publish jobs, read results."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

import uuid_utils

from outlast.core.errors import JobFailed, PublishRefused, PublishUnknown
from outlast.core.policy import OnAmbiguous
from outlast.edges.answers import Result
from outlast.edges.kafka.connection import connect
from outlast.edges.kafka.publish import Publisher
from outlast.edges.kafka.results import ResultStream
from outlast.edges.kafka.topics import require
from outlast.edges.request import Terms, encode
from outlast.edges.settings import Kafka, load
from outlast_schemas.topics import Topics

__all__ = ["AsyncClient", "Job", "JobFailed", "PublishRefused", "PublishUnknown", "Result"]

PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The receipt of a job that the broker has acknowledged, and where its record lies."""

    id: str
    topic: str
    partition: int
    offset: int


class AsyncClient:
    """Publishes jobs and reads results; an async context manager.

    ::

        async with AsyncClient.from_env() as client:
            job = await client.publish({"model": "chat", "messages": [...]})
            async for result in client.results("my-backend"):
                print(result.job_id, result.text)
    """

    def __init__(
        self,
        kafka: Kafka | str = "localhost:9092",
        *,
        source: str = "outlast-client",
        timeout: float = PATIENCE_SECONDS,
    ) -> None:
        """Prepare; nothing connects yet.

        Args:
            kafka: the settings, or just the bootstrap servers (``host:port``, commas between).
            source: who publishes, for ``ce_source``.
            timeout: seconds to wait for an acknowledgement.
        """
        self._kafka = Kafka(bootstrap_servers=kafka) if isinstance(kafka, str) else kafka
        self._topics = Topics(self._kafka.prefix)
        self._source = source
        self._publisher = Publisher(self._kafka, patience_seconds=timeout)
        self._streams: list[ResultStream] = []
        self._has_topic = False
        self._asking = asyncio.Lock()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """A client configured as everything else: ``outlast.toml`` and ``OUTLAST_…`` variables.

        Raises ``SettingsError``.
        """
        return cls(load(os.environ if environ is None else environ).kafka)

    async def __aenter__(self) -> Self:
        """Make sure that Kafka answers. Raises ``KafkaUnreachable`` within ten seconds."""
        await connect(self._kafka)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """As :meth:`close`."""
        await self.close()

    async def close(self) -> None:
        """Commit what was acknowledged, flush, disconnect."""
        for stream in self._streams:
            await stream.aclose()
        self._streams.clear()
        await self._publisher.close()

    async def publish(
        self,
        body: Mapping[str, object] | bytes | str,
        *,
        job_id: str | None = None,
        route: str | None = None,
        ttl: float | timedelta | None = None,
        deadline: datetime | None = None,
        scope: Iterable[str] | None = None,
        on_ambiguous: OnAmbiguous | None = None,
        results: str | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Job:
        """Publish one job and return when the broker has acknowledged it.

        Args:
            body: an OpenAI chat-completions or embeddings request; bytes and text go as they are.
            job_id: 1 to 128 printable ASCII characters; else a new UUIDv7.
            route: the route's name; else the body's ``model`` says it.
            ttl: seconds, or a timedelta, from acceptance to when nobody wants the answer any more.
            deadline: the same as an instant with a time zone; not both.
            scope: providers, or ``jurisdiction:<name>``, that may see the job.
            on_ambiguous: what to do when a call may or may not have been executed.
            results: the name of the result topic.
            headers: further headers, which come back on the result.

        Raises:
            PublishRefused: an argument is wrong, the job is too large, or the broker refused it.
            PublishUnknown: no acknowledgement in time; repeating with the same id is safe.
            TopicsError: the jobs topic is missing.
        """
        terms = Terms(
            job_id=str(uuid_utils.uuid7()) if job_id is None else job_id,
            route=route,
            ttl=ttl,
            deadline=deadline,
            scope=scope,
            on_ambiguous=on_ambiguous,
            results=results,
            headers=headers or {},
        )
        now = datetime.now(UTC)
        record = encode(body, terms, self._kafka, source=self._source, now=now)
        await self._require_topic()
        sent = await self._publisher.publish(record, f"job {terms.job_id}")
        return Job(id=terms.job_id, topic=sent.topic, partition=sent.partition, offset=sent.offset)

    def results(self, group: str, *, name: str = "default") -> ResultStream:
        """Results as they come, an async iterator that ends only when it is closed.

        A new group begins at the earliest. Each (job id, replays) comes once, as far as the
        stream remembers; a result is acknowledged when the next one is asked for.

        Args:
            group: the consumer group; the members of one share the results.
            name: the result topic, as a route's ``results`` names it.
        """
        stream = ResultStream(self._kafka, self._topics.results(name), group)
        self._streams.append(stream)
        return stream

    async def _require_topic(self) -> None:
        """Once: a producer that writes to a missing topic waits, or makes one as it should not."""
        async with self._asking:
            if not self._has_topic:
                await require(self._kafka, [self._topics.jobs])
                self._has_topic = True
