"""A job that cannot be served, kept whole so that an operator can replay it."""

from dataclasses import dataclass
from enum import StrEnum

from outlast_schemas.job import Job

__all__ = ["DeadLetter", "Reason"]


class Reason(StrEnum):
    """Why a job was set aside; the list is closed."""

    NOT_JSON = "not_json"
    BAD_REQUEST = "bad_request"
    BAD_HEADER = "bad_header"
    TOO_LARGE = "too_large"
    UNKNOWN_ROUTE = "unknown_route"
    SCOPE = "scope"
    NO_CAPABLE_TARGET = "no_capable_target"
    JOB_REJECTED = "job_rejected"
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_POLICY = "content_policy"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    AMBIGUOUS = "ambiguous"
    ANSWER_TOO_LARGE = "answer_too_large"
    CONFLICT = "conflict"
    POISON = "poison"
    INTERNAL_ERROR = "internal_error"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """The job's own record, with why (``reason``), more about it (``detail``) and from where."""

    job: Job
    reason: Reason
    detail: str
