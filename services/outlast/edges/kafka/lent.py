"""What of a feed's partitions runs elsewhere, and what runs here of partitions that others own."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from outlast.core.progress import Progress, Start
from outlast.core.watermark import End, Watermark
from outlast.edges.kafka import private
from outlast.edges.kafka.lending import Lending
from outlast.edges.kafka.membership import Membership
from outlast.edges.kafka.records import NOBODY, Records
from outlast.edges.logs import Log

__all__ = ["Lent"]

log = Log(__name__)

TICK_SECONDS: Final = 0.25
WANTED_SECONDS: Final = 0.5
"""A partition that was not handed over, or a stranger in the group: the group is called again."""

Returned = Callable[[TopicPartition, int, End | None], None]


class Lent:
    """The lending of one feed: its claims in the group, and the records that are out on loan."""

    def __init__(
        self,
        membership: Membership | None,
        notes: Lending | None,
        *,
        most_seconds: float = 660.0,
        may_call_in: Callable[[], bool] = lambda: True,
    ) -> None:
        """Prepare; the assignment calls :meth:`begin`.

        Args:
            membership: this feed's claims in its group.
            notes: of the process.
            most_seconds: how long one record may take who has it, before it is taken back.
            may_call_in: false while nobody can be expected to end anything, because writes fail.
        """
        self.membership = membership
        self._notes = notes
        self._most_seconds = most_seconds
        self._may_call_in = may_call_in
        self._since = self._asked_at = 0.0
        self._watchers: list[Returned] = []

    @classmethod
    def none(cls) -> "Lent":
        """For who neither lends nor borrows."""
        return cls(None, None)

    @property
    def slot(self) -> str | None:
        """The instance id by which the group knows this process."""
        return None if self.membership is None else self.membership.slot

    def begin(self, records: Records, read_again: Callable[[TopicPartition], None]) -> None:
        """Watch the records of an assignment; ``read_again`` seeks back to what was returned."""
        self._records, self._read_again = records, read_again
        if self._notes is not None:
            self._notes.watch(self._told)

    @property
    def me(self) -> str:
        """This process's incarnation."""
        return "" if self.membership is None else self.membership.incarnation

    def watch(self, returned: Returned) -> None:
        """Call ``returned(partition, offset, end)``; without an end it was called in."""
        self._watchers.append(returned)

    def tell(self, tp: TopicPartition, offset: int, turn: int, end: End) -> None:
        """What ended here while the partition was not ours."""
        if self._notes is not None:
            self._notes.tell(tp, offset, self.me, turn, end)

    def forget(self, tp: TopicPartition) -> None:
        """The partition's log began anew."""
        if self._notes is not None:
            self._notes.forget(tp)

    def revoked(self, not_handed_over: Collection[TopicPartition]) -> None:
        """All is taken away; of these the next owner could not know all."""
        if self.membership is not None:
            self.membership.revoked(not_handed_over)

    async def caught_up(self, loaded: Iterable[Progress]) -> None:
        """Have read every note that may be about these. Raises ``KafkaError``."""
        if self._notes is not None and any(
            start.runner is not None for progress in loaded for start in progress.starts
        ):
            await self._notes.caught_up()

    def settle(self, tp: TopicPartition, committed: Progress) -> bool:
        """Sort what others started: ended by now, still running, or orphaned.

        True when some process died over the partition.
        """
        mark = self._records.marks[tp]
        if self.membership is None or self._notes is None:
            mark.settle(lambda _: False)
            return False
        for offset, start in zip(committed.incomplete, committed.starts, strict=False):
            self._settle_told(tp, mark, offset, start)
        writer = committed.writer
        orphaned = mark.settle(self.membership.is_live)
        return orphaned or (writer is not None and not self.membership.is_live(writer))

    def _settle_told(self, tp: TopicPartition, mark: Watermark, offset: int, start: Start) -> None:
        """What is known of its end; also of what this process ran before it lost the partition."""
        if self._notes is None or start.runner is None:
            return
        end = self._notes.ended(tp, offset, start.runner, start.turn)
        if end is None or mark.returned(offset, start.runner, start.turn, end):
            return
        if end is End.CUT:
            mark.doubt(offset)
        elif end is End.DONE and mark.start(offset).runner is None:
            mark.done(offset)

    def opened(
        self, generation: int, assigned: frozenset[TopicPartition]
    ) -> frozenset[TopicPartition]:
        """The group has agreed; returns those that are meant for others: nothing starts there."""
        self._since = self._asked_at = _now()
        if self.membership is None:
            return NOBODY
        self.membership.assigned(generation, assigned)
        return self.membership.wanted

    def leave(self) -> None:
        """This process is about to leave: its partitions go elsewhere, its calls run on here."""
        if self.membership is not None:
            self.membership.leave()

    def _told(self, tp: TopicPartition, offset: int, by: str, turn: int, end: End) -> None:
        if self._records.returned(tp, offset, by, turn, end):
            self._come_back(tp, offset, end)

    def _come_back(self, tp: TopicPartition, offset: int, end: End | None) -> None:
        for returned in self._watchers:
            returned(tp, offset, end)
        if end is not End.DONE:
            self._read_again(tp)

    async def run(self, consumer: Callable[[], AIOKafkaConsumer]) -> None:
        """Keep the group's agreement up to date, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._agree(consumer())
            self._call_in()

    def _agree(self, consumer: AIOKafkaConsumer) -> None:
        membership = self.membership
        if membership is None:
            return
        unsettled = bool(membership.wanted) or not membership.is_listed
        if unsettled and _now() - self._asked_at > WANTED_SECONDS:
            self._asked_at = _now()
            membership.ask()
        if membership.owes_rejoin:
            # Again and again: one that is made between Join and Sync is lost.
            private.request_rejoin(consumer)

    def _call_in(self) -> None:
        if not self._records.borrowed or not self._may_call_in():
            self._since = _now()
        elif _now() - self._since > self._most_seconds:
            for tp in self._records.owned:
                self._call_in_all(tp)

    def _call_in_all(self, tp: TopicPartition) -> None:
        mark = self._records.marks[tp]
        offsets = [offset for offset, _ in mark.foreign()]
        if not offsets:
            return
        log.error("lent.called_in", topic=tp.topic, partition=tp.partition, count=len(offsets))
        mark.call_in()
        self._records.version += 1
        self._records.commits.touched(tp)
        for offset in offsets:
            self._come_back(tp, offset, None)


def _now() -> float:
    return asyncio.get_running_loop().time()
