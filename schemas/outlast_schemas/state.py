"""What Outlast knows of a job under way: the header ``outlast-state``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from outlast_schemas.attempt import Attempt
from outlast_schemas.drafts import draft_of
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

    @classmethod
    def begun(cls, accepted: int) -> "State":
        """The state of a job of which nothing is known but when it was accepted."""
        draft = _copied(_UNKNOWN)
        draft.accepted = draft.deadline = accepted
        return _frozen(draft)

    def routed(self, route: str, deadline: int) -> "State":
        """The state of a job that was admitted to this route until then."""
        draft = _copied(self)
        draft.route, draft.deadline = route, deadline
        return _frozen(draft)

    def called(self, attempts: tuple[Attempt, ...], charged: int) -> "State":
        """The state after one more call; ``attempts`` are the latest, this one among them."""
        draft = _copied(self)
        draft.attempts, draft.charged = attempts, charged
        draft.calls += 1
        return _frozen(draft)

    def appended(self, *, due: int | None, target: str | None) -> "State":
        """The state in the job's next record: one hop on, due then, for this target."""
        draft = _copied(self)
        draft.hop += 1
        draft.due, draft.target = due, target
        return _frozen(draft)

    def deferred(self, avoid: Mapping[str, int]) -> "State":
        """The state after one more wait that spends nothing, then staying away from these too."""
        draft = _copied(self)
        draft.deferrals += 1
        draft.avoid = {**self.avoid, **avoid}
        return _frozen(draft)

    def avoiding(self, avoid: Mapping[str, int]) -> "State":
        """The state of a job that stays away from exactly these."""
        draft = _copied(self)
        draft.avoid = avoid
        return _frozen(draft)

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
        return {**self.extra, **fields} if self.extra else fields

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> "State":
        """Read a state. Raises ``KeyError``, ``TypeError`` or ``ValueError`` on a misfit."""
        draft = _Draft()
        draft.hop = count(fields["hop"])
        draft.replays = count(fields["replays"])
        draft.accepted = count(fields["accepted"])
        draft.deadline = count(fields["deadline"])
        draft.route = text(fields["route"])
        draft.target = optional_text(fields.get("target"))
        draft.charged = count(fields["charged"])
        draft.calls = count(fields["calls"])
        draft.deferrals = count(fields["deferrals"])
        draft.due = optional_count(fields.get("due"))
        draft.avoid = _avoided(fields)
        draft.attempts = _attempts(fields)
        draft.extra = _unknown(fields)
        return _frozen(draft)


_Draft: Final = draft_of(State)
_UNKNOWN: Final = State(accepted=0, deadline=0, route="")


def _copied(state: State) -> Any:
    """A draft that says the same."""
    draft = _Draft()
    draft.accepted = state.accepted
    draft.deadline = state.deadline
    draft.route = state.route
    draft.hop = state.hop
    draft.replays = state.replays
    draft.target = state.target
    draft.charged = state.charged
    draft.calls = state.calls
    draft.deferrals = state.deferrals
    draft.due = state.due
    draft.avoid = state.avoid
    draft.attempts = state.attempts
    draft.extra = state.extra
    return draft


def _frozen(draft: Any) -> State:
    draft.__class__ = State
    state: State = draft
    return state


def _avoided(fields: Mapping[str, object]) -> dict[str, int]:
    if "avoid" not in fields:
        return {}
    return {name: count(until) for name, until in mapping(fields["avoid"]).items()}


def _attempts(fields: Mapping[str, object]) -> tuple[Attempt, ...]:
    given = array(fields["attempts"])
    return tuple([Attempt.from_json(mapping(each)) for each in given])[-KEPT_ATTEMPTS:]


def _unknown(fields: Mapping[str, object]) -> dict[str, object]:
    """What a later version has added: it is kept."""
    if fields.keys() <= KNOWN:
        return {}
    return {name: value for name, value in fields.items() if name not in KNOWN}
