"""The client for code without an event loop: Django, Celery, scripts."""

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from outlast.client.async_client import DEFAULT, PATIENCE_SECONDS, AsyncClient
from outlast.client.bulk import chunks
from outlast.client.job import Job, NewJob, PublishTerms, Receipt
from outlast.client.loop import Loop, LoopStopped
from outlast.core.capability import Operation
from outlast.core.policy import OnAmbiguous
from outlast.edges.answers import Result
from outlast.edges.kafka.results import ResultStream
from outlast.edges.request import Body
from outlast.edges.settings import Kafka, load

__all__ = ["Client", "Results"]

T = TypeVar("T")


class Client:
    """As :class:`AsyncClient`, for callers without an event loop; safe to share between threads.

    It connects with the first call, from a thread of its own, and anew in a forked process: made
    at import time it serves under gunicorn and Celery.

    ::

        client = Client.from_env()
        job = client.publish({"model": "chat", "messages": [...]})
        print(client.wait(job, timeout=60).text)
    """

    def __init__(
        self,
        kafka: Kafka | str = "localhost:9092",
        *,
        source: str = "outlast-client",
        timeout: float = PATIENCE_SECONDS,
    ) -> None:
        """Prepare, as :class:`AsyncClient` does; nothing connects yet."""
        self._prepare(lambda: AsyncClient(kafka, source=source, timeout=timeout))

    def _prepare(self, make: Callable[[], AsyncClient]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._running: _Running | None = None
        _all.add(self)

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
        found = dict(os.environ if environ is None else environ)
        load(found)  # its mistakes show here, not in the first request
        client = cls.__new__(cls)
        client._prepare(lambda: AsyncClient.from_env(found, source=source, timeout=timeout))
        return client

    def __enter__(self) -> Self:
        """Make sure that Kafka answers. Raises ``KafkaUnreachable`` within ten seconds."""
        self._run(lambda client: client.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """As :meth:`close`."""
        self.close()

    def close(self) -> None:
        """Commit what was acknowledged, flush, disconnect; the next call connects again."""
        with self._lock:
            running, self._running = self._running, None
            _in_use.discard(self)
        if running is not None:
            try:
                running.loop.run(running.client.close())
            finally:
                running.loop.stop()

    def publish(
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
        """Publish one job, as :meth:`AsyncClient.publish`, which explains the arguments."""
        return self._run(
            lambda client: client.publish(
                body,
                job_id=job_id,
                route=route,
                operation=operation,
                ttl=ttl,
                deadline=deadline,
                scope=scope,
                on_ambiguous=on_ambiguous,
                results=results,
                headers=headers,
            )
        )

    def publish_many(
        self,
        bodies: Iterable[Body | NewJob],
        *,
        batch: str | None = None,
        first: int = 0,
        **terms: Unpack[PublishTerms],
    ) -> Iterator[Receipt]:
        """Publish many jobs, a receipt for each, as :meth:`AsyncClient.publish_many`.

        ``bodies`` is iterated in the caller's thread, up to a thousand (or 32 MB) ahead of the
        receipts.
        """
        if isinstance(scope := terms.get("scope"), Iterator):
            terms["scope"] = tuple(scope)  # it can be read only once
        # Without an item first: wrong terms are refused before anything is taken.
        yield from self._run(_published([], batch, first, terms))
        number = first
        for chunk in chunks(bodies):
            yield from self._run(_published(chunk, batch, number, terms))
            number += len(chunk)

    def wait(
        self, job: Job | str, timeout: float | None = None, *, results: str | None = None
    ) -> Result:
        """The result of a job, as :meth:`AsyncClient.wait`; ``TimeoutError`` leaves it running."""
        return self._run(lambda client: client.wait(job, timeout, results=results))

    def results(
        self, group: str, *, name: str = DEFAULT, ack: Literal["auto", "manual"] = "auto"
    ) -> "Results":
        """Results as they come, as :meth:`AsyncClient.results`; an iterator that ends when closed.

        With ``manual`` it is :meth:`Results.ack` that acknowledges, from any thread.
        """
        return self._with(
            lambda running: Results(
                running.loop.run(_reading(running.client, group, name, ack)), running.loop
            )
        )

    def _run(self, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]) -> T:
        return self._with(lambda running: running.loop.run(work(running.client)))

    def _with(self, work: "Callable[[_Running], T]") -> T:
        while True:
            running = self._started()
            with suppress(LoopStopped):  # closed by another thread just now: connect anew
                return work(running)

    def _started(self) -> "_Running":
        with self._lock:
            if self._running is None:
                loop = Loop()
                self._running = _Running(loop, loop.run(_made(self._make)))
                _in_use.add(self)
            return self._running

    def _forget(self) -> None:
        """After a fork: the thread stayed behind, and its connections are not ours."""
        _left_behind.append(self._running)
        self._lock = threading.Lock()
        self._running = None
        _in_use.discard(self)


@dataclass(frozen=True, slots=True)
class _Running:
    """A client that is in use, and the loop it lives in."""

    loop: Loop
    client: AsyncClient


class Results:
    """Results one after the other, for a caller without an event loop."""

    def __init__(self, stream: ResultStream, loop: Loop) -> None:
        """Read from the stream, which lives in the loop."""
        self._stream = stream
        self._loop = loop

    def __iter__(self) -> Self:
        """Itself."""
        return self

    def __next__(self) -> Result:
        """The next result, whenever it comes; with ``auto`` it acknowledges the one before."""
        try:
            result = self._loop.run(_next(self._stream))
        except (CancelledError, LoopStopped):  # the client was closed meanwhile
            result = None
        if result is None:
            raise StopIteration
        return result

    def ack(self, result: Result) -> None:
        """Say that it is handled: it will not come again. For ``ack="manual"``."""
        with suppress(LoopStopped):  # closed: it comes again, as every one not acknowledged
            self._loop.run(result.ack())

    def close(self) -> None:
        """Commit what was acknowledged and leave the group."""
        with suppress(LoopStopped):
            self._loop.run(self._stream.aclose())

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """As :meth:`close`."""
        self.close()


def _published(
    chunk: list[Body | NewJob], batch: str | None, first: int, terms: PublishTerms
) -> Callable[[AsyncClient], Coroutine[Any, Any, list[Receipt]]]:
    async def publish(client: AsyncClient) -> list[Receipt]:
        receipts = client.publish_many(chunk, batch=batch, first=first, **terms)
        return [receipt async for receipt in receipts]

    return publish


async def _made(make: Callable[[], AsyncClient]) -> AsyncClient:
    return make()


async def _reading(
    client: AsyncClient, group: str, name: str, ack: Literal["auto", "manual"]
) -> ResultStream:
    return client.results(group, name=name, ack=ack)


async def _next(stream: ResultStream) -> Result | None:
    return await anext(stream, None)


_all: "weakref.WeakSet[Client]" = weakref.WeakSet()
_in_use: "set[Client]" = set()
"""Those that are connected, let go by their users or not: they are closed at the latest at exit."""
_left_behind: list[_Running | None] = []
"""Clients of the process we were forked from: kept, because ending them is not ours to do."""


def _forget_all() -> None:
    for client in list(_all):
        client._forget()


def _close_all() -> None:
    for client in list(_in_use):
        client.close()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_close_all)
