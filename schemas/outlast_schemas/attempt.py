"""One call of a provider, as it is remembered in the job's state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from outlast_schemas.drafts import draft_of
from outlast_schemas.fields import count, optional_count, optional_text, text

__all__ = ["Attempt", "VerdictWord"]


KNOWN: Final = frozenset(
    ("n", "provider", "model", "at", "ms", "verdict", "status", "note", "request_id")
)


class VerdictWord(StrEnum):
    """What one call came to: ``succeeded`` or one of eight failures."""

    SUCCEEDED = "succeeded"
    RETRY_LATER = "retry_later"
    PROVIDER_DOWN = "provider_down"
    ACCOUNT_BLOCKED = "account_blocked"
    JOB_REJECTED = "job_rejected"
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_POLICY = "content_policy"
    MISROUTED = "misrouted"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """``n`` counts from 1 in each run; ``at`` is epoch ms, ``ms`` how long the call took.

    ``extra`` keeps fields this version does not know.
    """

    n: int
    provider: str
    model: str
    at: int
    ms: int
    verdict: VerdictWord
    status: int | None = None
    note: str | None = None
    request_id: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The attempt as it stands in ``outlast-state``; what is unknown is left out."""
        fields: dict[str, object] = {
            "n": self.n,
            "provider": self.provider,
            "model": self.model,
            "at": self.at,
            "ms": self.ms,
            "verdict": self.verdict.value,
        }
        if self.status is not None:
            fields["status"] = self.status
        if self.note is not None:
            fields["note"] = self.note
        if self.request_id is not None:
            fields["request_id"] = self.request_id
        return {**self.extra, **fields} if self.extra else fields

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "Attempt":
        """Read one attempt. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on a misfit."""
        draft = _Draft()
        draft.n = count(fields["n"])
        draft.provider = text(fields["provider"])
        draft.model = text(fields["model"])
        draft.at = count(fields["at"])
        draft.ms = count(fields["ms"])
        draft.verdict = _verdict(text(fields["verdict"]))
        draft.status = optional_count(fields.get("status"))
        draft.note = optional_text(fields.get("note"))
        draft.request_id = optional_text(fields.get("request_id"))
        draft.extra = _unknown(fields)
        draft.__class__ = cls
        attempt: Attempt = draft
        return attempt


_Draft: Final = draft_of(Attempt)
_WORDS: Final = {word.value: word for word in VerdictWord}


def _verdict(word: str) -> VerdictWord:
    """As ``VerdictWord(word)``, in a fifth of its time: a state may list twenty."""
    return _WORDS.get(word) or VerdictWord(word)


def _unknown(fields: Mapping[str, object]) -> dict[str, object]:
    """What a later version has added: it is kept."""
    if fields.keys() <= KNOWN:
        return {}
    return {name: value for name, value in fields.items() if name not in KNOWN}
