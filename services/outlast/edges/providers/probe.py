"""The calls of a provider, and the probe that asks for what they showed a model to be for."""

import asyncio
from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Final

from outlast.core.breaker import ANSWERED
from outlast.core.capability import CHAT, EMBEDDINGS, Operation, can
from outlast.core.policy import Provider, Target
from outlast.core.verdict import Verdict
from outlast.edges.providers.family import probe_body
from outlast.ports import Call
from outlast_schemas.attempt import VerdictWord

__all__ = ["ProbedCall"]

PROBE_SECONDS: Final = 10.0


class ProbedCall:
    """Calls a provider for jobs, and probes it with what the jobs of a model ask for.

    No configuration says whether a model is for chat or for embeddings, and a model of one kind
    refuses the other however well it is: the kind is learnt from the calls.
    """

    def __init__(self, provider: Provider, models: Iterable[str], call: Call) -> None:
        """Know nothing yet.

        Args:
            provider: whose calls they are.
            models: its models that routes ask for; probes take turns with them.
            call: makes a call.
        """
        self._provider = provider
        self._call = call
        self._known: dict[str, Operation | None] = dict.fromkeys(models)
        self._turns = cycle(list(self._known))

    async def __call__(
        self,
        body: Mapping[str, object],
        target: Target,
        seconds_left: float,
        operation: Operation,
    ) -> Verdict:
        """Call once for a job, and learn from it."""
        verdict = await self._call(body, target, seconds_left, operation)
        known = self._known.get(target.model, operation)
        # A success proves it. A failure is the best there is to go by, until there is a success.
        if known != operation and (
            verdict.word is VerdictWord.SUCCEEDED or (known is None and verdict.evidence)
        ):
            self._known[target.model] = operation
        return verdict

    async def probe(self, named: str | None = None) -> Verdict:
        """One real call of one token, at this model, or at the provider's models in turn.

        Of a model that nothing is known of a completion is asked first. When that does not tell
        how the provider is, an embedding is asked within the same time: one that comes proves
        health, and where the model is not for chat, one that fails proves the contrary.
        """
        model = next(self._turns, None) if named is None else named
        if model is None:
            # Nothing to ask for: the next job is the probe.
            return Verdict(word=VerdictWord.SUCCEEDED, note="no route names a model of it")
        known = self._known.get(model)
        ends = asyncio.get_running_loop().time() + PROBE_SECONDS
        verdict = await self._asked(model, known or CHAT, ends)
        if known is not None or not self._is_undecided(verdict):
            return verdict
        second = await self._asked(model, EMBEDDINGS, ends)
        told = second.word is VerdictWord.SUCCEEDED or (
            second.evidence and verdict.word is VerdictWord.MISROUTED
        )
        return second if told else verdict

    def _is_undecided(self, verdict: Verdict) -> bool:
        """Whether an embedding could tell more: there are some, and the server answers at all."""
        if not can(self._provider.family, EMBEDDINGS) or verdict.status is None:
            return False
        return verdict.word is VerdictWord.MISROUTED or verdict.word not in ANSWERED

    async def _asked(self, model: str, operation: Operation, ends: float) -> Verdict:
        target = Target(self._provider.name, model)
        left = ends - asyncio.get_running_loop().time()
        verdict = await self._call(probe_body(model, operation), target, left, operation)
        if verdict.word is VerdictWord.SUCCEEDED:
            self._known[model] = operation
        return verdict
