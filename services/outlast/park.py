"""Reads ``outlast.parked``; writes ``work.<provider>``, ``parked`` again, or ends the job.

The third door: jobs wait here free of charge while nobody can serve them, and leave by themselves
when a provider comes back.
"""

from outlast.core.decide import next_after_parking
from outlast.core.lifecycle import records
from outlast.ports import ParkPorts
from outlast_schemas.job import Job

__all__ = ["park"]


async def park(job: Job, ports: ParkPorts) -> None:
    """Wait for a sweep (or the deadline); what can go goes, the rest returns to the tail."""
    async with ports.starts.resting(job):
        await ports.sweeps.wait(job)
    decision = next_after_parking(job, ports.view())
    now = ports.clock.now()
    await ports.outbox.send(records(decision, ports.topics, ports.catalogue, now))
