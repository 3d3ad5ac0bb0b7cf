"""``outlast topics``: make Kafka agree with the table of topics."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from outlast.cli.invocation import connected, settings_of
from outlast.cli.terminal import err, line, print_json
from outlast.edges.kafka import topics as kafka_topics
from outlast.edges.kafka.topic_plan import Plan
from outlast.edges.settings import Settings

__all__ = ["register"]

group = typer.Typer(no_args_is_help=True, help="Make Kafka agree with the table of topics.")
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="topics")


@group.command()
def plan(context: typer.Context, as_json: AsJson = False) -> None:
    """Say what apply would do; exits with 1 when there is anything."""
    made = asyncio.run(_with(settings_of(context), kafka_topics.plan))
    _print(made, as_json, "nothing to do: Kafka agrees")
    if made.differs:
        raise typer.Exit(1)


@group.command()
def apply(context: typer.Context, as_json: AsJson = False) -> None:
    """Create topics, set settings, add partitions, begin groups; never delete."""
    done = asyncio.run(_with(settings_of(context), kafka_topics.apply))
    _print(done, as_json, "nothing to do: Kafka agreed already")


async def _with(settings: Settings, act: Callable[..., Awaitable[Plan]]) -> Plan:
    async with connected(settings, needs_topics=False) as connection:
        arguments: tuple[Any, ...] = (settings.kafka, settings.catalogue, connection.cluster)
        return await act(*arguments, connection.admin)


def _print(plan: Plan, as_json: bool, nothing: str) -> None:
    for text in plan.lines():
        if as_json:
            print_json({"step": text})
        else:
            line(text)
    if not plan.differs and not as_json:
        line(nothing)
    for note in plan.notes:
        err.print(f"note: {note}", style="dim", soft_wrap=True)
