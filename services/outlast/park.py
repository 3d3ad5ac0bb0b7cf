"""Reads ``outlast.parked``; writes ``work.<provider>``, ``parked`` again, or ends the job.

The third door: jobs wait here free of charge while nobody can serve them, and leave by themselves
when a provider comes back.
"""

from dataclasses import replace

from outlast.core.decide import back_to_parking, next_after_parking
from outlast.core.lifecycle import Ask, Decision, Park, records
from outlast.ports import ParkPorts
from outlast_schemas.job import Job

__all__ = ["park"]


async def park(job: Job, ports: ParkPorts) -> None:
    """Wait for a sweep (or the deadline); what can go goes, the rest stays where it is.

    Only what stands in the way of others that can go returns to the tail.
    """
    async with ports.starts.resting(job):
        decision = await _decided(job, ports)
    now = ports.clock.now()
    await ports.outbox.send(records(decision, ports.topics, ports.catalogue, now))


async def _decided(job: Job, ports: ParkPorts) -> Decision:
    """Where it goes once it is its turn."""
    while True:
        await ports.sweeps.wait(job)
        decision = _next(job, ports)
        match decision:
            case Ask(_, target) if await ports.sweeps.room(job, target):
                return decision
            case Ask(_, target) if ports.sweeps.is_in_the_way(job, target):
                return back_to_parking(job, ports.clock.now())
            case Ask():
                continue
            case Park() if await ports.sweeps.stays(job):
                continue
            case _:
                return decision


def _next(job: Job, ports: ParkPorts) -> Decision:
    """Where it goes: it waits for who ramps only where no alternate is up."""
    view = ports.view()
    decision = next_after_parking(job, replace(view, fleet=ports.ramped.fleet()))
    return decision if isinstance(decision, Ask) else next_after_parking(job, view)
