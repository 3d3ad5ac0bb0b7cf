"""The promise itself: done is only what was acknowledged, and no call is made a second time."""

import asyncio

import pytest

from outlast.core.lifecycle import Hop
from outlast.core.progress import Progress
from outlast_schemas.job import Job
from tests.kafka.member import BOUND, corner, until
from tests.kafka.test_outbox import Desk, desk, mute, noise

pytestmark = pytest.mark.kafka


class Calls:
    """A stage that calls for each job, and writes what came of it to a topic."""

    def __init__(self, out: Desk, name: str) -> None:
        self.called: list[str] = []
        self._out, self._topic = out, out.topic(name)

    async def __call__(self, job: Job) -> None:
        self.called.append(job.id)
        await self._out.outbox.send([Hop(self._topic, job)])


async def test_no_job_is_done_before_what_it_wrote_is_acknowledged(kafka: str) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        heard, stage = mute(out.built[0]), Calls(out, "wide")
        member = await here.join(stage)
        await here.publish_all([("a", 0), ("b", 0)])
        await until(lambda: len(stage.called) == 2)
        async with asyncio.timeout(BOUND):
            while len(await out.values("wide")) < 2:
                await asyncio.sleep(0)  # soon in Kafka; but nobody has said so
        was_flushed = await member.assignment.commits.flush(5.0)
        committed = await here.committed()
        heard.set()
        await here.until_committed(Progress(2, 2))

        assert was_flushed
        assert committed == Progress(0, 2, (0, 1))
        assert stage.called == ["a", "b"]


async def test_a_call_is_not_made_again_however_often_the_write_of_its_end_is_refused(
    kafka: str,
) -> None:
    async with desk(kafka) as out, corner(kafka) as here:
        stage = Calls(out, "tiny")
        member = await here.join(stage)
        await here.publish("a", body=noise(2_000))
        await until(lambda: len(out.built) == 3)  # refused twice, and each time built anew
        assert stage.called == ["a"]
        await out.allow_large()

        await here.until_committed(Progress(1, 1))
        assert stage.called == ["a"]
        assert member.set_aside == []
        assert len(await out.values("tiny")) == 1
