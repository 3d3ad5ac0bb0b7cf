"""How a run of a job ended, as backends read it from the result topics."""

from dataclasses import dataclass
from enum import StrEnum

from outlast_schemas.dead_letter import Reason
from outlast_schemas.job import Job

__all__ = ["Result", "Served", "Status"]


class Status(StrEnum):
    """The four ways a run can end."""

    SUCCEEDED = "succeeded"
    DEAD_LETTERED = "dead_lettered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The provider's answer, and who gave it.

    ``body`` is OpenAI's ``chat.completion`` object, or its list of embeddings, as bytes; ``cost``
    is in US dollars, as the provider named it or by the configured price. What is not known is
    ``None``.
    """

    body: bytes
    provider: str
    model: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The end of one run: ``served`` when it succeeded, else a reason and what to say about it."""

    job: Job
    topic: str
    status: Status
    served: Served | None = None
    reason: Reason | None = None
    message: str | None = None
    verdict: str | None = None

    def error_json(self) -> dict[str, object]:
        """The OpenAI-shaped error body of a run that did not succeed."""
        kind = self.reason.value if self.reason else self.status.value
        return {"error": {"message": self.message or kind, "type": kind, "code": self.verdict}}
