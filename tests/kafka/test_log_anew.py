"""A topic that is deleted and made anew under live members: other records, none of them done."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code
from structlog.testing import capture_logs

from outlast.core.progress import Progress
from outlast.edges.kafka.loading import BeginAt
from tests.kafka.member import Corner, Stage, Waits, corner, until

pytestmark = pytest.mark.kafka

Logs = list[MutableMapping[str, Any]]


async def delete(here: Corner) -> None:
    await here.where.admin.delete_topics([here.topic])


async def create(here: Corner) -> None:
    topic = NewTopic(here.topic, 1, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})
    async with asyncio.timeout(10.0):
        while True:  # a deletion takes its time
            answer = await here.where.admin.create_topics([topic])
            error = for_code(answer.topic_errors[0][1])
            if error is not TopicAlreadyExistsError:
                break
            await asyncio.sleep(0.05)
    assert answer.topic_errors[0][1] == 0, error


async def begin_anew_unnoticed(here: Corner) -> None:
    """The group agrees upon nothing anew: its only member fetches on, and finds another log."""
    consumer = here.members[0].assignment.consumer
    consumer._client.cluster.remove_listener(consumer._coordinator._handle_metadata_update)
    await delete(here)
    await create(here)


async def begin_anew_seen(here: Corner) -> None:
    """The only member sees the topic go, and another come."""
    [member] = here.members
    await delete(here)
    await until(lambda: not member.assignment.owned)
    await create(here)


def told(logs: Logs, event: str) -> Logs:
    return [each for each in logs if each["event"] == event]


async def test_all_records_of_the_new_log_run_and_what_ends_of_the_old_one_marks_nothing(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        stage, tp = Stage(), TopicPartition(here.topic, 0)
        with capture_logs() as logs:
            member = await here.join(stage)
            await here.publish_all((f"old{number}", 0) for number in range(4))
            await until(lambda: len(stage.started) == 4)
            stage.let_go("old0", "old1")
            await here.until_committed(Progress(2, 4, (2, 3)))
            await begin_anew_unnoticed(here)
            await here.publish_all((f"new{number}", 0) for number in range(3))
            await until(lambda: len(stage.started) == 7)
            assert [each["topic"] for each in told(logs, "feed.log_began_anew")] == [here.topic]
            stage.let_go("old2", "old3")
            await until(lambda: "old3" in stage.ended)
            await here.until_committed(Progress(0, 3, (0, 1, 2)))
            await until(lambda: member.assignment.commits.floor(tp) == 0)  # the ack is on its way
            stage.let_go("new1")
            await here.until_committed(Progress(0, 3, (0, 2)))
            stage.let_go()

            await here.until_committed(Progress(3, 3))
        assert stage.started[4:] == ["new0", "new1", "new2"]
        assert told(logs, "feed.records_lost") == []


@pytest.mark.parametrize("begin_at", ["earliest", None])
async def test_when_the_group_saw_the_topic_go_all_of_the_new_one_runs_whatever_its_length(
    kafka: str, begin_at: BeginAt | None
) -> None:
    async with corner(kafka) as here:
        stage = Stage()
        with capture_logs() as logs:
            member = await here.join(stage, begin_at=begin_at)
            await here.publish_all([("old0", 0), ("old1", 0)])
            await until(lambda: len(stage.started) == 2)
            stage.let_go("old0")
            await here.until_committed(Progress(1, 2, (1,)))
            await begin_anew_seen(here)
            await here.publish_all((f"new{number}", 0) for number in range(5))
            # within minutes it would hear of it by itself
            await member.assignment.consumer._client.force_metadata_update()
            await until(lambda: len(stage.started) == 7 or member.assignment.fatal)
            assert member.assignment.fatal is None
            stage.let_go("old1")
            await until(lambda: "old1" in stage.ended)
            await here.until_committed(Progress(0, 5, (0, 1, 2, 3, 4)))
            stage.let_go()

            await here.until_committed(Progress(5, 5))
        assert stage.started[2:] == [f"new{number}" for number in range(5)]
        assert [each["topic"] for each in told(logs, "feed.log_began_anew")] == [here.topic]


async def test_what_waited_in_the_old_log_and_waits_in_the_new_one_do_not_disturb_each_other(
    kafka: str,
) -> None:
    async with corner(kafka) as here:
        stage = Waits(open=True)
        with capture_logs() as logs:
            await here.join(stage)
            await here.publish_all([("old0", 0), ("old1", 0)])
            await until(lambda: stage.waiting == {"old0", "old1"})
            await begin_anew_unnoticed(here)
            await here.publish("new0")
            await until(lambda: stage.waiting == {"old0", "old1", "new0"})
            stage.permit("old0")
            await until(lambda: stage.ended == ["old0"])
            await here.until_committed(Progress(0, 1, (0,)))
            stage.permit("new0")

            await here.until_committed(Progress(1, 1))
            assert stage.started == ["old0", "new0"]
            assert told(logs, "feed.stage_raised") == []
