"""What the tests of the clients start from: bodies, results as a stage writes them, readers."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from outlast import AsyncClient, ResultStream
from outlast import Result as Read
from outlast.edges.codec import Encoded
from outlast.edges.kafka.publish import Publisher
from outlast.edges.kafka.scan import from_the_first, scan
from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job, Origin
from outlast_schemas.result import Result, Served, Status
from outlast_schemas.state import State
from tests.kafka.cluster import Place, partitions

BODY: Final = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
ANSWER: Final = b'{"choices": [{"message": {"role": "assistant", "content": "hello"}}]}'


def ended(
    where: Place, job_id: str, run: int = 0, *, failed: bool = False, name: str = "default"
) -> Result:
    """The end of one run of a job."""
    job = Job(
        id=job_id,
        body=b"{}",
        headers=(),
        state=State(accepted=1, deadline=2, route="chat", replays=run, calls=2),
        origin=Origin("x", 0, 0, 0),
    )
    topic = where.topics.results(name)
    if failed:
        return Result(
            job=job,
            topic=topic,
            status=Status.DEAD_LETTERED,
            reason=Reason.BAD_REQUEST,
            message="no messages",
        )
    answer = Served(body=ANSWER, provider="local", model="m-1")
    return Result(job=job, topic=topic, status=Status.SUCCEEDED, served=answer)


async def end(where: Place, results: Iterable[Result | Encoded]) -> list[Any]:
    """Write them, many at a time; where each of them lies."""
    publisher = Publisher(where.kafka)
    try:
        records = [
            each if isinstance(each, Encoded) else where.codec.encode(each, 0) for each in results
        ]
        begun = [await publisher.begin(record, "result") for record in records]
        return [await publisher.outcome(each) for each in begun]
    finally:
        await publisher.close()


async def published(where: Place, count: int = 3) -> list[Any]:
    """Every record of the jobs topic, which has so many partitions."""
    jobs = from_the_first(partitions(where.topics.jobs, range(count)))
    return [record async for record in scan(where.kafka, jobs)]


def ids(records: Iterable[Any]) -> list[str]:
    """The job ids of published records."""
    return [dict(record.headers)["ce_id"].decode() for record in records]


async def take(client: AsyncClient, group: str, count: int) -> list[tuple[str, int]]:
    """Read so many, asking for one more than that never."""
    found: list[tuple[str, int]] = []
    async with asyncio.timeout(20):
        async for result in client.results(group):
            found.append((result.job_id, result.replays))
            if len(found) == count:
                break
    return found


async def following(stream: ResultStream, count: int) -> list[Read]:
    """The next so many results of a stream."""
    async with asyncio.timeout(30):
        return [await anext(stream) for _ in range(count)]
