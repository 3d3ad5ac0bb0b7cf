"""The frozen numbers and names that decisions are made by: providers, targets, routes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = [
    "Catalogue",
    "Clocks",
    "Defaults",
    "Family",
    "Limits",
    "OnAmbiguous",
    "OnContentPolicy",
    "Permit",
    "Price",
    "Provider",
    "Route",
    "Target",
]

OnAmbiguous = Literal["alternate", "retry", "hold"]
OnContentPolicy = Literal["dead_letter", "alternate"]
Family = Literal["compatible", "openai", "deepseek", "anthropic"]

MAX_TTL_SECONDS: Final = 7 * 86_400
"""Half the retention of the work topics: nothing that still counts is ever deleted unread."""
A_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A model at a provider; written ``provider/model``."""

    provider: str
    model: str

    def __str__(self) -> str:
        """``provider/model``, as in the configuration and in ``outlast-state``."""
        return f"{self.provider}/{self.model}"

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read ``provider/model``; the model may hold slashes. Raises ``ValueError``."""
        provider, slash, model = text.partition("/")
        if not (provider and slash and model):
            raise ValueError(f"{text!r} is not provider/model")
        return cls(provider, model)


@dataclass(slots=True, eq=False)
class Permit:
    """The right to make one call of a model; each is itself and no other.

    ``number`` tells which of this process's calls it is, from 1. ``ramp`` is the step-by-step trust
    that it counts against: its key, and since when. ``tokens`` are reserved for the call; ``used``
    is set once it has ended.
    """

    model: str
    tokens: int = 0
    ramp: tuple[str, int] | None = None
    used: int | None = None
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """How long a call may take, in seconds; white space and comments are not a first token.

    Answers are not streamed from the provider: the first byte comes with the whole answer, so a
    first token is given as long as the call. A call that takes ``slow_seconds`` goes on; where half
    of the calls are so slow the provider counts as down.
    """

    connect_seconds: float = 5.0
    first_token_seconds: float = 600.0
    idle_seconds: float = 60.0
    slow_seconds: float = 60.0
    total_seconds: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the whole pool of a provider may use."""

    concurrency: int = 100
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's tokens cost, in US dollars per million.

    The list price that the operator configures: discounts for cached prompts are not known here,
    so a cost made from it is an upper estimate.
    """

    input: float
    output: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars for so many tokens of the prompt and of the answer."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / A_MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A named pool; ``jurisdiction`` is what ``jurisdiction:<it>`` in a scope refers to.

    ``prices`` maps a model, as its targets name it, to what its tokens cost.
    """

    name: str
    family: Family
    base_url: str
    jurisdiction: str | None = None
    limits: Limits = field(default_factory=Limits)
    clocks: Clocks = field(default_factory=Clocks)
    api_key_env: str | None = None
    api_key_file: str | None = None
    prices: Mapping[str, Price] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An ordered preference of targets, and how patiently it is pursued."""

    name: str
    targets: tuple[Target, ...]
    max_attempts: int = 8
    max_calls: int = 40
    throttle_wait_seconds: float = 30.0
    on_ambiguous: OnAmbiguous = "alternate"
    on_content_policy: OnContentPolicy = "dead_letter"
    results: str = "default"
    ttl_seconds: float | None = None
    scope: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds where a route or a job says nothing."""

    drain_seconds: float = 60.0
    route: str | None = None
    ttl_seconds: float = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All providers and routes of one configuration."""

    providers: Mapping[str, Provider]
    routes: Mapping[str, Route]
    defaults: Defaults = field(default_factory=Defaults)
    max_body_bytes: int = 1_000_000

    def route(self, name: str) -> Route | None:
        """The route of that name, or the one-target route that ``provider/model`` stands for."""
        if name in self.routes:
            return self.routes[name]
        provider, slash, model = name.partition("/")
        if slash and model and provider in self.providers:
            return Route(name=name, targets=(Target(provider, model),))
        return None

    def ttl_seconds(self, route: Route) -> float:
        """How long a job of this route may take in all, in seconds."""
        return self.defaults.ttl_seconds if route.ttl_seconds is None else route.ttl_seconds

    @property
    def results(self) -> frozenset[str]:
        """The names of the result topics a job may ask for."""
        return frozenset({"default", *(route.results for route in self.routes.values())})
