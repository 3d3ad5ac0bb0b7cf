"""The names of the headers: CloudEvents 1.0 in binary mode, and our own."""

from typing import Final

ID: Final = "ce_id"
TYPE: Final = "ce_type"
SOURCE: Final = "ce_source"
SUBJECT: Final = "ce_subject"
TIME: Final = "ce_time"
SPECVERSION: Final = "ce_specversion"
CONTENT_TYPE: Final = "content-type"

ROUTE: Final = "outlast-route"
OPERATION: Final = "outlast-operation"
DEADLINE: Final = "outlast-deadline"
TTL_SECONDS: Final = "outlast-ttl-seconds"
SCOPE: Final = "outlast-scope"
ON_AMBIGUOUS: Final = "outlast-on-ambiguous"
RESULTS: Final = "outlast-results"
TENANT: Final = "outlast-tenant"
LANE: Final = "outlast-lane"
REPLAY: Final = "outlast-replay"

STATE: Final = "outlast-state"
KEY: Final = "outlast-key"

STATUS: Final = "outlast-status"
REPLAYS: Final = "outlast-replays"
PROVIDER: Final = "outlast-provider"
MODEL: Final = "outlast-model"
ATTEMPTS: Final = "outlast-attempts"
PROMPT_TOKENS: Final = "outlast-prompt-tokens"
COMPLETION_TOKENS: Final = "outlast-completion-tokens"
COST: Final = "outlast-cost"

REASON: Final = "outlast-reason"
DETAIL: Final = "outlast-detail"
FROM: Final = "outlast-from"

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

JOB_TYPE: Final = "outlast.job.v1"
RESULT_TYPE: Final = "outlast.result.v1"

OURS: Final = ("ce_", "outlast-")
"""Prefixes of the headers that mean something to Outlast; all others pass through untouched."""

Headers = tuple[tuple[str, bytes | None], ...]
"""Headers in the order they came; Kafka allows a value to be null."""
