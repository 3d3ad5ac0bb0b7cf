"""``outlast run``: the stages, all in one process or each in its own."""

import asyncio
import logging
import sys
from enum import StrEnum
from typing import Annotated

import typer

from outlast.app import STAGES, Selection
from outlast.app import run as run_stages
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


EXAMPLES = """Run the stages until SIGTERM or Ctrl-C; what runs then may still end
(defaults.drain_seconds), a second signal leaves at once.

outlast run                             all stages, all providers, one process

outlast run work --provider deepseek    one more worker for one pool

outlast run route                       one stage
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help=EXAMPLES, short_help="Run the stages, all or one.")(run)


def run(
    context: typer.Context,
    stage: Annotated[
        StageChoice | None, typer.Argument(help="One stage; without it all of them.")
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option("--provider", metavar="NAME", help="Only these pools; may be repeated."),
    ] = None,
    max_in_flight: Annotated[
        int,
        typer.Option(
            "--max-in-flight", min=1, help="Calls in flight this process makes per provider."
        ),
    ] = 4_000,
    begin_at: Annotated[
        Beginning | None,
        typer.Option("--from", help="Where to begin on partitions without a committed offset."),
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
