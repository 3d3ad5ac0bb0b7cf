"""Whether a provider's rejections can be believed, and what refutes those of others."""

from outlast.core.policy import Target
from outlast.core.suspicion import Suspicion
from outlast.core.verdict import Verdict
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.vitals import Vitals, Window

__all__ = ["Rejections"]


class Rejections:
    """What this process saw of them. Instants are epoch ms."""

    def __init__(self, provider: str, worker: str) -> None:
        """``provider`` is whose pool it is, ``worker`` this process's incarnation."""
        self._provider = provider
        self._worker = worker
        self._suspicion = Suspicion()
        self._refuted: list[tuple[Target, str]] = []

    def ended(self, model: str, job_id: str, verdict: Verdict, now: int) -> None:
        """A call of the own provider has ended."""
        if verdict.word is VerdictWord.SUCCEEDED:
            self._suspicion = self._suspicion.saw_success(model)
        elif verdict.words is not None:
            self._suspicion = self._suspicion.saw_rejected(model, verdict.words, job_id, now)

    def is_suspect(self, model: str, verdict: Verdict) -> bool:
        """Whether this rejection is more likely the provider's fault than the job's."""
        return verdict.words is not None and self._suspicion.is_suspect(model, verdict.words)

    def refuted(self, target: Target, note: str | None) -> None:
        """The own provider served a job that this target had just rejected."""
        self._refuted.append((target, f"{self._provider} served what it rejected: {note}"))

    def take(self, now: int) -> list[Vitals]:
        """What speaks against others since this was asked last.

        It comes from nobody's worker: it has no limit, and is named after whose pool found it.
        """
        refuted, self._refuted = self._refuted, []
        worker = f"{self._worker}/{self._provider}"
        return [
            Vitals(
                provider=target.provider,
                worker=worker,
                at=now,
                note=note,
                models={target.model: Window(misrouted=1, note=note)},
            )
            for target, note in refuted
        ]
