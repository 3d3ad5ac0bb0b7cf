"""All commands of ``outlast``: one small module each, errors as one clear message."""

import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from aiokafka.errors import KafkaError

from outlast.cli import (
    audit,
    dead_letters,
    doctor,
    drill,
    init,
    providers,
    replay,
    results,
    run,
    status,
    submit,
    topics,
)
from outlast.cli.help import new_app
from outlast.cli.invocation import Invocation
from outlast.cli.terminal import ReaderGone, complain, mute, never_fail_on_a_character
from outlast.core.errors import KafkaUnreachable, OutlastError

__all__ = ["app", "run_command"]

EXIT_CODES = """\b
Exit codes:
  0    all is well
  1    a finding: a job lost, a plan that differs, a problem, a job not there
  2    wrong usage, settings or topics; the message says what to do
  3    Kafka does not answer
  4    a watchdog ended the process: start it again
  130  Ctrl-C
"""

app = new_app(
    name="outlast",
    help="An inference queue on Kafka: a job outlives the provider that was to answer it.",
    epilog=EXIT_CODES,
)

for each in (
    submit,
    results,
    dead_letters,
    init,
    topics,
    run,
    providers,
    status,
    replay,
    doctor,
    audit,
    drill,
):
    each.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"outlast {version('outlast')}")
        raise typer.Exit


@app.callback()
def outlast(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="PATH",
            help="The settings; else what OUTLAST_CONFIG names, else ./outlast.toml.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """What holds for every command."""
    context.obj = Invocation(config)


def run_command() -> NoReturn:
    """Run one command and exit: 0, 1 a finding, 2 usage or settings, 3 no Kafka, 130 Ctrl-C."""
    never_fail_on_a_character()
    try:
        app()
    except ReaderGone:
        mute()
        sys.exit(ReaderGone.exit_code)
    except OutlastError as error:
        complain(error)
        sys.exit(error.exit_code)
    except KafkaError as error:
        complain(
            KafkaUnreachable(f"Kafka refused or did not answer: {error or type(error).__name__}")
        )
        sys.exit(KafkaUnreachable.exit_code)
    sys.exit(0)
