"""``outlast submit``: publish jobs from the command line."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from outlast.cli.bodies import Bodies, from_file, from_message, from_stdin
from outlast.cli.help import described
from outlast.cli.invocation import settings_of
from outlast.cli.publishing import Wish, publish
from outlast.cli.terminal import AsJsonLines, err
from outlast.cli.terms import check_batch, check_id, terms_of
from outlast.core.capability import Operation
from outlast.core.policy import Catalogue, OnAmbiguous

__all__ = ["register"]

WHAT: Final = """
Publish jobs: a message, or JSON bodies from a file.

Prints the id of each job that Kafka has acknowledged. Bodies are requests as OpenAI's API takes
them, one JSON object on a line; a file is looked through before the first is published, standard
input is published as it comes.
"""
EXAMPLES: Final = """
outlast submit "What outlasts an outage?" --wait
outlast submit --file jobs.jsonl --route chat --batch import-7
zcat jobs.jsonl.gz | outlast submit --file - --ttl 3600
"""
MORE: Final = """
With --batch NAME the ids are NAME/0, NAME/1, ...: run again after a failure, it publishes no
job as another one, and copies are dropped while the first is remembered.
"""

LONGEST_PATH: Final = 255
"""Characters of a message that may be meant as the name of a file."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(**described(WHAT, EXAMPLES, more=MORE))(submit)


def submit(
    context: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(metavar="MESSAGE", help="What to ask; - reads it, or bodies, from stdin."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="PATH", help="Bodies, one a line; - is stdin."),
    ] = None,
    route: Annotated[
        str | None,
        typer.Option("--route", metavar="NAME", help="The route; else the body's model says it."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="For a message: a route, or provider/model.", metavar="NAME"),
    ] = None,
    operation: Annotated[
        Operation | None,
        typer.Option(
            "--operation",
            metavar="NAME",
            help="chat.completions or embeddings.  [default: the first]",
        ),
    ] = None,
    job_id: Annotated[
        str | None,
        typer.Option("--job-id", metavar="ID", help="The id of a single job; else a new UUID."),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("--batch", metavar="NAME", help="Ids made of this name and a number."),
    ] = None,
    ttl: Annotated[
        float | None,
        typer.Option(
            "--ttl", metavar="SECONDS", help="How long an answer is wanted; else as its route."
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline", metavar="INSTANT", help="The same as an instant: 2026-03-30T06:00:00Z."
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", metavar="NAME", help="Who may see it: a provider or jurisdiction:eu; repeat."
        ),
    ] = None,
    on_ambiguous: Annotated[
        OnAmbiguous | None,
        typer.Option(
            "--on-ambiguous",
            metavar="HOW",
            help="alternate, retry or hold, when a call may have been executed; else as its route.",
        ),
    ] = None,
    results: Annotated[
        str | None,
        typer.Option("--results", metavar="NAME", help="The result topic; else the route's."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", metavar="NAME=VALUE", help="A header that comes back with it; repeat."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the result of the job and print the answer.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0, help="With --wait: no longer than this."
        ),
    ] = None,
    as_json: AsJsonLines = False,
) -> None:
    """Publish, and print the id of each job that the broker has acknowledged."""
    if (text is None) == (file is None):
        raise typer.BadParameter("give a message, or --file PATH, or - for standard input")
    if timeout is not None and not wait:
        raise typer.BadParameter("it needs --wait", param_hint="--timeout")
    check_id(job_id)
    check_batch(batch)
    if job_id is not None and batch is not None:
        raise typer.BadParameter("--job-id and --batch exclude each other")
    terms = terms_of(
        route=route,
        operation=operation,
        ttl=ttl,
        deadline=deadline,
        scope=scope,
        on_ambiguous=on_ambiguous,
        results=results,
        header=header,
    )
    settings = settings_of(context)
    bodies = _bodies(text, file, model, operation, settings.kafka.max_body_bytes)
    if (job_id is not None or wait) and bodies.total != 1:
        hint = "--job-id" if job_id is not None else "--wait"
        raise typer.BadParameter("it is for a single job", param_hint=hint)
    _warn(settings.catalogue, route or model)
    wish = Wish(job_id=job_id, batch=batch, wait=wait, timeout=timeout, as_json=as_json)
    asyncio.run(publish(settings, bodies, wish, terms))


def _bodies(
    text: str | None, file: str | None, model: str | None, operation: Operation | None, limit: int
) -> Bodies:
    if file is None and text != "-":
        _refuse_path(text or "")
        return _one(from_message(text or "", model, operation), limit)
    if file is not None and file != "-":
        found: Bodies | str = from_file(file, limit)
    else:
        found = from_stdin(limit, or_message=file is None)
    if isinstance(found, str):
        return _one(from_message(found, model, operation), limit)
    if model is not None:
        raise typer.BadParameter(
            "it is for a message; a JSON body says its own model (or use --route)",
            param_hint="--model",
        )
    return found


def _refuse_path(text: str) -> None:
    """A file's name alone is hardly a question, and whoever meant its lines would pay for it."""
    if len(text) <= LONGEST_PATH and Path(text).is_file():
        raise typer.BadParameter(
            f"{text} is a file: --file {text} publishes what is in it; "
            "if that is the question, add a word to it"
        )


def _one(body: bytes, limit: int) -> Bodies:
    if len(body) > limit:
        raise typer.BadParameter(
            f"the body has {len(body):,} bytes; the limit is {limit:,} (kafka.max_body_bytes)"
        )
    return Bodies([body], limit, total=1)


def _warn(catalogue: Catalogue, route: str | None) -> None:
    """The stages decide by their own configuration; by this one it would be a dead letter."""
    if route is not None and catalogue.routes and catalogue.route(route) is None:
        known = ", ".join(sorted(catalogue.routes))
        err.print(f"warning: no route {route!r} is configured here ({known})", soft_wrap=True)
