"""This process's part of a provider's pool: its permits, what it saw, its probes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import structlog

from outlast.core.errors import Released
from outlast.core.limits import share
from outlast.core.verdict import Verdict
from outlast.edges.clock import BrokerClock
from outlast.edges.kafka.assignment import Assignment
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.health import EVERY_MODEL, Health
from outlast_schemas.job import Job
from outlast_schemas.vitals import Vitals

__all__ = ["ProviderPool", "Share"]

log = structlog.get_logger()

EVERY_SECONDS: Final = 1.0
URGENT_STREAK: Final = 5
"""So many failures in a row are told at once, not with the next window."""
REMEMBERED: Final = 200
RECENT_MS: Final = 30_000
WELL_BELOW: Final = 0.10
TOLD_EVERY_MS: Final = 60_000
MENDED_BY: Final = {
    VerdictWord.ACCOUNT_BLOCKED: ("work.account_blocked", "api_key_env, and the account's balance"),
    VerdictWord.MISROUTED: ("work.misrouted", "base_url, and the models in the routes' targets"),
}
"""Verdicts that pass by no waiting, and the settings that cause them."""


class Share:
    """How many of a pool's permits this process has, by the partitions it owns."""

    def __init__(self, assignment: Assignment, topic: str, limit: int, most: int) -> None:
        """``limit`` is the whole pool's; ``most`` this process's own bound."""
        self._assignment = assignment
        self._topic = topic
        self._limit = limit
        self._most = most
        self._epoch = (-1, -1, -1)
        self._permits = 0

    def __call__(self) -> int:
        """The permits; counted anew only when something moved.

        A call that a lender still makes counts here, where its partition is, and not there.
        """
        records = self._assignment.records
        if not records.marks:
            return 0  # nor need there be a consumer yet
        # Nothing is known of a topic that is gone: then none of its jobs are here either.
        count = len(self._assignment.consumer.partitions_for_topic(self._topic) or ())
        epoch = (self._assignment.epoch, records.version, count)
        if self._epoch != epoch:
            self._epoch = epoch
            self._permits = max(0, min(self._most, self._counted(count)))
        return self._permits

    def _counted(self, count: int) -> int:
        """By partition, so that what was lent never takes more than its partition has."""
        counted, owned = 0, self._assignment.owned
        for tp, mark in self._assignment.records.marks.items():
            if tp.topic == self._topic:
                permits = share(self._limit, count, [tp.partition])
                if tp in owned:
                    counted += permits - min(mark.lent, permits)
                else:
                    counted += min(mark.running, permits)
        return counted


class ProviderPool:
    """Permits for calls, and the window of outcomes that becomes the next vitals."""

    def __init__(
        self,
        *,
        provider: str,
        worker: str,
        clock: BrokerClock,
        share: Callable[[], int],
        tell: Callable[[Vitals], Awaitable[None]],
        probe: Callable[[], Awaitable[Verdict]],
        resting: Callable[[Job], AbstractAsyncContextManager[None]],
    ) -> None:
        """Prepare; nothing is told until :meth:`run`.

        Args:
            provider: whose pool it is.
            worker: this process's incarnation, by which a prober is named.
            clock: broker time.
            share: how many of the pool's permits this process has now.
            tell: writes vitals.
            probe: one real call of one token.
            resting: a context in which a job waits.
        """
        self._provider = provider
        self._worker = worker
        self._clock = clock
        self._share = share
        self._tell = tell
        self._probe = probe
        self._resting = resting
        self._calls = 0
        self._is_letting_go = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._recent: deque[tuple[int, str, bool]] = deque(maxlen=REMEMBERED)
        self._succeeded = self._failures = self._streak = 0
        self._served = self._failed = 0
        self._note: str | None = None
        self._told: dict[VerdictWord, int] = {}
        self._urgent = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None
        self._probed: str | None = None
        self._probe_at: int | None = None

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return self._calls

    @asynccontextmanager
    async def calling(self, job: Job) -> AsyncIterator[None]:
        """Hold a permit; the job rests until it has one, when this process's share is taken.

        Raises ``Released`` when the pool lets go, or the job's partition moves away.
        """
        if self._calls >= self._share() or self._waiting:
            await self._waited(job)
        else:
            self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._grant()

    async def _waited(self, job: Job) -> None:
        if self._is_letting_go:
            raise Released
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._grant()
        try:
            async with self._resting(job):
                await turn
        except BaseException:
            self._give_back(turn)
            raise

    def _give_back(self, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self._calls -= 1
            self._grant()
        else:
            turn.cancel()

    def let_go(self) -> None:
        """Who waits for a permit is not to wait any more: the process drains."""
        self._is_letting_go = True
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(Released())
        self._waiting.clear()

    def grant(self) -> None:
        """There may be more permits than before."""
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._calls < self._share():
            turn = self._waiting.popleft()
            if not turn.done():
                self._calls += 1
                turn.set_result(None)

    def ended(self, job_id: str, verdict: Verdict) -> None:
        """Count what the call says of the provider."""
        failed = verdict.evidence
        self._tell_operator(verdict)
        self._recent.append((self._clock.now(), job_id, failed))
        if verdict.word is VerdictWord.SUCCEEDED:
            self._succeeded += 1
            self._served += 1
            self._streak = 0
        elif failed:
            self._failures += 1
            self._failed += 1
            self._streak += 1
            self._note = verdict.note
            if self._streak == URGENT_STREAK:
                self._urgent.set()

    def _tell_operator(self, verdict: Verdict) -> None:
        """What only an operator can mend, once a minute: the jobs go elsewhere, or wait."""
        if verdict.word not in MENDED_BY:
            return
        now = self._clock.now()
        if now - self._told.get(verdict.word, 0) < TOLD_EVERY_MS:
            return
        self._told[verdict.word] = now
        event, setting = MENDED_BY[verdict.word]
        look_at = f"providers.{self._provider}.{setting}"
        log.error(event, provider=self._provider, note=verdict.note, look_at=look_at)

    def does_well(self, job_id: str) -> bool:
        """Whether under 10 % of the others' calls of the last 30 s failed, and some were made."""
        since = self._clock.now() - RECENT_MS
        others = [failed for at, job, failed in self._recent if at >= since and job != job_id]
        return bool(others) and sum(others) / len(others) < WELL_BELOW

    async def run(self) -> None:
        """Tell what was seen, every second and when it is urgent, until cancelled."""
        while True:
            await self._tell(self._window())
            self._grant()
            try:
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._urgent.wait()
            except TimeoutError:
                continue

    def _window(self) -> Vitals:
        self._urgent.clear()
        window = Vitals(
            provider=self._provider,
            worker=self._worker,
            at=self._clock.now(),
            succeeded=self._succeeded,
            failures=self._failures,
            streak=self._streak,
            note=self._note,
            probe=self._probed,
            in_flight=self._calls,
            limit=self._share(),
            served=self._served,
            failed=self._failed,
        )
        self._succeeded = self._failures = self._streak = 0
        self._note = self._probed = None
        return window

    def saw(self, before: Health | None, after: Health) -> None:
        """A new verdict: when it names this worker, probe at the time it says."""
        verdict = after.models.get(EVERY_MODEL)
        if after.provider != self._provider or verdict is None:
            return
        mine = verdict.prober == self._worker and verdict.probe_at is not None
        if not mine or verdict.probe_at == self._probe_at:
            return
        self._probe_at = verdict.probe_at
        if self._probing is not None:
            self._probing.cancel()
        self._probing = asyncio.ensure_future(self._probe_once(verdict.probe_at or 0))

    async def _probe_once(self, at: int) -> None:
        await asyncio.sleep(max(0.0, (at - self._clock.now()) / 1000))
        # Without a permit: hung calls may hold them all, and the fleet makes one probe at a time.
        verdict = await self._probe()
        log.info(
            "work.probed", provider=self._provider, verdict=verdict.word.value, note=verdict.note
        )
        self._probed = verdict.word.value
        self._urgent.set()

    def stop(self) -> None:
        """Give up a probe that is under way."""
        if self._probing is not None:
            self._probing.cancel()
