"""``outlast run``: the stages, all in one process or each in its own."""

import asyncio
import logging
import sys
from enum import StrEnum
from typing import Annotated, Final

import typer

from outlast.app import STAGES, Selection
from outlast.app import run as run_stages
from outlast.cli.help import described
from outlast.cli.invocation import settings_of
from outlast.core.errors import SettingsError
from outlast.edges import logs
from outlast.edges.settings import environment

__all__ = ["register"]


class StageChoice(StrEnum):
    """One stage."""

    ROUTE = "route"
    WORK = "work"
    RETRY = "retry"
    PARK = "park"
    HEALTH = "health"


class Beginning(StrEnum):
    """Where to begin where nothing is committed."""

    EARLIEST = "earliest"
    LATEST = "latest"


WHAT: Final = """
Run the stages, all or one, until SIGTERM or Ctrl-C.

Then it takes nothing new, lets its calls end (defaults.drain_seconds, 60), and exits with 0; a
second signal leaves at once. More processes share the work; a pool's limits are split between
them.
"""
EXAMPLES: Final = """
outlast run                            all stages, all pools, one process
outlast run work --provider deepseek   one more worker of one pool
outlast run route                      one stage
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(**described(WHAT, EXAMPLES))(run)


def run(
    context: typer.Context,
    stage: Annotated[
        StageChoice | None,
        typer.Argument(metavar="STAGE", help="Only this one.  [default: all]"),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option("--provider", metavar="NAME", help="Only these pools; repeat."),
    ] = None,
    max_in_flight: Annotated[
        int,
        typer.Option(
            "--max-in-flight",
            min=1,
            metavar="N",
            help="Calls in flight of this process for each provider, at most.",
        ),
    ] = 4_000,
    begin_at: Annotated[
        Beginning | None,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="earliest or latest: where to begin on partitions without a committed offset; "
            "else it refuses to.",
        ),
    ] = None,
) -> None:
    """Read settings, run, drain."""
    if provider and stage not in (None, StageChoice.WORK):
        raise typer.BadParameter("--provider is for `outlast run` and `outlast run work`")
    environ = environment()
    selection = Selection(
        stages=STAGES if stage is None else (stage.value,),
        providers=tuple(provider or ()),
        max_in_flight=max_in_flight,
        begin_at=None if begin_at is None else begin_at.value,
        instance=environ.get("OUTLAST_INSTANCE_ID") or None,
    )
    settings = settings_of(context)
    if not settings.catalogue.providers:
        raise SettingsError(["no provider is configured: add [providers.<name>] to outlast.toml"])
    logs.configure(environ, libraries=logging.WARNING)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run_stages(settings, selection, environ))


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    """uvloop where it is to be had; its loop costs about half the CPU."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.Loop
