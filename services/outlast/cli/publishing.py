"""Publishes what ``outlast submit`` was given, and prints what becomes of it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

import typer

from outlast.cli.answers import fields_of, said
from outlast.cli.bodies import Bodies
from outlast.cli.terminal import ReaderGone, counting, err, line, out, print_json, waiting
from outlast.client import AsyncClient, Job, NewJob
from outlast.client.job import PublishTerms
from outlast.core.errors import OutlastError, PublishRefused
from outlast.edges.settings import Settings, environment
from outlast_schemas.result import Status

__all__ = ["Wish", "fields_of_job", "publish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted beside the terms of the jobs."""

    job_id: str | None
    batch: str | None
    wait: bool
    timeout: float | None
    as_json: bool


async def publish(settings: Settings, bodies: Bodies, wish: Wish, terms: PublishTerms) -> None:
    """Publish, and wait for the answer if that is wanted.

    Raises:
        PublishRefused: a job was not accepted, or standard input went wrong on its way.
        PublishUnknown: a job was not acknowledged in time.
        Exit: the job that was waited for has not ended, or not succeeded.
    """
    environ = {**environment(), **({"OUTLAST_CONFIG": settings.path} if settings.path else {})}
    async with AsyncClient.from_env(environ, source="outlast-submit") as client:
        jobs = await _published(client, bodies, wish, terms)
        if bodies.fault is not None:
            again = f"; with --batch {wish.batch} it is safe to run again" if wish.batch else ""
            raise PublishRefused(
                f"standard input: {bodies.fault}; {jobs.count:,} job(s) before it were "
                f"published{again}"
            )
        if wish.wait and jobs.last is not None:
            await _answer(client, jobs.last, wish)


@dataclass(slots=True)
class _Published:
    """How many were acknowledged, and the last of them."""

    count: int = 0
    last: Job | None = None


async def _published(
    client: AsyncClient, bodies: Bodies, wish: Wish, terms: PublishTerms
) -> _Published:
    """Print what was acknowledged; when all is done, raise what went wrong first."""
    done = _Published()
    items = bodies if wish.job_id is None else _with_id(bodies, wish.job_id)
    errors: list[OutlastError] = []
    # Where the ids run down the screen, they are the progress.
    with counting("publishing:", bodies.total, shown=not out.is_terminal) as count:
        async with aclosing(client.publish_many(items, batch=wish.batch, **terms)) as receipts:
            async for receipt in receipts:
                if receipt.error is not None:
                    errors.append(receipt.error)
                if receipt.job is not None:
                    done.count, done.last = done.count + 1, receipt.job
                    _print(receipt.job, wish, done)
                count(1)
    if len(errors) > 1:
        err.print(f"{len(errors):,} job(s) were not acknowledged; the first:", style="red")
    if errors:
        raise errors[0]
    return done


async def _with_id(bodies: Bodies, job_id: str) -> AsyncIterator[NewJob]:
    async for body in bodies:
        yield NewJob(body=body, job_id=job_id)


def _print(job: Job, wish: Wish, done: _Published) -> None:
    if wish.wait:
        return
    try:
        if wish.as_json:
            print_json(fields_of_job(job))
        else:
            line(job.id)
    except ReaderGone:
        err.print(f"nobody reads the ids any more: stopped after {done.count:,} job(s)")
        raise


def fields_of_job(job: Job) -> dict[str, object]:
    """The object that ``--json`` prints for a job that was accepted."""
    return {
        "job_id": job.id,
        "topic": job.topic,
        "partition": job.partition,
        "offset": job.offset,
        "accepted": job.accepted,
    }


async def _answer(client: AsyncClient, job: Job, wish: Wish) -> None:
    """Print the answer alone, so that it can be piped on."""
    try:
        with waiting(f"job {job.id}: waiting for its result"):
            result = await client.wait(job, wish.timeout)
    except TimeoutError:
        err.print(
            f"job {job.id} has not ended within {wish.timeout:g} s; it goes on. "
            f"Look later with: outlast results --job {job.id}",
            soft_wrap=True,
        )
        raise typer.Exit(1) from None
    if wish.as_json:
        print_json(fields_of(result, None))
    elif result.status is Status.SUCCEEDED:
        line(said(result))
    else:
        err.print(f"job {job.id} {result.status.value}: {said(result)}", soft_wrap=True)
    if result.status is not Status.SUCCEEDED:
        raise typer.Exit(1)
