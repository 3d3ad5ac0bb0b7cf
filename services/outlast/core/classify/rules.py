"""The tables: which code or phrase of which family means which verdict.

A family's rules come before the shared ones, and the first that fits counts. Facts are from the
providers' documents, client sources and issue threads as of November 2026; where none was found
the comment says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from outlast.core.classify.error_body import ErrorBody
from outlast_schemas.attempt import VerdictWord

__all__ = ["FAMILY_RULES", "SHARED_RULES", "Rule"]

LATER: Final = VerdictWord.RETRY_LATER
DOWN: Final = VerdictWord.PROVIDER_DOWN
BLOCKED: Final = VerdictWord.ACCOUNT_BLOCKED
REJECTED: Final = VerdictWord.JOB_REJECTED
TOO_LONG: Final = VerdictWord.CONTEXT_TOO_LONG
POLICY: Final = VerdictWord.CONTENT_POLICY
MISROUTED: Final = VerdictWord.MISROUTED
AMBIGUOUS: Final = VerdictWord.AMBIGUOUS


@dataclass(frozen=True, slots=True)
class Rule:
    """A verdict and what must all hold for it; an empty condition always holds.

    ``codes``: one of them stands in the error; ``phrases``: one of them stands in its text, both
    in lower case; ``statuses``: the answer has one of them.
    """

    word: VerdictWord
    codes: frozenset[str] = frozenset()
    phrases: tuple[str, ...] = ()
    statuses: frozenset[int] = frozenset()

    def fits(self, status: int, error: ErrorBody) -> bool:
        """Whether the rule speaks of this error."""
        if self.statuses and status not in self.statuses:
            return False
        if self.codes and not self.codes & error.codes:
            return False
        if not self.phrases:
            return True
        text = error.text.lower()
        return any(phrase in text for phrase in self.phrases)


def code(word: VerdictWord, *codes: str, on: tuple[int, ...] = ()) -> Rule:
    """A rule by machine-readable code, on some statuses only if ``on`` names any."""
    return Rule(word, codes=frozenset(codes), statuses=frozenset(on))


def phrase(word: VerdictWord, *phrases: str, on: tuple[int, ...] = ()) -> Rule:
    """A rule by what the text says, on some statuses only if ``on`` names any."""
    return Rule(word, phrases=phrases, statuses=frozenset(on))


OPENAI: Final = (
    code(REJECTED, "string_above_max_length", "unsupported_parameter", "unsupported_value"),
    # Larger than the whole window: no wait helps, a target with more room may.
    phrase(TOO_LONG, "request too large", on=(413, 429)),
    code(
        BLOCKED,
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",  # seen in client code only
        "account_deactivated",  # seen in client code only
        "unsupported_country_region_territory",
    ),
    phrase(POLICY, "violating our usage policy"),
    # A model of another operation: the key is good, the target is not.
    phrase(
        MISROUTED,
        "not allowed to sample from this model",
        "not allowed to generate embeddings from this model",
        on=(403,),
    ),
)

DEEPSEEK: Final = (
    # Its codes mislead (a missing balance is "invalid_request_error"): the text comes first.
    phrase(BLOCKED, "insufficient balance", on=(400, 402, 429)),
    phrase(POLICY, "content exists risk"),
    phrase(MISROUTED, "model not exist"),
)

ANTHROPIC: Final = (
    phrase(BLOCKED, "you have reached your specified", on=(400, 429)),
    phrase(BLOCKED, "credit balance is too low", on=(400,)),  # seen in client code only
    code(
        BLOCKED,
        "organization_on_hold",
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "billing_error",
    ),
    phrase(TOO_LONG, "prompt is too long"),
    code(LATER, "request_body_timeout", "conflict_error", "ramp_limit_exceeded"),
    code(REJECTED, "request_too_large"),
    code(AMBIGUOUS, "timeout_error"),
    code(MISROUTED, "not_found_error"),
    code(BLOCKED, "permission_error"),
    code(DOWN, "api_error"),
)

COMPATIBLE: Final = (
    # OpenRouter: our own calls in flight hold the budget, it is not gone.
    code(LATER, "openrouter_in_flight_budget"),
    phrase(POLICY, "moderation", "flagged", "guardrail", on=(403,)),
    # Together: 403 is input + max_tokens above the context (text seen in client code only).
    phrase(TOO_LONG, "max_new_tokens", "max_tokens", "context length", on=(403,)),
    # llama.cpp: a job's fault in the disguise of a 500.
    phrase(REJECTED, "mmproj", on=(500,)),
    # llama.cpp (500) and text-embeddings-inference (413): an input longer than a batch may be.
    phrase(TOO_LONG, "is too large to process", on=(500,)),
    phrase(TOO_LONG, "input length exceeds", on=(400, 413, 500)),  # Ollama, to embeddings
    phrase(TOO_LONG, "must have less than", on=(413,)),
    # Ollama and vLLM (400; vLLM now 501), llama.cpp (501), OpenRouter: a model for other work.
    phrase(
        MISROUTED,
        "does not support chat",
        "does not support completions",
        "does not support embeddings",
        "cannot be used with the chat/completions endpoint",
        "cannot be used with the embeddings endpoint",
        on=(400, 404, 501),
    ),
    code(MISROUTED, "operationnotsupported"),  # Azure, the same
    # Gemini; billing or region. Its 400 INVALID_ARGUMENT goes by the text, then by the status.
    code(BLOCKED, "failed_precondition", "api_key_invalid"),
    phrase(BLOCKED, "api key not valid", on=(400,)),
    code(DOWN, "model_capacity_exhausted"),
    code(AMBIGUOUS, "deadline_exceeded"),
    # DashScope
    code(BLOCKED, "arrearage", "accessdenied", "accessdenied.unpurchased", "invalidapikey"),
    phrase(BLOCKED, "free allocated quota exceeded"),
    # Kimi
    code(BLOCKED, "exceeded_current_quota_error"),
    code(DOWN, "engine_overloaded_error"),
    phrase(TOO_LONG, "exceeded model token limit"),
    # Azure: the capacity of the provider, not our limit.
    phrase(DOWN, "experiencing high demand", on=(429,)),
    # Azure and gateways pass OpenAI's own codes on; Groq borrows its words.
    *OPENAI,
)

SHARED_RULES: Final = (
    code(TOO_LONG, "context_length_exceeded", "exceed_context_size_error"),
    phrase(
        TOO_LONG,
        "maximum context length is",
        "maximum input length is",  # OpenAI, of one among many inputs to embed
        "is longer than the model's context length",
        "exceeds the available context size",
        "exceeds the maximum number of tokens allowed",
        "prompt is too long",
        "exceed context limit",
        on=(400, 413, 422),
    ),
    code(
        POLICY,
        "content_policy_violation",
        "content_filter",
        "responsibleaipolicyviolation",
        "datainspectionfailed",
        "data_inspection_failed",
    ),
    code(MISROUTED, "model_not_found", "deploymentnotfound"),
    code(BLOCKED, "invalid_api_key", "authentication_error"),
    code(
        DOWN,
        "overloaded_error",
        "server_is_overloaded",
        "service_unavailable_error",
        "unavailable_error",
    ),
    code(LATER, "rate_limit_exceeded", "rate_limit_error", "rate_limit_reached_error", "slow_down"),
    # Left: an error inside a 200 that names nothing known. It is no success, and no status helps.
    Rule(DOWN, statuses=frozenset({200})),
)

FAMILY_RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "compatible": COMPATIBLE,
    "openai": OPENAI,
    "deepseek": DEEPSEEK,
    "anthropic": ANTHROPIC,
}
