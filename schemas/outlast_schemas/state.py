"""What Outlast knows of a job under way: the header ``outlast-state``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from outlast_schemas.attempt import Attempt
from outlast_schemas.fields import array, count, mapping, optional_count, optional_text, text

__all__ = ["KEPT_ATTEMPTS", "State"]

KEPT_ATTEMPTS: Final = 20
"""How many of the latest attempts the state lists; ``calls`` counts them all."""
KNOWN: Final = frozenset(
    (
        *("v", "hop", "replays", "accepted", "deadline", "route", "target"),
        *("charged", "calls", "deferrals", "due", "avoid", "attempts"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All instants are epoch milliseconds of the broker's clock.

    ``hop`` rises with every append and starts at 0 in each run; ``target`` is the
    ``provider/model`` the job was last sent to; ``avoid`` maps a provider or a target to the
    instant until which it is not chosen; ``extra`` keeps fields this version does not know.
    """

    accepted: int
    deadline: int
    route: str
    hop: int = 0
    replays: int = 0
    target: str | None = None
    charged: int = 0
    calls: int = 0
    deferrals: int = 0
    due: int | None = None
    avoid: Mapping[str, int] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    def routed(self, route: str, deadline: int) -> "State":
        """The state of a job that was admitted to this route until then."""
        return self._but(route=route, deadline=deadline)

    def called(self, attempts: tuple[Attempt, ...], charged: int) -> "State":
        """The state after one more call; ``attempts`` are the latest, this one among them."""
        return self._but(attempts=attempts, charged=charged, calls=self.calls + 1)

    def appended(self, *, due: int | None, target: str | None) -> "State":
        """The state in the job's next record: one hop on, due then, for this target."""
        return self._but(hop=self.hop + 1, due=due, target=target)

    def deferred(self, avoid: Mapping[str, int]) -> "State":
        """The state after one more wait that spends nothing, then staying away from these too."""
        return self._but(deferrals=self.deferrals + 1, avoid={**self.avoid, **avoid})

    def avoiding(self, avoid: Mapping[str, int]) -> "State":
        """The state of a job that stays away from exactly these."""
        return self._but(avoid=avoid)

    def _but(self, **changed: object) -> "State":
        """As ``replace()`` does, in a third of its time: every job comes by here on each move."""
        other = object.__new__(State)
        for name in State.__slots__:
            value = changed[name] if name in changed else getattr(self, name)
            object.__setattr__(other, name, value)
        return other

    def to_json(self) -> dict[str, object]:
        """The object that is written, unknown fields included."""
        fields: dict[str, object] = {
            "v": 1,
            "hop": self.hop,
            "replays": self.replays,
            "accepted": self.accepted,
            "deadline": self.deadline,
            "route": self.route,
            "charged": self.charged,
            "calls": self.calls,
            "deferrals": self.deferrals,
        }
        if self.target is not None:
            fields["target"] = self.target
        if self.due is not None:
            fields["due"] = self.due
        if self.avoid:
            fields["avoid"] = dict(self.avoid)
        fields["attempts"] = [attempt.to_json() for attempt in self.attempts]
        return {**self.extra, **fields}

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "State":
        """Read a state. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on a misfit."""
        return cls(
            hop=count(fields["hop"]),
            replays=count(fields["replays"]),
            accepted=count(fields["accepted"]),
            deadline=count(fields["deadline"]),
            route=text(fields["route"]),
            target=optional_text(fields.get("target")),
            charged=count(fields["charged"]),
            calls=count(fields["calls"]),
            deferrals=count(fields["deferrals"]),
            due=optional_count(fields.get("due")),
            avoid={name: count(until) for name, until in mapping(fields.get("avoid", {})).items()},
            attempts=tuple(Attempt.from_json(mapping(each)) for each in array(fields["attempts"]))[
                -KEPT_ATTEMPTS:
            ],
            extra=_unknown(fields),
        )


def _unknown(fields: Mapping[str, object]) -> dict[str, object]:
    """What a later version has added: it is kept."""
    if fields.keys() <= KNOWN:
        return {}
    return {name: value for name, value in fields.items() if name not in KNOWN}
