"""A small fleet, and jobs for it: what the tables of these tests start from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from outlast.core.choose import Fleet
from outlast.core.policy import Catalogue, Defaults, Provider, Route, Target
from outlast_schemas.attempt import Attempt, VerdictWord
from outlast_schemas.health import EVERY_MODEL, BreakerWord, Health, ModelHealth
from outlast_schemas.job import Job, Origin
from outlast_schemas.state import State

NOW: Final = 1_774_820_100_123
"""2026-03-29T21:35:00.123Z in epoch ms: when every job of these tests is accepted."""
HOUR: Final = 3_600_000

FLASH: Final = Target("deepseek", "flash")
LUNA: Final = Target("openai", "luna")
HAIKU: Final = Target("anthropic", "haiku")
TINY: Final = Target("local", "tiny")

CHAT: Final = Route(name="chat", targets=(FLASH, LUNA, HAIKU))
PRIVATE: Final = Route(name="private", targets=(TINY,))
WEST: Final = Route(
    name="west", targets=(FLASH, LUNA), scope=("jurisdiction:us",), results="west", ttl_seconds=60.0
)

CATALOGUE: Final = Catalogue(
    providers={
        "deepseek": Provider(
            name="deepseek", family="deepseek", base_url="https://d.test", jurisdiction="cn"
        ),
        "openai": Provider(
            name="openai", family="openai", base_url="https://o.test", jurisdiction="us"
        ),
        "anthropic": Provider(
            name="anthropic", family="anthropic", base_url="https://a.test", jurisdiction="us"
        ),
        "local": Provider(name="local", family="compatible", base_url="http://127.0.0.1:8000/v1"),
    },
    routes={"chat": CHAT, "private": PRIVATE, "west": WEST},
    defaults=Defaults(route="chat"),
    max_body_bytes=1_000,
)


def a_job(
    *headers: tuple[str, bytes | None],
    body: bytes = b'{"messages":[{"role":"user","content":"hello"}]}',
    key: bytes | None = None,
    **state: object,
) -> Job:
    """A job of the route ``chat`` with an hour to go; ``state`` names what differs."""
    begun = State(accepted=NOW, deadline=NOW + HOUR, route="chat")
    return Job(
        id="job-1",
        body=body,
        headers=headers,
        state=replace(begun, **state),  # type: ignore[arg-type]
        origin=Origin("outlast.jobs", 3, 42, NOW),
        key=key,
    )


def an_attempt(
    target: Target = FLASH,
    verdict: VerdictWord = VerdictWord.PROVIDER_DOWN,
    *,
    n: int = 1,
    at: int = NOW,
) -> Attempt:
    """One call as the state remembers it."""
    return Attempt(
        n=n, provider=target.provider, model=target.model, at=at, ms=120, verdict=verdict
    )


def a_fleet(
    *down: str,
    state: BreakerWord = BreakerWord.OPEN,
    at: int = NOW,
    models: Mapping[str, Sequence[tuple[str, BreakerWord]]] | None = None,
) -> Fleet:
    """A fleet in which these providers are ``state`` for every model, said at ``at``."""
    health = {
        name: Health(
            provider=name,
            epoch=1,
            at=at,
            models={EVERY_MODEL: ModelHealth(state=state, since=at)},
        )
        for name in down
    }
    for name, verdicts in (models or {}).items():
        health[name] = Health(
            provider=name,
            epoch=1,
            at=at,
            models={model: ModelHealth(state=word, since=at) for model, word in verdicts},
        )
    return Fleet(health)
