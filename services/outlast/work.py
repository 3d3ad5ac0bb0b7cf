"""Reads ``work.<provider>``; writes ``results``, ``dead-letters``, ``retry``, ``parked``, ``work``.

The only stage that spends money: it calls the provider once and decides what the answer means.
Its two steps are kept apart: once a call has ended, only the publishing is ever tried again.
"""

from asyncio import CancelledError
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from outlast.core.admission import Fault
from outlast.core.choose import eligible
from outlast.core.decide import Go, Situation, after_call, before_call, over_budget, situation
from outlast.core.errors import CallSpent, Released
from outlast.core.lifecycle import Decision, Hop, SetAside, onward, records
from outlast.core.policy import Permit, Target
from outlast.core.suspicion import refuted
from outlast.core.verdict import Verdict
from outlast.ports import WorkPorts
from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job

__all__ = ["goes_on", "work"]


@dataclass(frozen=True, slots=True)
class _Called:
    """A call that has ended."""

    target: Target
    verdict: Verdict
    began: int
    asked: Situation


def goes_on(job: Job, provider: str, ports: WorkPorts) -> Hop | None:
    """Where a job goes that cannot be called here now; ``None`` where it may be, or where it ends.

    Untouched and uncharged, and straight to an alternate's pool where one is up: the way of a whole
    backlog when its provider is down.
    """
    asked = situation(job, ports.view())
    if isinstance(asked, Fault):
        return None
    decision = before_call(job, provider, asked)
    if isinstance(decision, Go):
        return None
    return onward(decision, ports.topics, ports.catalogue, asked.now)


async def work(job: Job, provider: str, ports: WorkPorts) -> None:
    """Call the provider for the job, unless something speaks against it at the last moment.

    Raises ``CallSpent`` for a bug in the call or after it: nobody runs the stage again for it.
    """
    step = await _step(job, provider, ports)
    if not isinstance(step, _Called):
        await _send(step, ports)
        return
    try:
        await _send(_decided(job, step, ports), ports)
    except (Released, CancelledError):
        raise
    except Exception as bug:
        raise CallSpent(f"after a call of {step.target}") from bug


async def _send(decision: Decision, ports: WorkPorts) -> None:
    now = ports.clock.now()
    await ports.outbox.send(records(decision, ports.topics, ports.catalogue, now))


async def _step(job: Job, provider: str, ports: WorkPorts) -> _Called | Decision:
    asked = situation(job, ports.view())
    if isinstance(asked, Fault):
        return SetAside(job, asked.reason, asked.detail)
    if asked.on_ambiguous == "hold" and ports.starts.is_doubtful(job):
        return SetAside(job, Reason.AMBIGUOUS, "its worker ended while a call may have been made")
    decision = before_call(job, provider, asked)
    if not isinstance(decision, Go):
        return decision
    if not ports.pool.may_try(job):
        return over_budget(job, asked)
    async with ports.pool.calling(job, decision.target) as permit:
        if asked.on_ambiguous == "hold":
            # Whoever finds the mark of a process that died must be able to trust that it is there.
            await ports.starts.recorded(job)
        # All this may have taken its time: look once more.
        match before_call(job, provider, asked.at(ports.view())):
            case Go(target):
                return await _call(job, target, permit, asked, ports)
            case changed:
                return changed


async def _call(
    job: Job, target: Target, permit: Permit, asked: Situation, ports: WorkPorts
) -> _Called | Decision:
    body = ports.codec.body(job)
    if isinstance(body, Fault):
        return SetAside(job, body.reason, body.detail)
    if (first := _failed_over_from(job, target, asked)) is not None:
        ports.pool.failed_over_from(first)
    began = ports.clock.now()
    left = (job.state.deadline - began) / 1000
    try:
        verdict = await ports.call(cast(Mapping[str, object], body), target, left, asked.operation)
        ports.pool.ended(permit, job.id, verdict)
    except (Released, CancelledError):
        raise
    except Exception as bug:
        raise CallSpent(f"in a call of {target}") from bug
    return _Called(target, verdict, began, asked)


def _failed_over_from(job: Job, target: Target, asked: Situation) -> str | None:
    """The provider that the job would have gone to first, where it comes to another anew."""
    route = asked.route
    if route.targets[0].provider == target.provider:  # as with most calls
        return None
    if any(each.provider == target.provider for each in job.state.attempts):
        return None
    first = eligible(route, asked.operation, asked.scope, asked.catalogue)[0].provider
    return first if first != target.provider else None


def _decided(job: Job, called: _Called, ports: WorkPorts) -> Decision:
    asked = called.asked.at(ports.view())
    attempt = _attempt(job, called.target, called.verdict, called.began, asked.now)
    # Looked up only where it counts: most calls speak for the provider.
    does_well = (
        called.verdict.evidence
        and asked.fleet.is_up(called.target, asked.now)
        and ports.pool.does_well(job.id)
    )
    if called.verdict.word is VerdictWord.SUCCEEDED:
        for each in refuted(job.state.attempts, called.target, asked.now):
            ports.pool.refuted(Target(each.provider, each.model), each.note)
    is_suspect = ports.pool.is_suspect(called.target, called.verdict)
    return after_call(
        job, called.target, called.verdict, attempt, does_well, asked, is_suspect=is_suspect
    )


def _attempt(job: Job, target: Target, verdict: Verdict, began: int, now: int) -> Attempt:
    return Attempt(
        n=job.state.calls + 1,
        provider=target.provider,
        model=target.model,
        at=began,
        ms=now - began,
        verdict=verdict.word,
        status=verdict.status,
        note=verdict.note,
        request_id=verdict.request_id,
    )
