"""The asynchronous client: publish jobs, wait for one, read results."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Literal, Self, Unpack

import orjson
import uuid_utils

from outlast.client.bulk import Bulk, Items, job_of
from outlast.client.job import Job, PublishTerms, Receipt
from outlast.core.capability import Operation
from outlast.core.policy import Catalogue, OnAmbiguous
from outlast.edges.answers import Result
from outlast.edges.kafka.connection import connect
from outlast.edges.kafka.publish import Publisher
from outlast.edges.kafka.results import ResultStream
from outlast.edges.kafka.topics import require
from outlast.edges.kafka.waits import Waits
from outlast.edges.logs import keep_short
from outlast.edges.request import Body, Envelope, Terms
from outlast.edges.settings import Kafka, load
from outlast_schemas.topics import Topics

__all__ = ["AsyncClient"]

PATIENCE_SECONDS: Final = 30.0
DEFAULT: Final = "default"


class AsyncClient:
    """Publishes jobs and reads results; an async context manager.

    ::

        async with AsyncClient.from_env() as client:
            job = await client.publish({"model": "chat", "messages": [...]})
            result = await client.wait(job, timeout=60)
            print(result.raise_for_status().text)
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
            kafka: how to reach Kafka, or just the bootstrap servers (``host:port``, commas
                between).
            source: who publishes, for ``ce_source``.
            timeout: seconds to wait for an acknowledgement.
        """
        keep_short()
        self._kafka = Kafka(bootstrap_servers=kafka) if isinstance(kafka, str) else kafka
        self._catalogue = Catalogue(providers={}, routes={})
        self._has_names = False
        self._topics = Topics(self._kafka.prefix)
        self._source = source
        self._patience = timeout
        self._streams: list[ResultStream] = []
        self._open()
        self._there: set[str] = set()
        self._asking = asyncio.Lock()

    def _open(self) -> None:
        self._publisher = Publisher(self._kafka, patience_seconds=self._patience)
        self._waits = Waits(self._kafka)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        source: str = "outlast-client",
        timeout: float = PATIENCE_SECONDS,
    ) -> Self:
        """A client configured as everything else: ``outlast.toml`` and ``OUTLAST_…`` variables.

        Raises ``SettingsError``.
        """
        settings = load(os.environ if environ is None else environ)
        client = cls(settings.kafka, source=source, timeout=timeout)
        client._catalogue = settings.catalogue
        client._has_names = settings.catalogue.results != {DEFAULT}
        return client

    async def __aenter__(self) -> Self:
        """Make sure that Kafka answers. Raises ``KafkaUnreachable`` within ten seconds."""
        await connect(self._kafka)
        if self._publisher.is_closed:
            self._open()
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
        """Commit what was acknowledged, flush, disconnect; it may be entered again."""
        for stream in self._streams:
            await stream.aclose()
        self._streams.clear()
        await self._waits.close()
        await self._publisher.close()

    async def publish(
        self,
        body: Body,
        *,
        job_id: str | None = None,
        route: str | None = None,
        operation: Operation | None = None,
        ttl: float | timedelta | None = None,
        deadline: datetime | None = None,
        scope: Iterable[str] | None = None,
        on_ambiguous: OnAmbiguous | None = None,
        results: str | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Job:
        """Publish one job and return when the broker has acknowledged it.

        Args:
            body: an OpenAI chat-completions or embeddings request; bytes and text go as they are,
                but for white space at their ends.
            job_id: 1 to 128 printable ASCII characters; else a new UUIDv7.
            route: the route's name; else the body's ``model`` says it.
            operation: ``embeddings``; else ``chat.completions``.
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
            KafkaUnreachable: no broker answers; nothing was sent.
        """
        terms = Terms(
            route=route,
            operation=operation,
            ttl=ttl,
            deadline=deadline,
            scope=scope,
            on_ambiguous=on_ambiguous,
            results=results,
            headers=headers,
        )
        job_id = str(uuid_utils.uuid7()) if job_id is None else job_id
        record = self._seal(terms).encode(body, job_id, datetime.now(UTC))
        await self._require(self._topics.jobs)
        sent = await self._publisher.publish(record, f"job {job_id}")
        return job_of(job_id, sent, self._results_of(terms, body))

    async def publish_many(
        self,
        bodies: Items,
        *,
        batch: str | None = None,
        first: int = 0,
        **terms: Unpack[PublishTerms],
    ) -> AsyncGenerator[Receipt, None]:
        """Publish many jobs; yields a receipt for each, in their order.

        At most 5,000 jobs or 32 MB are under way at a time. An item that cannot be published does
        not stop the others: its receipt holds the error.

        Args:
            bodies: any iterable, of bodies or of :class:`NewJob` where items differ.
            batch: a name for this run; job ids are then ``<batch>/<number>``, so that running it
                again with the same items publishes the same jobs, of which copies are dropped.
            first: the number of the first item, to go on in the middle.
            terms: as for :meth:`publish`, for all items.

        Raises:
            PublishRefused: the terms themselves are wrong.
            TopicsError: the jobs topic is missing.
            KafkaUnreachable: no broker answers.
        """
        bulk = Bulk(self._publisher, self._seal, self._results_of, Terms(**terms), batch)
        await self._require(self._topics.jobs)
        async with aclosing(bulk.run(bodies, first)) as receipts:
            async for receipt in receipts:
                yield receipt

    async def wait(
        self,
        job: Job | str,
        timeout: float | None = None,  # noqa: ASYNC109  # as in asyncio.wait_for
        *,
        results: str | None = None,
    ) -> Result:
        """The result of a job, as soon as it has ended.

        Reads the one partition of the result topic that the job's result will be in, from the
        time the job was accepted. Of several runs it is the last one that has ended.

        Args:
            job: what :meth:`publish` returned; or an id, for which everything that the topic
                still holds is looked through.
            timeout: seconds; ``None`` waits without an end.
            results: the name of the result topic, where the job does not know it.

        Raises:
            TimeoutError: it has not ended yet. It goes on, and may be waited for again.
            TopicsError: there is no such result topic.
            KafkaUnreachable: the results cannot be read.
        """
        job_id, since, known = (
            (job, 0, DEFAULT) if isinstance(job, str) else (job.id, job.accepted, job.results)
        )
        topic = self._topics.results(known if results is None else results)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._waits.result(topic, job_id, since)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"job {job_id} has not ended within {timeout:g} s; it goes on, and may be "
                "waited for again"
            ) from None

    def results(
        self, group: str, *, name: str = DEFAULT, ack: Literal["auto", "manual"] = "auto"
    ) -> ResultStream:
        """Results as they come, an async iterator that ends only when it is closed.

        A new group begins at the earliest. Each (job id, replays) comes once, as far as the
        stream remembers. What was not acknowledged comes again, to this or another member.

        Args:
            group: the consumer group; the members of one share the results.
            name: the result topic, as a route's ``results`` names it.
            ack: ``auto`` acknowledges a result when the next one is asked for; with ``manual``
                it is ``await result.ack()`` that does, in any order.
        """
        stream = ResultStream(self._kafka, self._topics.results(name), group, ack=ack)
        self._streams.append(stream)
        return stream

    def _seal(self, terms: Terms) -> Envelope:
        return Envelope(terms, self._kafka, source=self._source)

    def _results_of(self, terms: Terms, body: Body) -> str:
        """The result topic's name, as far as this client's own configuration tells."""
        if terms.results is not None or not self._has_names:
            return terms.results or DEFAULT
        name = terms.route or _model(body) or self._catalogue.defaults.route
        route = self._catalogue.route(name) if name else None
        return route.results if route else DEFAULT

    async def _require(self, topic: str) -> None:
        """Once: a producer that writes to a missing topic waits, or makes one as it should not."""
        async with self._asking:
            if topic not in self._there:
                await require(self._kafka, [topic])
                self._there.add(topic)


def _model(body: Body) -> str | None:
    if isinstance(body, bytes | str):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
    model = body.get("model") if isinstance(body, Mapping) else None
    return model if isinstance(model, str) else None
