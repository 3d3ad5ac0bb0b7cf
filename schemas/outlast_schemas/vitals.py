"""What one worker saw of its provider since it last said so: topic ``outlast.vitals``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from outlast_schemas.fields import count, mapping, optional_count, optional_text, text

__all__ = ["Vitals", "Window"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What became of the calls of one model that ended in the window.

    ``failures`` speak against the provider; ``unreached`` are those of them that never left here.
    ``slow`` succeeded, but took longer than the provider's ``slow_seconds``; ``overdue`` are calls
    still under way that have just passed it, and ``late`` those of them that ended. ``throttled``,
    ``blocked`` and ``misrouted`` are the verdicts ``retry_later``, ``account_blocked`` and
    ``misrouted``; ``answered`` is all else: the provider is well and found fault with the job.
    ``streak`` counts the failures in a row at the window's end, ``note`` is the last one in a line.
    ``ms`` and ``first_ms`` add up how long all of these calls took, until the whole answer and
    until its first token; ``slowest_ms`` took the longest.
    """

    succeeded: int = 0
    failures: int = 0
    unreached: int = 0
    slow: int = 0
    overdue: int = 0
    late: int = 0
    throttled: int = 0
    blocked: int = 0
    misrouted: int = 0
    answered: int = 0
    streak: int = 0
    ms: int = 0
    first_ms: int = 0
    slowest_ms: int = 0
    note: str | None = None

    @property
    def calls(self) -> int:
        """How many calls ended."""
        well = self.succeeded + self.answered
        return well + self.failures + self.throttled + self.blocked + self.misrouted

    def to_json(self) -> dict[str, object]:
        """The object that is written."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, object]) -> "Window":
        """Read a window; absent counts are 0. Raises ``TypeError`` on a misfit."""
        counts = {name: count(found.get(name, 0)) for name in _COUNTS}
        return cls(note=optional_text(found.get("note")), **counts)


_COUNTS = tuple(each.name for each in fields(Window) if each.name != "note")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One window of outcomes of one worker.

    ``streak`` counts the failures in a row at the end of the window that speak against the
    provider; ``models`` holds the same by model. ``probe`` is the verdict of a probe that ended in
    the window, asked for by the verdict on ``probe_of`` (a model, or ``*``). ``limit`` is the share
    of the pool's permits this worker has, ``queued`` how many jobs wait in its partitions, and
    ``paused_until`` (epoch ms) how long the provider wished to be left alone. ``tripped`` says why
    this worker calls a model (or ``*``, the provider) no more, by its own evidence alone.
    ``served``, ``failed`` and ``failed_over`` count since the worker started, for those who watch;
    the last of them by the provider that the jobs would have gone to first.
    """

    provider: str
    worker: str
    at: int
    succeeded: int = 0
    failures: int = 0
    streak: int = 0
    note: str | None = None
    probe: str | None = None
    probe_of: str | None = None
    in_flight: int = 0
    limit: int = 0
    queued: int = 0
    served: int = 0
    failed: int = 0
    paused_until: int | None = None
    tripped: Mapping[str, str] = field(default_factory=dict)
    failed_over: Mapping[str, int] = field(default_factory=dict)
    models: Mapping[str, Window] = field(default_factory=dict)

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
            "probe_of": self.probe_of,
            "in_flight": self.in_flight,
            "limit": self.limit,
            "queued": self.queued,
            "served": self.served,
            "failed": self.failed,
            "paused_until": self.paused_until,
            "tripped": dict(self.tripped),
            "failed_over": dict(self.failed_over),
            "models": {name: window.to_json() for name, window in self.models.items()},
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
            probe_of=optional_text(fields.get("probe_of")),
            in_flight=count(fields["in_flight"]),
            limit=count(fields["limit"]),
            queued=count(fields.get("queued", 0)),
            served=count(fields["served"]),
            failed=count(fields["failed"]),
            paused_until=optional_count(fields.get("paused_until")),
            tripped={name: text(why) for name, why in mapping(fields.get("tripped", {})).items()},
            failed_over={
                name: count(jobs) for name, jobs in mapping(fields.get("failed_over", {})).items()
            },
            models={
                name: Window.from_json(mapping(each))
                for name, each in mapping(fields.get("models", {})).items()
            },
        )
