"""Publishes many jobs over one window: order kept, memory bounded, a receipt for each."""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from itertools import count
from typing import Final

import uuid_utils

from outlast.client.job import Job, NewJob, Receipt
from outlast.core.admission import MAX_ID, fault_in_id
from outlast.core.errors import PublishRefused, PublishUnknown
from outlast.edges.kafka.publish import Publisher, Sending
from outlast.edges.request import Body, Envelope, Terms, written

__all__ = ["Bulk", "Items", "chunks", "job_of"]

Items = Iterable[Body | NewJob] | AsyncIterable[Body | NewJob]

WINDOW_JOBS: Final = 5_000
WINDOW_BYTES: Final = 32 * 1024 * 1024
CHUNK_JOBS: Final = 1_000
ROOM_FOR_NUMBER: Final = 20
"""Characters of the longest ``/<number>``."""
TERMS: Final = tuple(field.name for field in fields(Terms))


@dataclass(frozen=True, slots=True)
class _Begun:
    """An item on its way: handed to the producer, or refused at once."""

    number: int
    job_id: str
    sending: Sending | PublishRefused
    results: str
    size: int

    @property
    def is_settled(self) -> bool:
        return isinstance(self.sending, PublishRefused) or self.sending.is_settled


class _NoItem:
    """What stands where no item is: ``None`` may be one, and has a receipt that refuses it."""


_END: Final = _NoItem()
_NOT_YET: Final = _NoItem()


class Bulk:
    """One run of ``publish_many``."""

    def __init__(
        self,
        publisher: Publisher,
        seal: Callable[[Terms], Envelope],
        results_of: Callable[[Terms, Body], str],
        terms: Terms,
        batch: str | None,
    ) -> None:
        """Check what all items share. Raises ``PublishRefused``.

        Args:
            publisher: the way out.
            seal: makes the common part of the records on the same terms.
            results_of: the name of the result topic a job on these terms will use.
            terms: what holds for every item that says nothing else.
            batch: names this run; the ids are ``<batch>/<number>``.
        """
        if batch is not None and not _can_name_ids(batch):
            raise PublishRefused(
                f"batch is 1 to {MAX_ID - ROOM_FOR_NUMBER} printable ASCII characters"
            )
        self._publisher = publisher
        self._seal = seal
        self._results_of = results_of
        self._terms = terms
        self._batch = batch
        self._envelope = seal(terms)
        self._begun: deque[_Begun] = deque()
        self._bytes = 0

    async def run(self, items: Items, first: int) -> AsyncGenerator[Receipt, None]:
        """A receipt for each item, in their order; ``first`` is the number of the first one."""
        numbers = count(first)
        if isinstance(items, AsyncIterable):
            async with aclosing(self._until_something_happens(aiter(items))) as happening:
                async for item in happening:
                    if not isinstance(item, _NoItem):
                        await self._begin(next(numbers), item)
                    while self._begun and (self._begun[0].is_settled or self._is_full):
                        yield await self._receipt()
        else:
            for item in items:
                await self._begin(next(numbers), item)
                while self._begun and (self._begun[0].is_settled or self._is_full):
                    yield await self._receipt()
        while self._begun:
            yield await self._receipt()

    async def _until_something_happens(
        self, items: AsyncIterator[Body | NewJob]
    ) -> AsyncGenerator[Body | NewJob | _NoItem, None]:
        """The items; ``_NOT_YET`` where the oldest job is through before the next item comes.

        Items may be far between, and nobody shall wait for a receipt that long.
        """
        coming = asyncio.ensure_future(anext(items, _END))
        try:
            while True:
                oldest = self._begun[0].sending if self._begun else None
                acks, left = set(), None
                if isinstance(oldest, Sending):
                    acks, left = {oldest.ack}, oldest.seconds_left
                await asyncio.wait(
                    {coming, *acks}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                if not coming.done():
                    yield _NOT_YET
                    continue
                item = coming.result()
                if isinstance(item, _NoItem):
                    return
                yield item
                coming = asyncio.ensure_future(anext(items, _END))
        finally:
            coming.cancel()

    @property
    def _is_full(self) -> bool:
        return len(self._begun) >= WINDOW_JOBS or self._bytes >= WINDOW_BYTES

    async def _begin(self, number: int, item: Body | NewJob) -> None:
        body, new = (item.body, item) if isinstance(item, NewJob) else (item, None)
        job_id = self._job_id(number, None if new is None else new.job_id)
        sending: Sending | PublishRefused
        size, results = 0, ""
        try:
            terms, envelope = self._for(new)
            record = envelope.encode(body, job_id, datetime.now(UTC))
            size, results = len(record.value), self._results_of(terms, body)
            sending = await self._publisher.begin(record, f"job {job_id}")
        except PublishRefused as error:
            sending = error
        self._bytes += size
        self._begun.append(_Begun(number, job_id, sending, results, size))

    def _job_id(self, number: int, own: str | None) -> str:
        if own is not None:
            return own
        return str(uuid_utils.uuid7()) if self._batch is None else f"{self._batch}/{number}"

    def _for(self, new: NewJob | None) -> tuple[Terms, Envelope]:
        """The terms of this item: its own where it has any, else those of all."""
        own = {} if new is None else {name: getattr(new, name) for name in TERMS}
        changed = {name: value for name, value in own.items() if value is not None}
        if not changed:
            return self._terms, self._envelope
        terms = Terms(**{name: getattr(self._terms, name) for name in TERMS} | changed)
        return terms, self._seal(terms)

    async def _receipt(self) -> Receipt:
        begun = self._begun[0]
        try:
            return await self._settled(begun)
        finally:
            self._begun.popleft()
            self._bytes -= begun.size

    async def _settled(self, begun: _Begun) -> Receipt:
        number, job_id, sending = begun.number, begun.job_id, begun.sending
        if isinstance(sending, PublishRefused):
            return Receipt(number=number, job_id=job_id, error=sending)
        try:
            sent = await self._publisher.outcome(sending)
        except (PublishRefused, PublishUnknown) as error:
            return Receipt(number=number, job_id=job_id, error=error)
        return Receipt(number=number, job_id=job_id, job=job_of(job_id, sent, begun.results))


def _can_name_ids(batch: str) -> bool:
    return 1 <= len(batch) <= MAX_ID - ROOM_FOR_NUMBER and not fault_in_id(batch.encode())


def job_of(job_id: str, sent: object, results: str) -> Job:
    """From the broker's acknowledgement."""
    return Job(
        id=job_id,
        topic=sent.topic,  # type: ignore[attr-defined]  # aiokafka has no types
        partition=sent.partition,  # type: ignore[attr-defined]
        offset=sent.offset,  # type: ignore[attr-defined]
        accepted=sent.timestamp,  # type: ignore[attr-defined]
        results=results,
    )


def chunks(items: Iterable[Body | NewJob]) -> Iterator[list[Body | NewJob]]:
    """The items a thousand or 32 MB at a time, for a caller who iterates in another thread.

    Bodies are written already, because only then their size is known.
    """
    chunk: list[Body | NewJob] = []
    size = 0
    for item in items:
        ready, length = _ready(item)
        chunk.append(ready)
        size += length
        if len(chunk) >= CHUNK_JOBS or size >= WINDOW_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _ready(item: Body | NewJob) -> tuple[Body | NewJob, int]:
    try:
        raw = written(item.body if isinstance(item, NewJob) else item)
    except PublishRefused:
        return item, 0  # its receipt will say so
    return (replace(item, body=raw) if isinstance(item, NewJob) else raw), len(raw)
