"""When a provider that rejects jobs is itself the suspect.

Some outages answer 400 (Azure did so for twenty hours on 2026-03-09): a queue of good jobs would
end as dead letters. So a rejection that no rule knows is believed only while it hits few jobs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from outlast.core.policy import Target
from outlast_schemas.attempt import Attempt, VerdictWord

__all__ = ["Suspicion", "SuspicionPolicy", "refuted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspicionPolicy:
    """So many different ``jobs`` rejected in the same words within ``window_ms`` are suspicious.

    ``remembered`` rejections are looked at, and no more. A rejection that another provider refutes
    within ``refuted_ms`` speaks against who rejected.
    """

    jobs: int = 5
    window_ms: int = 60_000
    remembered: int = 200
    refuted_ms: int = 60_000


DEFAULT: Final = SuspicionPolicy()


@dataclass(frozen=True, slots=True)
class _Rejected:
    at: int
    model: str
    words: str
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """What one worker knows of one provider's rejections; every event gives the next value.

    Attributes:
        rejected: the latest, of jobs that were believed to be at fault.
        suspects: models, and the words of theirs that are not believed until they serve a job.
    """

    rejected: tuple[_Rejected, ...] = ()
    suspects: frozenset[tuple[str, str]] = frozenset()

    def saw_rejected(
        self, model: str, words: str, job_id: str, now: int, policy: SuspicionPolicy = DEFAULT
    ) -> "Suspicion":
        """A job was rejected in these words, and no rule knows them; ``now`` is epoch ms."""
        if self.is_suspect(model, words):
            return self
        kept = [each for each in self.rejected if each.at > now - policy.window_ms]
        kept = [*kept, _Rejected(now, model, words, job_id)][-policy.remembered :]
        alike = {each.job_id for each in kept if (each.model, each.words) == (model, words)}
        if len(alike) < policy.jobs:
            return replace(self, rejected=tuple(kept))
        return Suspicion(rejected=tuple(kept), suspects=self.suspects | {(model, words)})

    def saw_success(self, model: str) -> "Suspicion":
        """The model served a job: what it rejected was the jobs' fault."""
        if not self.rejected and not self.suspects:
            return self  # nearly always
        return Suspicion(
            rejected=tuple(each for each in self.rejected if each.model != model),
            suspects=frozenset(each for each in self.suspects if each[0] != model),
        )

    def is_suspect(self, model: str, words: str) -> bool:
        """Whether a job that is rejected so is better shown to another provider."""
        return (model, words) in self.suspects


def refuted(
    attempts: Iterable[Attempt], by: Target, now: int, policy: SuspicionPolicy = DEFAULT
) -> Iterator[Attempt]:
    """The calls of other providers that rejected, only just now, the job that ``by`` served."""
    for attempt in attempts:
        is_other = attempt.provider != by.provider
        is_fresh = now - (attempt.at + attempt.ms) <= policy.refuted_ms
        if attempt.verdict is VerdictWord.JOB_REJECTED and is_other and is_fresh:
            yield attempt
