"""``outlast drill``: the product's own fire drill."""

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from outlast.cli.help import described, new_app
from outlast.cli.invocation import settings_of
from outlast.cli.terminal import AsJson, err, line, out, print_json
from outlast.drill.engine import Played, play
from outlast.drill.figures import figures_json, figures_of, holds, print_figures
from outlast.drill.outage import Drill, Drilled
from outlast.drill.outage import drill as run_drill
from outlast.drill.report import print_report, report_json
from outlast.drill.scenarios import SCENARIOS, Scenario
from outlast.drill.scene import LocalModel
from outlast.edges import logs
from outlast.edges.settings import environment, load

__all__ = ["register"]

T = TypeVar("T")

WHAT: Final = "Fire drills: simulated providers fail, the jobs do not."
OUTAGE: Final = """
A provider goes down in mid-run, as on 29 March 2026, and comes back.

Runs the stages against simulated providers on topics of its own, publishes jobs, and accounts
for each at the end; exits with 1 when one is lost or has not ended. Real providers, keys and
topics are not touched.
"""
EXAMPLES: Final = """
outlast drill outage
outlast drill outage --jobs 1000 --seconds 120 --keep
"""
SCENARIO: Final = """
Runs several processes and four simulated providers on topics of its own, accounts for each job
at the end, and prints what was seen beside what is promised; exits with 1 when a promise is not
kept. Real providers, keys and topics are not touched.
"""

BootstrapServers = Annotated[
    str | None,
    typer.Option(
        "--bootstrap-servers", metavar="HOST:PORT", help="The cluster; else the configured one."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = new_app(**described(WHAT, "outlast drill outage\noutlast drill recovery"))
    group.command(**described(OUTAGE, EXAMPLES))(outage)
    for scenario in SCENARIOS.values():
        about = described(f"{scenario.what}\n\n{SCENARIO.strip()}", _examples(scenario))
        group.command(scenario.name, **about)(_player(scenario))
    app.add_typer(group, name="drill")


def _examples(scenario: Scenario) -> str:
    return f"outlast drill {scenario.name}\noutlast drill {scenario.name} --json"


def _player(scenario: Scenario) -> Callable[..., None]:
    """The command of a scenario."""

    def command(
        context: typer.Context,
        bootstrap_servers: BootstrapServers = None,
        jobs: Annotated[
            int | None,
            typer.Option(
                "--jobs", min=12, metavar="N", help=f"How many jobs.  [default: {scenario.jobs}]"
            ),
        ] = None,
        seconds: Annotated[
            float | None,
            typer.Option(
                "--seconds",
                min=5,
                metavar="SECONDS",
                help=f"How long the trouble lasts.  [default: {scenario.seconds:g}]",
            ),
        ] = None,
        logs_in: Annotated[
            Path | None,
            typer.Option(
                "--logs", metavar="DIRECTORY", help="Keep the logs of all processes there."
            ),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        logs.configure(environment(), libraries=logging.CRITICAL)
        servers = bootstrap_servers or settings_of(context).kafka.bootstrap_servers
        if logs_in is not None:
            logs_in.mkdir(parents=True, exist_ok=True)
        console = err if as_json else out
        playing = play(scenario, servers, console, jobs=jobs, seconds=seconds, logs=logs_in)
        _told(scenario, asyncio.run(_ending_on_signals(playing)), as_json)

    return command


def _told(scenario: Scenario, played: Played, as_json: bool) -> None:
    figures = figures_of(scenario, played)
    if as_json:
        print_json(figures_json(scenario, played, figures))
    else:
        print_figures(out, played, figures)
    if not holds(figures):
        raise typer.Exit(1)


def outage(
    context: typer.Context,
    bootstrap_servers: BootstrapServers = None,
    jobs: Annotated[int, typer.Option("--jobs", min=12, metavar="N", help="How many jobs.")] = 300,
    seconds: Annotated[
        float,
        typer.Option("--seconds", min=20, metavar="SECONDS", help="How long they are published."),
    ] = 50,
    local_url: Annotated[
        str | None,
        typer.Option(
            "--local-url", metavar="URL", help="A real OpenAI-compatible server for `local`."
        ),
    ] = None,
    local_model: Annotated[
        str, typer.Option("--local-model", metavar="NAME", help="The model it serves.")
    ] = "local-model",
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything up until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the drill; exits with 1 when a job is lost or has not ended."""
    logs.configure(environment(), libraries=logging.CRITICAL)
    servers = bootstrap_servers or settings_of(context).kafka.bootstrap_servers
    local = LocalModel(local_url, local_model) if local_url else None
    outcome: list[Drilled] = []

    def ended(drilled: Drilled) -> None:
        outcome.append(drilled)
        if as_json:
            print_json(report_json(drilled.seen, drilled.report))
        else:
            print_report(out, drilled.seen, drilled.report, drilled.simulated)

    wanted = Drill(bootstrap_servers=servers, jobs=jobs, local=local, keep=keep, seconds=seconds)
    asyncio.run(_ending_on_signals(run_drill(wanted, err if as_json else out, ended, _print_next)))
    if not outcome or outcome[0].report.lost or outcome[0].report.open:
        raise typer.Exit(1)


async def _ending_on_signals(drill: Coroutine[Any, Any, T]) -> T:
    """SIGTERM and SIGHUP end it as Ctrl-C does: whatever it started is stopped."""
    task = asyncio.ensure_future(drill)
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _print_next(config: Path) -> None:
    """What to try while it is up."""
    kafka = load({}, str(config)).kafka
    command = _command()
    line("\nStill up. Try, in another terminal (Ctrl-C here stops everything):", style="bold")
    line(f"  export OUTLAST_CONFIG={config}")
    line(f'  {command} submit "What outlasts an outage?" --route chat')
    line(f"  {command} results --follow")
    line(
        '  echo \'{"model":"chat","messages":[{"role":"user","content":"hi"}]}\' | '
        f"kcat -P -b {kafka.bootstrap_servers} -t {kafka.prefix}.jobs"
    )
    line("  real keys: in that file remove the base_url of a provider, set its api_key_env to the")
    line(f"  name of your variable, export that, and start `{command} run` beside this")


def _command() -> str:
    """How to call `outlast` from where we are."""
    if shutil.which("outlast"):
        return "outlast"
    return os.path.relpath(Path(sys.executable).with_name("outlast"))
