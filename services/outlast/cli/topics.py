"""``outlast topics``: make Kafka agree with the table of topics."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import typer

from outlast.cli.help import described, new_app
from outlast.cli.invocation import connected, settings_of
from outlast.cli.terminal import AsJsonLines, err, line, print_json
from outlast.edges.kafka import topics as kafka_topics
from outlast.edges.kafka.topic_plan import Plan
from outlast.edges.settings import Settings

__all__ = ["register"]

WHAT: Final = """
Make Kafka agree with the table of topics.

The table follows from the settings: one topic for each provider's pool, one for each result
topic a route names, and those of the stages.
"""
EXAMPLES: Final = """
outlast topics plan    what would be done
outlast topics apply   do it; again after every change of the settings
"""
PLAN: Final = """
Say what apply would do; exits with 1 when there is anything.

Changes nothing.
"""
APPLY: Final = """
Create topics, set settings, add partitions, begin groups.

Never deletes: longer retentions and further partitions are left as they are. May be run at
any time and again.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = new_app(**described(WHAT, EXAMPLES))
    group.command(**described(PLAN, "outlast topics plan\noutlast topics plan --json"))(plan)
    group.command(**described(APPLY, "outlast topics apply"))(apply)
    app.add_typer(group, name="topics")


def plan(context: typer.Context, as_json: AsJsonLines = False) -> None:
    """Say what apply would do; exits with 1 when there is anything."""
    made = asyncio.run(_with(settings_of(context), kafka_topics.plan))
    _print(made, as_json, "nothing to do: Kafka agrees")
    if made.differs:
        raise typer.Exit(1)


def apply(context: typer.Context, as_json: AsJsonLines = False) -> None:
    """Create topics, set settings, add partitions, begin groups; never delete."""
    done = asyncio.run(_with(settings_of(context), kafka_topics.apply))
    _print(done, as_json, "nothing to do: Kafka agreed already")


async def _with(settings: Settings, act: Callable[..., Awaitable[Plan]]) -> Plan:
    async with connected(settings, needs_topics=False) as connection:
        arguments: tuple[Any, ...] = (settings.kafka, settings.catalogue, connection.cluster)
        return await act(*arguments, connection.admin)


def _print(plan: Plan, as_json: bool, nothing: str) -> None:
    for step in plan.steps:
        if as_json:
            print_json({**step.to_json(), "step": str(step)})
        else:
            line(str(step))
    if not plan.differs and not as_json:
        line(nothing)
    for note in plan.notes:
        err.print(f"note: {note}", style="dim", soft_wrap=True)
