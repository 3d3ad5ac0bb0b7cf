"""One record through its stage, from admitted to done."""

import asyncio

import structlog
from aiokafka import TopicPartition

from outlast.core.errors import Released
from outlast.core.progress import Start
from outlast.core.quarantine import POISON
from outlast.core.seen import Sight
from outlast.edges.codec import Decoded, Record
from outlast.edges.kafka.assignment import Assignment
from outlast.edges.kafka.copies import Copies, Identity, identity
from outlast.edges.kafka.patience import Patience, SetAside
from outlast.edges.kafka.starts import Starts
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job

__all__ = ["Runs"]

log = structlog.get_logger()


class Runs:
    """Of one feed."""

    def __init__(
        self,
        name: str,
        *,
        assignment: Assignment,
        starts: Starts,
        copies: Copies,
        patience: Patience,
        set_aside: SetAside,
    ) -> None:
        """``patience`` runs the stage; ``set_aside`` dead-letters what must not run."""
        self._name = name
        self._assignment = assignment
        self._starts = starts
        self._copies = copies
        self._patience = patience
        self._set_aside = set_aside

    async def carry(
        self, tp: TopicPartition, record: Record, decoded: Decoded, start: Start, life: int
    ) -> None:
        """Return when it is done, or given up; raises what ends the feed."""
        records, offset = self._assignment.records, record.offset
        try:
            if self._starts.must_be_recorded(start):
                await records.commits.recorded(tp)
            await self._move(decoded, start)
        except (Released, asyncio.CancelledError) as end:
            cut = not isinstance(end, Released)
            if records.release(tp, offset, life, cut=cut):
                self._assignment.read_again(tp)
        except Exception:
            # A bug ends the feed, not the process: it must not look as if it had died over this.
            records.release(tp, offset, life)
            raise
        else:
            # After the stage returned, so after its outputs were acknowledged: the guarantee.
            records.done(tp, offset, life)
        finally:
            self._starts.ended(tp, offset)

    async def _move(self, decoded: Decoded, start: Start) -> None:
        """Return when the job's next record is acknowledged, or when it needs none."""
        who = identity(decoded.job)
        try:
            await self._set_going(decoded, await self._sight(decoded.job, who), start)
        except (Released, asyncio.CancelledError):
            self._copies.gave_up(who)
            raise
        finally:
            self._copies.ended(who)

    async def _sight(self, job: Job, who: Identity) -> Sight:
        """What the record is; a copy rests until its first, whoever has that, has ended."""
        while (first := self._copies.first_of(who)) is not None:
            async with self._starts.resting(job):
                await asyncio.wait({first})
            self._copies.check(first)
        return self._copies.look(who)

    async def _set_going(self, decoded: Decoded, sight: Sight, start: Start) -> None:
        job = decoded.job
        match sight:
            case Sight.COPY:
                log.debug("feed.copy_dropped", feed=self._name, job_id=job.id)
            case Sight.CONFLICT:
                detail = "the id was published before with another body"
                await self._set_aside(job, Reason.CONFLICT, detail)
            case Sight.NEW if start.unclean >= POISON:
                detail = f"its process died {start.unclean} times over it, the last time alone"
                log.error("feed.poison", feed=self._name, job_id=job.id, unclean=start.unclean)
                await self._set_aside(job, Reason.POISON, detail)
            case Sight.NEW:
                await self._patience.carry(job, decoded.fault)
