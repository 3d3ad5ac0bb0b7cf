"""How a simulated provider behaves just now, as one frozen value that orders change."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Final, Literal, cast, get_args

__all__ = ["MODES", "Behaviour", "Mode"]

Mode = Literal[
    "ok",
    "slow",
    "hang",
    "unavailable",
    "outage",
    "throttle",
    "quota",
    "bad_key",
    "empty",
    "cut",
    "reject",
    "too_long",
    "refuse",
    "flap",
]
MODES: Final[tuple[str, ...]] = get_args(Mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What every call meets. All spans are seconds.

    Attributes:
        mode: ``ok`` answers · ``slow`` answers after ``slow_seconds`` · ``hang`` never answers ·
            ``unavailable`` 503 · ``outage`` hangs and 503s in turn · ``throttle`` 429 · ``quota``
            no money · ``bad_key`` 401 · ``empty`` a 200 with nothing in it · ``cut`` closes
            within the body · ``reject`` 400 · ``too_long`` 400 for more than its context holds ·
            ``refuse`` takes no connection · ``flap`` is ``ok`` and ``unavailable`` in turn,
            ``flap_seconds`` each.
        latency_seconds: the shortest time to an answer, in the modes that answer.
        latency_spread_seconds: up to so much longer, evenly spread.
        slow_seconds: the latency in ``slow``.
        slow_factor: by how much all latencies are longer while it is ``ok``.
        error_share: from 0 to 1, which share of the calls gets a 503 while it is ``ok``.
        flap_seconds: how long it stays up, and how long down, in ``flap``.
        blank_line_seconds: in ``hang``, a blank line as often as this, as DeepSeek sends them;
            0 for silence.
        retry_after_seconds: what a 429 says, where the family says it.
        concurrency: calls in flight beyond which the next gets a 429; 0 for no limit.
        requests_per_minute: in any sliding minute; the next gets a 429; 0 for no limit.
        tokens_per_minute: of prompts and answers in any sliding minute, likewise.
        bad_key: a key that gets a 401 in every mode.
        reject_marker: a last message with this text in it gets a 400 in every mode.
    """

    mode: Mode = "ok"
    latency_seconds: float = 0.0
    latency_spread_seconds: float = 0.0
    slow_seconds: float = 10.0
    slow_factor: float = 1.0
    error_share: float = 0.0
    flap_seconds: float = 20.0
    blank_line_seconds: float = 0.0
    retry_after_seconds: float = 1.0
    concurrency: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    bad_key: str = "bad-key"
    reject_marker: str = "REJECT ME"

    def __post_init__(self) -> None:
        """Raises ``ValueError`` where a number makes no sense."""
        if not 0 <= self.error_share <= 1:
            raise ValueError(f"error_share is from 0 to 1, not {self.error_share:g}")
        if not self.flap_seconds > 0:
            raise ValueError(f"flap_seconds is above 0, not {self.flap_seconds:g}")

    def mode_after(self, seconds: float) -> Mode:
        """What the mode comes to so long after it was taken on: ``flap`` is two in turn."""
        if self.mode != "flap":
            return self.mode
        return "unavailable" if int(seconds / self.flap_seconds) % 2 else "ok"

    def changed(self, orders: Mapping[str, object]) -> "Behaviour":
        """The behaviour after orders. Raises ``ValueError`` that names what it does not accept."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in orders.items():
            if name not in known:
                raise ValueError(f"{name} is not one of {', '.join(known)}")
            if name == "mode" and value not in MODES:
                raise ValueError(f"mode {value!r} is not one of {', '.join(MODES)}")
            if isinstance(value, bool) or not isinstance(value, _kinds(known[name])):
                raise ValueError(f"{name} cannot be {value!r}")
        # Checked one by one just above, which the type checker cannot follow through the names.
        return replace(self, **cast("dict[str, str]", dict(orders)))  # type: ignore[arg-type]

    def to_json(self) -> dict[str, object]:
        """As the control endpoint shows it."""
        return asdict(self)


def _kinds(value: object) -> type | tuple[type, ...]:
    return (int, float) if isinstance(value, float) else type(value)
