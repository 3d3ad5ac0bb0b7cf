"""All commands of ``outlast``: one small module each, errors as one clear message."""

import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from aiokafka.errors import KafkaError

from outlast.cli import audit, dead_letters, drill, replay, results, run, submit, topics
from outlast.cli.invocation import Invocation
from outlast.cli.terminal import complain
from outlast.core.errors import KafkaUnreachable, OutlastError

__all__ = ["app", "run_command"]

app = typer.Typer(
    name="outlast",
    help="An inference queue on Kafka: a job outlives the provider that was to answer it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

run.register(app)
drill.register(app)
submit.register(app)
results.register(app)
dead_letters.register(app)
replay.register(app)
audit.register(app)
topics.register(app)


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
    try:
        app()
    except OutlastError as error:
        complain(error)
        sys.exit(error.exit_code)
    except KafkaError as error:
        complain(
            KafkaUnreachable(f"Kafka refused or did not answer: {error or type(error).__name__}")
        )
        sys.exit(KafkaUnreachable.exit_code)
    sys.exit(0)
