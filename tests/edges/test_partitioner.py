"""The same place for a key as every other client of Kafka gives it."""

import pytest
from aiokafka import partitioner as theirs
from hypothesis import given
from hypothesis import strategies as st

from outlast.edges.kafka.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [  # as Kafka's own tests have them (UtilsTest.testMurmur2)
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_it_is_the_hash_of_kafkas_own_clients(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


@given(st.binary(max_size=200))
def test_it_is_aiokafkas_for_any_key(key: bytes) -> None:
    assert murmur2(key) == theirs.murmur2(key) & 0xFFFFFFFF


@given(st.binary(max_size=40), st.integers(1, 500))
def test_a_partition_is_one_of_the_topics(key: bytes, partitions: int) -> None:
    chosen = theirs.DefaultPartitioner()(key, list(range(partitions)), [])

    assert partition_of(key, partitions) == chosen
