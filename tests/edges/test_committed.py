"""A coordinator that is still loading names no partition: that is not "nothing committed"."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupLoadInProgressError, KafkaError, NotCoordinatorForGroupError
from aiokafka.structs import OffsetAndMetadata

from outlast.edges.kafka import private
from outlast.edges.kafka.beginnings import committed

TP = TopicPartition("t", 0)
NOT_COORDINATOR, LOADING, NOT_AUTHORISED = 16, 14, 30


class Coordinator:
    """Answers as a group coordinator does (OffsetFetch, version 3)."""

    group_id = "g"

    def __init__(self, error_code: int, topics: list[Any]) -> None:
        self.is_dead = False
        self._answer = SimpleNamespace(error_code=error_code, topics=topics)

    async def ensure_coordinator_known(self) -> None:
        """It is."""

    async def _send_req(self, request: object) -> object:
        return self._answer

    def coordinator_dead(self) -> None:
        """It is looked for anew."""
        self.is_dead = True


def consumer(coordinator: Coordinator) -> Any:
    return SimpleNamespace(_coordinator=coordinator)


@pytest.mark.parametrize(
    ("code", "error", "is_dead"),
    [
        (NOT_COORDINATOR, NotCoordinatorForGroupError, True),
        (LOADING, GroupLoadInProgressError, False),
        (NOT_AUTHORISED, KafkaError, False),
    ],
)
async def test_an_error_of_the_whole_answer_is_raised(
    code: int, error: type[KafkaError], is_dead: bool
) -> None:
    coordinator = Coordinator(code, [])

    with pytest.raises(error):
        await private.committed(consumer(coordinator), [TP])
    assert coordinator.is_dead is is_dead


async def test_a_partition_without_a_commit_is_absent() -> None:
    answer = Coordinator(0, [("t", [(0, 7, "o1.", 0), (1, -1, "", 0)])])

    found = await private.committed(consumer(answer), [TP, TopicPartition("t", 1)])

    assert found == {TP: (7, "o1.")}


async def test_an_answer_that_names_no_partition_is_asked_for_again() -> None:
    answers = [{}, {}, {TP: OffsetAndMetadata(-1, "")}]

    class Admin:
        async def list_consumer_group_offsets(self, group: str, partitions: object) -> object:
            return answers.pop(0)

    found = await committed("g", [TP], Admin())

    assert found == {}
    assert answers == []
