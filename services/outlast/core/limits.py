"""A pool's limit, split over its workers by the partitions each owns: no shared store."""

from collections.abc import Collection

__all__ = ["share"]


def share(limit: int, partitions: int, owned: Collection[int]) -> int:
    """How many of ``limit`` permits the owner of ``owned`` partitions has.

    Every partition has ``limit // partitions`` permits and the first ``limit % partitions`` of
    them one more (largest remainder; all remainders are equal, ties go by partition number), so
    that the shares of any split add up to exactly ``limit``.
    """
    if partitions <= 0:
        return 0
    whole, rest = divmod(limit, partitions)
    return sum(whole + (partition < rest) for partition in owned)
