"""What one worker saw of its provider since it last said so: topic ``outlast.vitals``."""

from collections.abc import Mapping
from dataclasses import dataclass

from outlast_schemas.fields import count, optional_text, text

__all__ = ["Vitals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One window of outcomes of one worker.

    ``streak`` counts the failures in a row at the end of the window that speak against the
    provider; ``probe`` is the verdict of a probe that ended in the window; ``served`` and
    ``failed`` count since the worker started, for those who watch.
    """

    provider: str
    worker: str
    at: int
    succeeded: int = 0
    failures: int = 0
    streak: int = 0
    note: str | None = None
    probe: str | None = None
    in_flight: int = 0
    limit: int = 0
    served: int = 0
    failed: int = 0

    def to_json(self) -> dict[str, object]:
        """The object that is written."""
        return {
            "v": 1,
            "provider": self.provider,
            "worker": self.worker,
            "at": self.at,
            "succeeded": self.succeeded,
            "failures": self.failures,
            "streak": self.streak,
            "note": self.note,
            "probe": self.probe,
            "in_flight": self.in_flight,
            "limit": self.limit,
            "served": self.served,
            "failed": self.failed,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "Vitals":
        """Read vitals. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on a misfit."""
        return cls(
            provider=text(fields["provider"]),
            worker=text(fields["worker"]),
            at=count(fields["at"]),
            succeeded=count(fields["succeeded"]),
            failures=count(fields["failures"]),
            streak=count(fields["streak"]),
            note=optional_text(fields.get("note")),
            probe=optional_text(fields.get("probe")),
            in_flight=count(fields["in_flight"]),
            limit=count(fields["limit"]),
            served=count(fields["served"]),
            failed=count(fields["failed"]),
        )
