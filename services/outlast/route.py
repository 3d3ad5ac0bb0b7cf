"""Reads ``outlast.jobs``; writes ``work.<provider>``, ``parked``, or ends the job.

The first door into the decision which provider takes a job: it checks what was published, begins
the job's state, and sends it on.
"""

from outlast.core.admission import Admitted, Fault, admit
from outlast.core.decide import facing, next_target
from outlast.core.lifecycle import Ask, Decision, Hop, SetAside, onward, records
from outlast.ports import Ports
from outlast_schemas.job import Job

__all__ = ["goes_on", "route"]


async def route(job: Job, ports: Ports) -> None:
    """Admit a published job and send it to its first target."""
    decision = _decided(job, ports)
    await ports.outbox.send(records(decision, ports.topics, ports.catalogue, ports.clock.now()))


def goes_on(job: Job, ports: Ports) -> Hop | None:
    """Where a published job goes first; ``None`` where it ends."""
    decision = _decided(job, ports)
    return onward(decision, ports.topics, ports.catalogue, ports.clock.now())


def _decided(job: Job, ports: Ports) -> Decision:
    match admit(job, ports.codec.body(job), ports.catalogue):
        case Fault(reason, detail):
            return SetAside(job, reason, detail)
        case Admitted(admitted, way, asked):
            decision = next_target(admitted, facing(way, asked, ports.view()))
            if isinstance(decision, Ask):
                ports.fleet.sent(decision.target)
            return decision
