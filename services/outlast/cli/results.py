"""``outlast results``: read how jobs ended."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from outlast.cli.answers import print_result
from outlast.cli.help import described
from outlast.cli.invocation import Connected, connected, settings_of
from outlast.cli.terminal import AsJsonLines, counting, err, out
from outlast.cli.terms import refuse_empty
from outlast.cli.times import since as since_when
from outlast.core.errors import TopicsError
from outlast.edges.answers import Result, result_of
from outlast.edges.clock import BrokerClock
from outlast.edges.kafka.chronicle import Window, chronicle
from outlast.edges.kafka.results import ResultStream
from outlast.edges.kafka.topics import check
from outlast.edges.settings import Settings
from outlast_schemas.topics import Topics

__all__ = ["register"]

WHAT: Final = """
Print how jobs ended, the oldest first.

Reads the result topic without a trace: nothing is acknowledged, and who reads it beside is not
disturbed. With --group it is a consumer as any other, and each result comes once.
"""
EXAMPLES: Final = """
outlast results --limit 10
outlast results --job 0198c5c2-7d0f-7c3e-9d5e-3f1f2b8f0c11
outlast results --since 1h --json | jq .cost
outlast results --follow
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(**described(WHAT, EXAMPLES))(results)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """Which results, and how."""

    name: str
    job: str | None
    group: str | None
    limit: int | None
    since: int | None
    follow: bool
    as_json: bool


def results(
    context: typer.Context,
    job: Annotated[
        str | None, typer.Option("--job", metavar="ID", help="Only those of this job.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            metavar="N",
            help="Only the newest N; with --follow: end after N in all.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="From then on: 90s, 15m, 1h, 2d ago, or an instant."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with those that are still to come.")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help="With --follow: as this consumer group."),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The result topic, as routes name it.")
    ] = "default",
    as_json: AsJsonLines = False,
) -> None:
    """Print results; exits with 1 when a job was asked for and has none yet."""
    if group is not None and not follow:
        raise typer.BadParameter("it needs --follow", param_hint="--group")
    if group is not None and since is not None:
        raise typer.BadParameter("a group goes on where it was; leave it out", param_hint="--since")
    for option, value in (("--job", job), ("--group", group), ("--name", name)):
        refuse_empty(option, value)
    wish = _Wish(
        name=name,
        job=job,
        group=group,
        limit=limit,
        since=None if since is None else since_when(since, BrokerClock().now(), "--since"),
        follow=follow,
        as_json=as_json,
    )
    count = asyncio.run(_print_all(settings_of(context), wish))
    if job is not None and not count:
        err.print(f"job {job} has no result in {name!r} yet", soft_wrap=True)
        raise typer.Exit(1)


async def _print_all(settings: Settings, wish: _Wish) -> int:
    async with connected(settings, needs_topics=wish.name == "default") as connection:
        await _check(connection, wish.name)
    count = 0
    async with aclosing(_wanted(settings, wish)) as wanted:
        async for result, appended in wanted:
            now = BrokerClock().now()
            whole = wish.job is not None
            print_result(result, appended, now, as_json=wish.as_json, whole=whole)
            await result.ack()
            count += 1
            if wish.follow and count == wish.limit:
                break
    return count


async def _check(connection: Connected, name: str) -> None:
    """Raises ``TopicsError``, or a usage error where no route has the topic: apply makes none."""
    settings, topic = connection.settings, connection.topics.results(name)
    try:
        await check(settings.kafka, [topic], connection.admin)
    except TopicsError:
        if name in settings.catalogue.results:
            raise
        known = ", ".join(sorted(settings.catalogue.results))
        raise typer.BadParameter(
            f"there is no topic {topic}; the routes here name {known}", param_hint="--name"
        ) from None


async def _wanted(
    settings: Settings, wish: _Wish
) -> AsyncGenerator[tuple[Result, int | None], None]:
    """Those to print, each with its time of append where that is known."""
    async with aclosing(_read(settings, wish)) as read:
        if wish.limit is None or wish.follow:
            async for pair in read:
                yield pair
            return
        newest: deque[tuple[Result, int | None]] = deque(maxlen=wish.limit)
        async for pair in read:
            newest.append(pair)
    for pair in newest:
        yield pair


async def _read(settings: Settings, wish: _Wish) -> AsyncGenerator[tuple[Result, int | None], None]:
    topic = Topics(settings.kafka.prefix).results(wish.name)
    if wish.group is not None:
        stream = ResultStream(settings.kafka, topic, wish.group, ack="manual")
        async with aclosing(stream):
            async for result in stream:
                if wish.job in (None, result.job_id):
                    yield result, None
                else:
                    await result.ack()
        return
    window = Window(since=wish.since, newest=_newest(wish), follow=wish.follow)
    # Where results run down the screen, they are the progress.
    shown = not wish.follow and (wish.limit is not None or not out.is_terminal)
    with counting("reading results:", shown=shown) as count:
        async with aclosing(chronicle(settings.kafka, topic, window)) as records:
            async for record in records:
                count(1)
                result_ = result_of(record)
                if result_ is not None and wish.job in (None, result_.job_id):
                    yield result_, record.timestamp


def _newest(wish: _Wish) -> int | None:
    """How many of each partition are enough: with a filter nobody can tell."""
    return None if wish.job is not None or wish.follow else wish.limit
