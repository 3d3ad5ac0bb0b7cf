"""Reads the ``retry`` tiers; writes ``work.<provider>``, ``parked``, ``retry``, or ends the job.

The second door: it holds a job until it is due and then asks anew who takes it.
"""

from outlast.core.decide import next_step
from outlast.core.lifecycle import LONGEST_TIER_MS, Ask, Hop, Wait, onward, records
from outlast.ports import Ports
from outlast_schemas.job import Job

__all__ = ["goes_on", "retry"]


def goes_on(job: Job, ports: Ports) -> Hop | None:
    """Where a job goes that is due; ``None`` where it has to wait here, or ends."""
    view = ports.view()
    if (job.state.due or 0) > view.now:
        return None
    decision = next_step(job, view)
    if isinstance(decision, Ask):
        ports.fleet.sent(decision.target)
    return onward(decision, ports.topics, ports.catalogue, view.now)


async def retry(job: Job, ports: Ports) -> None:
    """Wait until the job is due, at most as long as the longest tier holds one; send it on."""
    due = job.state.due or 0
    longest = job.origin.appended + LONGEST_TIER_MS
    if (until := min(due, longest)) > ports.clock.now():
        async with ports.starts.resting(job):
            await ports.clock.wait_until(until)
    now = ports.clock.now()
    decision = Wait(job, due) if due > now else next_step(job, ports.view())
    if isinstance(decision, Ask):
        ports.fleet.sent(decision.target)
    await ports.outbox.send(records(decision, ports.topics, ports.catalogue, now))
