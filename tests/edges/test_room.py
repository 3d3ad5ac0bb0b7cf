"""Room: shared by a topic's partitions, or divided among them."""

import pytest
from aiokafka import TopicPartition

from outlast.edges.kafka.room import Room

A, B, OTHER = TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("u", 0)


def filled(room: Room, tp: TopicPartition, size: int = 1) -> int:
    """How many of that size it takes."""
    count = 0
    while room.is_in(tp):
        room.enters(tp, size)
        count += 1
    return count


def test_the_partitions_of_a_topic_share_its_room() -> None:
    room = Room(lambda: 4)
    room.look()
    assert (filled(room, A), filled(room, B), filled(room, OTHER)) == (4, 0, 4)
    room.leaves(A, 1)
    assert room.is_in(B)


def test_where_it_is_divided_none_takes_what_another_leaves() -> None:
    room = Room(lambda: 4, parts=lambda: 2)
    room.look()
    assert (filled(room, A), filled(room, B)) == (2, 2)
    room.leaves(A, 1)
    assert not room.is_in(B)
    assert room.is_in(A)


def test_the_bytes_are_divided_too_and_one_always_has_room() -> None:
    room = Room(lambda: 100, body_bytes=100, parts=lambda: 2)
    room.look()
    assert (filled(room, A, size=30), filled(room, B, size=1_000)) == (2, 1)


@pytest.mark.parametrize(("jobs", "expected"), [(0, 0), (1, 1), (5, 1)])
def test_each_part_has_room_for_one_unless_there_is_none_at_all(jobs: int, expected: int) -> None:
    room = Room(lambda: jobs, parts=lambda: 12)
    room.look()
    assert filled(room, A) == expected


def test_it_is_crowded_as_soon_as_one_part_is_full() -> None:
    room = Room(lambda: 4, parts=lambda: 2)
    room.look()
    filled(room, A)
    assert room.is_crowded
    room.leaves(A, 1)
    assert not room.is_crowded
