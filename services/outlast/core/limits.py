"""A pool's limits, split over its workers by the partitions each owns: no shared store."""

from collections.abc import Collection
from dataclasses import dataclass
from math import ceil
from typing import Final

__all__ = ["Bucket", "Rate", "rotated_share", "share"]

MINUTE_MS: Final = 60_000
PACE: Final = 0.975
"""How much of its share a bucket gains. What it may hold at the start of a minute comes on top:
the two together stay within 2 % of the limit, and alone this is above the 95 % to be reached."""
BURST_MS: Final = 500
"""A full bucket holds what it gains in this time, and one request at least."""
LATE_MS: Final = 250
"""What it gains beyond that is kept for so long: who waits for it wakes up late."""
ROUNDING: Final = 1e-6
"""So little may be missing: the sum of many small gains is not exact."""


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


def rotated_share(limit: int, partitions: int, owned: Collection[int], turn: int) -> int:
    """The same where there are fewer permits than partitions: then they go round.

    ``turn`` rises with time. With each turn one permit moves, from the first partition that has
    one to the next that has none, so that each partition has its turns and no more calls than
    one are under way on a permit that has moved. In any one turn the shares of any split add up
    to exactly ``limit``. With as many permits as partitions or more nothing moves.
    """
    if limit >= partitions:
        return share(limit, partitions, owned)
    return sum((partition - turn) % partitions < limit for partition in owned)


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests, or how many tokens, a whole pool may take in a minute."""

    per_minute: int

    def share(self, partitions: int, owned: Collection[int]) -> float:
        """How many a minute the owner of ``owned`` partitions may take.

        The shares of any split add up to the limit. They are whole numbers wherever each partition
        can have one: of workers with two and a half requests a minute each could start a third.
        """
        if partitions <= 0:
            return 0.0
        if self.per_minute >= partitions:
            return float(share(self.per_minute, partitions, owned))
        return self.per_minute * len(owned) / partitions


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one worker may take of a rate just now; every event gives the next value.

    It gains a little less than its share, and holds half a second's worth, or one request. A
    larger job is let through when the bucket is full, and leaves a debt that is worked off before
    the next. So n workers together take in any minute at most the limit and 2 % of it, and of each
    of them one request, or its largest job, more; and of requests not even that as long as no
    share changes.

    Attributes:
        at: epoch ms, up to which all gains are in ``level``.
        per_minute: the share.
        level: what may be taken; below 0 it is a debt.
    """

    at: int
    per_minute: float = 0.0
    level: float = 0.0

    @property
    def capacity(self) -> float:
        """How much a full bucket holds: who needs more waits until it is full."""
        return max(1.0, self.per_minute * BURST_MS / MINUTE_MS)

    @property
    def _most(self) -> float:
        return self.capacity + self.per_minute * LATE_MS / MINUTE_MS

    def level_at(self, now: int) -> float:
        """What may be taken at ``now`` (epoch ms); a clock that steps back gives nothing twice."""
        gained = self.per_minute * PACE * max(0, now - self.at) / MINUTE_MS
        return min(self._most, self.level + gained)

    def refilled(self, now: int) -> "Bucket":
        """The bucket with all that it has gained until now."""
        return self._with(self.level_at(now), now)

    def may_take(self, amount: float, now: int) -> bool:
        """Whether so much may be taken now."""
        return self.per_minute > 0 and self._missing(amount, now) <= ROUNDING

    def wait_ms(self, amount: float, now: int) -> int | None:
        """How long until so much may be taken, if nobody else takes any; ``None`` is never."""
        if self.per_minute <= 0:
            return None
        missing = self._missing(amount, now)
        if missing <= ROUNDING:
            return 0
        return ceil(missing * MINUTE_MS / (self.per_minute * PACE))

    def _missing(self, amount: float, now: int) -> float:
        return min(amount, self.capacity) - self.level_at(now)

    def taken(self, amount: float, now: int) -> "Bucket":
        """The bucket after so much was taken. Raises ``ValueError`` where it may not be.

        What was used without asking, as a probe does, is ``settled(0, used, now)``.
        """
        if not self.may_take(amount, now):
            raise ValueError(f"{amount:g} may not be taken: there is {self.level_at(now):g}")
        return self._with(self.level_at(now) - amount, now)

    def settled(self, reserved: float, used: float, now: int) -> "Bucket":
        """The bucket once it is known what a call has used of what was taken for it.

        The rest comes back, as far as the bucket can hold it; what was used beyond is owed.
        """
        return self._with(self.level_at(now) + reserved - used, now)

    def forgiven(self, amount: float, now: int) -> "Bucket":
        """The bucket once so much of what was taken was only taken to be sure.

        It pays what is owed, and gives nothing to take: what was held up by it in the meantime is
        not made up for, or a later minute would have too much.
        """
        level = self.level_at(now)
        return self._with(max(level, min(0.0, level + amount)), now)

    def resized(self, per_minute: float, now: int) -> "Bucket":
        """The bucket with another share: partitions came or went.

        What comes starts empty, for its last owner may just have taken what it had; what goes
        takes its part of the level along. A debt stays.
        """
        level = self.level_at(now)
        if level > 0 and per_minute < self.per_minute:
            level *= per_minute / self.per_minute
        return Bucket(self.at, per_minute)._with(level, now)

    def _with(self, level: float, now: int) -> "Bucket":
        return Bucket(max(self.at, now), self.per_minute, min(level, self._most))
