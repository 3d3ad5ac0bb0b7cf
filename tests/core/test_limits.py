"""The shares of a pool's workers add up to its limit, whoever owns what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.limits import share


@pytest.mark.parametrize(
    ("limit", "partitions", "owned", "expected"),
    [
        (12, 12, range(12), 12),
        (12, 12, [], 0),
        (500, 12, range(12), 500),
        # 500 = 12 * 41 + 8: the first eight partitions carry one more
        (500, 12, [0], 42),
        (500, 12, [7], 42),
        (500, 12, [8], 41),
        (500, 12, [11], 41),
        (500, 12, [0, 8, 11], 124),
        # fewer permits than partitions: the last ones carry none
        (2, 3, [0], 1),
        (2, 3, [2], 0),
        (0, 12, range(12), 0),
        # before the topic is known nobody may call
        (10, 0, [], 0),
        (10, 0, [0], 0),
    ],
)
def test_a_partition_carries_an_even_share_and_the_first_ones_the_rest(
    limit: int, partitions: int, owned: list[int], expected: int
) -> None:
    assert share(limit, partitions, owned) == expected


@given(
    limit=st.integers(0, 5_000),
    owners=st.lists(st.integers(0, 5), min_size=1, max_size=60),
)
def test_the_shares_of_any_split_add_up_to_exactly_the_limit(limit: int, owners: list[int]) -> None:
    split = [
        [partition for partition, owner in enumerate(owners) if owner == worker]
        for worker in range(6)
    ]
    shares = [share(limit, len(owners), owned) for owned in split]

    assert sum(shares) == limit


@given(limit=st.integers(0, 5_000), partitions=st.integers(1, 60))
def test_no_two_partitions_differ_by_more_than_one_permit(limit: int, partitions: int) -> None:
    shares = [share(limit, partitions, [partition]) for partition in range(partitions)]

    assert max(shares) - min(shares) <= 1
