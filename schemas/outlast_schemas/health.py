"""The fleet's verdict on a provider: compacted topic ``outlast.health``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from outlast_schemas.fields import count, mapping, optional_count, optional_text, text

__all__ = ["EVERY_MODEL", "BreakerWord", "Health", "ModelHealth"]

EVERY_MODEL: Final = "*"
"""The key of a verdict that holds for all models of the provider."""


class BreakerWord(StrEnum):
    """``closed`` lets jobs through, ``open`` lets none.

    ``half_open`` lets one probe; ``ramp`` lets as many calls of the whole fleet be under way as
    the verdict's ``permits`` say.
    """

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RAMP = "ramp"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHealth:
    """One verdict: since when (epoch ms), on what evidence, and who probes from when on.

    ``permits`` is how many calls may be under way while it ramps; ``setbacks`` how often in a row
    it was found down again: the waits between probes grow by it.
    """

    state: BreakerWord
    since: int
    evidence: str = ""
    prober: str | None = None
    probe_at: int | None = None
    permits: int | None = None
    setbacks: int = 0

    @property
    def lets_through(self) -> bool:
        """Whether jobs may be sent there, be it only so many."""
        return self.state in (BreakerWord.CLOSED, BreakerWord.RAMP)

    def to_json(self) -> dict[str, object]:
        """The object that is written."""
        return {
            "state": self.state.value,
            "since": self.since,
            "evidence": self.evidence,
            "prober": self.prober,
            "probe_at": self.probe_at,
            "permits": self.permits,
            "setbacks": self.setbacks,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "ModelHealth":
        """Read one verdict. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on a misfit."""
        return cls(
            state=BreakerWord(text(fields["state"])),
            since=count(fields["since"]),
            evidence=text(fields.get("evidence", "")),
            prober=optional_text(fields.get("prober")),
            probe_at=optional_count(fields.get("probe_at")),
            permits=optional_count(fields.get("permits")),
            setbacks=count(fields.get("setbacks", 0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """All verdicts on one provider by model; readers ignore an ``epoch`` below one they saw.

    Until ``paused_until`` (epoch ms) the provider wishes that nobody calls it.
    """

    provider: str
    epoch: int
    at: int
    models: Mapping[str, ModelHealth] = field(default_factory=dict)
    paused_until: int | None = None

    def to_json(self) -> dict[str, object]:
        """The object that is written."""
        return {
            "v": 1,
            "provider": self.provider,
            "epoch": self.epoch,
            "at": self.at,
            "models": {name: model.to_json() for name, model in self.models.items()},
            "paused_until": self.paused_until,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "Health":
        """Read a provider's health. Raises ``KeyError``, ``TypeError`` or ``ValueError``."""
        return cls(
            provider=text(fields["provider"]),
            epoch=count(fields["epoch"]),
            at=count(fields["at"]),
            models={
                name: ModelHealth.from_json(mapping(each))
                for name, each in mapping(fields["models"]).items()
            },
            paused_until=optional_count(fields.get("paused_until")),
        )
