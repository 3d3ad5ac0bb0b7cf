"""``outlast doctor``: what is wrong here, and what to do about it."""

import asyncio
import resource
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final

import typer
from aiokafka.errors import KafkaError

from outlast.cli.help import described
from outlast.cli.invocation import connected, settings_of
from outlast.cli.terminal import AsJson, counting, line, out, print_json
from outlast.core.errors import KafkaUnreachable
from outlast.core.facts import Called, ClusterFacts, Facts
from outlast.core.policy import Catalogue, Provider
from outlast.doctor import Finding, Severity, examine
from outlast.edges.kafka.examination import look
from outlast.edges.providers.trial import trial
from outlast.edges.settings import Settings, api_key, environment
from outlast.edges.settings.examination import mistake_in_key, secrets_of

__all__ = ["fields_of", "register"]

STYLES: Final = {Severity.OK: "green", Severity.ADVICE: "yellow", Severity.PROBLEM: "bold red"}
MARK_WIDTH: Final = 9

WHAT: Final = """
Say what is wrong here, and what to do about each finding.

Looks at the settings, the keys, this host, the cluster, its topics, offsets and clocks, and
at who is at work. Changes nothing: to compare clocks it writes one empty record to the topic
of lent calls, which no stage heeds and which is gone after an hour.

Each line begins with ok, advice (it works and could be better) or problem. Exits with 1 when
there is a problem, 3 when no broker answers.
"""
EXAMPLES: Final = """
outlast doctor
outlast doctor --providers     also one real call of one token each, billed
outlast doctor --json          for a script
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(**described(WHAT, EXAMPLES))(doctor)


def doctor(
    context: typer.Context,
    providers: Annotated[
        bool,
        typer.Option("--providers", help="Call each provider for one token, 10 s at most."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look, judge, print; exits with 1 when there is a problem."""
    settings = settings_of(context)
    findings, unreachable = asyncio.run(_examine(settings, environment(), providers))
    if as_json:
        print_json(fields_of(findings, unreachable))
    else:
        _print(findings, seen_all=unreachable is None)
    if unreachable is not None:
        raise unreachable
    if any(each.severity is Severity.PROBLEM for each in findings):
        raise typer.Exit(1)


async def _examine(
    settings: Settings, environ: Mapping[str, str], call: bool
) -> tuple[tuple[Finding, ...], KafkaUnreachable | None]:
    """The findings, and why those about the cluster are missing, if they are."""
    facts = replace(_here(settings, environ), called=await _called(settings, environ, call))
    try:
        facts = replace(facts, cluster=await _there(settings))
    except KafkaUnreachable as error:
        return examine(facts), error
    return examine(facts), None


def _here(settings: Settings, environ: Mapping[str, str]) -> Facts:
    kafka = settings.kafka
    return Facts(
        catalogue=settings.catalogue,
        path=settings.path,
        secrets=tuple(secrets_of(settings, environ)),
        open_files=_open_files(),
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        bootstrap_servers=kafka.bootstrap_servers,
    )


async def _there(settings: Settings) -> ClusterFacts:
    """Raises ``KafkaUnreachable``."""
    try:
        async with connected(settings, needs_topics=False) as connection:
            return await look(
                settings.kafka, settings.catalogue, connection.cluster, connection.admin
            )
    except KafkaError as error:
        why = str(error) or type(error).__name__
        raise KafkaUnreachable(f"Kafka refused or did not answer: {why}") from error


def _open_files() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


async def _called(
    settings: Settings, environ: Mapping[str, str], wanted: bool
) -> tuple[Called, ...]:
    """All at once, so that it takes as long as the slowest."""
    if not wanted:
        return ()
    providers = settings.catalogue.providers.values()
    with counting("calling providers: answered", total=len(providers)) as count:

        async def call(provider: Provider) -> Called:
            called = await _call(settings.catalogue, provider, environ)
            count(1)
            return called

        return tuple(await asyncio.gather(*map(call, providers)))


async def _call(catalogue: Catalogue, provider: Provider, environ: Mapping[str, str]) -> Called:
    targets = (each for route in catalogue.routes.values() for each in route.targets)
    model = next((each.model for each in targets if each.provider == provider.name), None)
    if model is None or mistake_in_key(provider, environ) is not None:
        return Called(provider=provider.name, model=model, base_url=provider.base_url, verdict=None)
    return await trial(provider, model, api_key(provider, environ))


def _print(findings: Sequence[Finding], *, seen_all: bool) -> None:
    for finding in findings:
        _print_one(finding)
    counts = Counter(each.severity for each in findings)
    problems, advice = counts[Severity.PROBLEM], counts[Severity.ADVICE]
    far = "" if seen_all else ", as far as can be seen without Kafka"
    line(f"{problems} problem(s), {advice} advice{far}", style="bold")


def _print_one(finding: Finding) -> None:
    mark, *more = _wrapped(f"{finding.check.value}: {finding.what}", MARK_WIDTH)
    out.print(f"{finding.severity.value:<{MARK_WIDTH}}", style=STYLES[finding.severity], end="")
    line(mark)
    for each in (*more, *_wrapped(finding.remedy, MARK_WIDTH + 2)):
        line(each)


def _wrapped(text: str, indent: int) -> list[str]:
    """Lines that fit the terminal; the first is not indented when it follows a mark."""
    lines = textwrap.wrap(
        text,
        max(40, out.width - indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
    pad = " " * indent
    first = "" if indent == MARK_WIDTH else pad
    return [(first if number == 0 else pad) + each for number, each in enumerate(lines)]


def fields_of(
    findings: Sequence[Finding], unreachable: KafkaUnreachable | None
) -> dict[str, object]:
    """The object that ``--json`` prints."""
    counts = Counter(each.severity for each in findings)
    return {
        "problems": counts[Severity.PROBLEM],
        "advice": counts[Severity.ADVICE],
        "unreachable": None if unreachable is None else str(unreachable),
        "findings": [each.to_json() for each in findings],
    }
