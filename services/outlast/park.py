"""Reads ``outlast.parked``; writes ``work.<provider>``, ``parked`` again, or ends the job.

The third door: jobs wait here free of charge while nobody can serve them, and leave by themselves
when a provider comes back.
"""

from outlast.core.decide import next_after_parking
from outlast.core.lifecycle import Ask, Decision, records
from outlast.ports import ParkPorts
from outlast_schemas.job import Job

__all__ = ["park"]


async def park(job: Job, ports: ParkPorts) -> None:
    """Wait for a sweep (or the deadline); what can go goes, the rest returns to the tail."""
    async with ports.starts.resting(job):
        decision = await _decided(job, ports)
    now = ports.clock.now()
    await ports.outbox.send(records(decision, ports.topics, ports.catalogue, now))


async def _decided(job: Job, ports: ParkPorts) -> Decision:
    """Where it goes once it is its turn; for want of room alone it stays where it is."""
    while True:
        await ports.sweeps.wait(job)
        decision = next_after_parking(job, ports.view())
        if not isinstance(decision, Ask) or await ports.sweeps.room(job, decision.target):
            return decision
