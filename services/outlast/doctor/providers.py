"""What one real call of one token says of a provider."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from outlast.core.facts import Called
from outlast.core.verdict import Verdict
from outlast.doctor.finding import Check, Finding, Severity, advice, problem
from outlast_schemas.attempt import VerdictWord

__all__ = ["called"]

REMEDIES: Final[Mapping[VerdictWord, tuple[Severity, str]]] = {
    VerdictWord.SUCCEEDED: (Severity.OK, ""),
    VerdictWord.RETRY_LATER: (
        Severity.ADVICE,
        "it works and is throttled now: lower limits.concurrency if this lasts",
    ),
    VerdictWord.PROVIDER_DOWN: (
        Severity.PROBLEM,
        "see the provider's status page, and whether base_url ({base_url}) is right and reachable",
    ),
    VerdictWord.ACCOUNT_BLOCKED: (
        Severity.PROBLEM,
        "see that the key is the right one and the account has balance",
    ),
    VerdictWord.MISROUTED: (
        Severity.PROBLEM,
        "see that base_url ({base_url}) and the model's name in the routes are right",
    ),
    VerdictWord.AMBIGUOUS: (
        Severity.PROBLEM,
        "it took the call and did not answer in time: try again, or see its status page",
    ),
    VerdictWord.JOB_REJECTED: (
        Severity.ADVICE,
        "it answers, and not to a chat request of one token: see that the model is a chat model",
    ),
    VerdictWord.CONTEXT_TOO_LONG: (
        Severity.ADVICE,
        "it answers, and finds one word too long: see that the model is a chat model",
    ),
    VerdictWord.CONTENT_POLICY: (Severity.ADVICE, "it answers, and will not say `ping`"),
}
ABOVE: Final = "see what stands above about keys"


def called(calls: Iterable[Called]) -> Iterator[Finding]:
    """A finding for each provider that was called, or could not be."""
    for call in calls:
        if call.model is None:
            yield advice(
                Check.PROVIDERS,
                f"{call.provider}: not called, no route names a model of it",
                "name one in the targets of a route",
            )
        elif call.verdict is None:
            yield problem(Check.PROVIDERS, f"{call.provider}: not called without its key", ABOVE)
        else:
            yield _judged(call, call.verdict)


def _judged(call: Called, verdict: Verdict) -> Finding:
    severity, remedy = REMEDIES[verdict.word]
    status = f" ({verdict.status})" if verdict.status is not None else ""
    note = f": {verdict.note}" if verdict.note else ""
    return Finding(
        check=Check.PROVIDERS,
        severity=severity,
        what=f"{call.provider}/{call.model} {verdict.word.value}{status} "
        f"in {call.seconds:.2f} s{note}",
        remedy=remedy.format(base_url=call.base_url),
    )
