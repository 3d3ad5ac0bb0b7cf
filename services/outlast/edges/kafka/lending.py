"""Notes between workers: a call that outlived its worker's hold on the partition has ended.

Partitions move at once when a pool grows or shrinks; the calls in flight stay where they are. The
new owner knows from the commit which those are, holds them as lent, and is told here how each
ended. Every process reads the topic without a group, from its beginning.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from outlast.core.errors import WatchdogTripped
from outlast.core.watermark import End
from outlast.edges.codec import Encoded
from outlast.edges.kafka import private
from outlast.edges.logs import Log
from outlast_schemas.lent import Note

__all__ = ["Lending"]

log = Log(__name__)

POLL_MS: Final = 500
AGAIN_SECONDS: Final = 1.0
GATHER_SECONDS: Final = 0.01
"""Ends that come within this time travel in one note."""
REMEMBERED: Final = 200_000
"""How many ends are remembered for partitions that may yet come here, the oldest forgotten."""

Told = Callable[[TopicPartition, int, str, int, End], None]
_Ends = list[tuple[int, End]]


class Lending:
    """The notes of one process: written for what it ran for others, read for what others ran."""

    def __init__(
        self,
        topic: str,
        build: Callable[[], AIOKafkaConsumer],
        write: Callable[[Encoded], Awaitable[None]],
    ) -> None:
        """Prepare; nothing is read before :meth:`start`.

        Args:
            topic: of the notes.
            build: makes a groupless consumer of the topic, not yet started.
            write: returns when the record is acknowledged.
        """
        self._topic = topic
        self._build = build
        self._write = write
        self._consumer: AIOKafkaConsumer | None = None
        self._known: OrderedDict[tuple[TopicPartition, int, str, int], End] = OrderedDict()
        self._untold: dict[tuple[TopicPartition, str, int], _Ends] = {}
        self._owed = asyncio.Event()
        self._read = asyncio.Event()
        self._all_told = asyncio.Event()
        self._all_told.set()
        self._watchers: list[Told] = []

    def watch(self, told: Told) -> None:
        """Call ``told(partition, offset, by, turn, end)`` for every end that is read."""
        self._watchers.append(told)

    def ended(self, tp: TopicPartition, offset: int, by: str, turn: int) -> End | None:
        """How what ``by`` ran has ended, as far as that is known here."""
        return self._known.get((tp, offset, by, turn))

    def forget(self, tp: TopicPartition) -> None:
        """The partition's log began anew: its offsets mean other records now."""
        for key in [key for key in self._known if key[0] == tp]:
            del self._known[key]

    def tell(self, tp: TopicPartition, offset: int, by: str, turn: int, end: End) -> None:
        """This process, as ``by``, has ended what the owner of the partition holds as lent."""
        self._remember(tp, offset, by, turn, end)
        self._untold.setdefault((tp, by, turn), []).append((offset, end))
        self._all_told.clear()
        self._owed.set()

    async def start(self) -> None:
        """Connect, and read to the end as of now."""
        consumer = self._build()
        await consumer.start()
        self._consumer = consumer
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while await self._behind(ends):
            self._take(await consumer.getmany(timeout_ms=POLL_MS))

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def caught_up(self) -> None:
        """Return when all notes are read that are there now. Raises ``KafkaError``."""
        assert self._consumer is not None
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        while True:
            read = self._read
            if not await self._behind(ends):
                return
            await read.wait()

    async def _behind(self, ends: dict[TopicPartition, int]) -> bool:
        assert self._consumer is not None
        for tp, end in ends.items():
            if await self._consumer.position(tp) < end:
                return True
        return False

    async def read(self) -> None:
        """Read until cancelled. Raises ``WatchdogTripped`` when the client stands still."""
        assert self._consumer is not None
        while True:
            try:
                self._take(await self._consumer.getmany(timeout_ms=POLL_MS))
                if (dead := private.stands_still(self._consumer)) is not None:
                    raise WatchdogTripped(f"lent: the Kafka client's {dead} task has ended")
            except KafkaError as error:
                log.warning("lent.read_failed", error=type(error).__name__)
                await asyncio.sleep(AGAIN_SECONDS)

    def _take(self, fetched: dict[TopicPartition, list[Any]]) -> None:
        for records in fetched.values():
            for record in records:
                self._heed(record.key, record.value)
        if fetched:
            read, self._read = self._read, asyncio.Event()
            read.set()

    def _heed(self, key: bytes | None, value: bytes | None) -> None:
        tp = _partition(key)
        if tp is None or not value:
            return
        try:
            note = Note.from_json(orjson.loads(value))
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("lent.unreadable", error=repr(error)[:200])
            return
        self._hear(tp, note, note.done, End.DONE)
        self._hear(tp, note, note.released, End.RELEASED)
        self._hear(tp, note, note.cut, End.CUT)

    def _hear(self, tp: TopicPartition, note: Note, offsets: Iterable[int], end: End) -> None:
        for offset in offsets:
            self._remember(tp, offset, note.by, note.turn, end)
            for told in self._watchers:
                told(tp, offset, note.by, note.turn, end)

    def _remember(self, tp: TopicPartition, offset: int, by: str, turn: int, end: End) -> None:
        self._known[(tp, offset, by, turn)] = end
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def tell_all(self) -> None:
        """Write what is to be told, until cancelled."""
        while True:
            await self._owed.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._owed.clear()
            untold, self._untold = self._untold, {}
            notes = [self._encoded(*where, ends) for where, ends in untold.items()]
            await asyncio.gather(*map(self._write, notes))
            if not self._untold:
                self._all_told.set()

    async def flush(self, seconds: float) -> bool:
        """Return when all is told; false when that did not work out in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._all_told.wait()
        except TimeoutError:
            return False
        return True

    def _encoded(self, tp: TopicPartition, by: str, turn: int, ends: _Ends) -> Encoded:
        note = Note(
            by=by,
            turn=turn,
            done=tuple(offset for offset, end in ends if end is End.DONE),
            released=tuple(offset for offset, end in ends if end is End.RELEASED),
            cut=tuple(offset for offset, end in ends if end is End.CUT),
        )
        key = f"{tp.topic}/{tp.partition}".encode()
        return Encoded(self._topic, key, orjson.dumps(note.to_json()), [])


def _partition(key: bytes | None) -> TopicPartition | None:
    """What a note is about; nothing for records that are no notes."""
    topic, slash, number = (key or b"").decode(errors="replace").rpartition("/")
    return TopicPartition(topic, int(number)) if slash and number.isdecimal() else None
