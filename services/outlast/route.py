"""Reads ``outlast.jobs``; writes ``work.<provider>``, ``parked``, or ends the job.

The first door into the decision which provider takes a job: it checks what was published, begins
the job's state, and sends it on.
"""

from outlast.core.admission import Admitted, Fault, admit
from outlast.core.decide import facing, next_target
from outlast.core.lifecycle import Ask, Decision, SetAside, records
from outlast.ports import Ports
from outlast_schemas.job import Job

__all__ = ["route"]


async def route(job: Job, ports: Ports) -> None:
    """Admit a published job and send it to its first target."""
    decision: Decision
    match admit(job, ports.codec.body(job), ports.catalogue):
        case Fault(reason, detail):
            decision = SetAside(job, reason, detail)
        case Admitted(admitted, way, asked):
            decision = next_target(admitted, facing(way, asked, ports.view()))
    if isinstance(decision, Ask):
        ports.fleet.sent(decision.target)
    await ports.outbox.send(records(decision, ports.topics, ports.catalogue, ports.clock.now()))
