"""What can be judged without asking anybody: the settings, the keys, this host."""

from collections.abc import Iterator
from typing import Final

from outlast.core.facts import Facts
from outlast.core.policy import Provider
from outlast.doctor.finding import Check, Finding, advice, or_well, problem

__all__ = ["keys", "open_files", "settings", "transport"]

BESIDE_CALLS: Final = 100
"""Files and connections that a process has open beside those of its calls."""
MOST_IN_FLIGHT: Final = 4_000
"""The default of ``outlast run --max-in-flight``, which bounds the calls of one process."""
KEYED: Final = frozenset({"anthropic", "deepseek", "openai"})
"""Families that answer nobody without a key."""


def settings(facts: Facts) -> Iterator[Finding]:
    """Providers and routes are configured, and what is configured has an effect."""
    catalogue = facts.catalogue
    where = facts.path or "the environment"
    counts = f"{len(catalogue.providers)} provider(s), {len(catalogue.routes)} route(s)"
    yield from or_well(_settings(facts), Check.SETTINGS, f"{where}: {counts}")


def _settings(facts: Facts) -> Iterator[Finding]:
    catalogue = facts.catalogue
    if not catalogue.providers:
        yield problem(
            Check.SETTINGS,
            "no provider is configured",
            "write [providers.<name>] into outlast.toml (`outlast init` makes one)",
        )
    elif not catalogue.routes:
        yield advice(
            Check.SETTINGS,
            "no route is configured: a job must name provider/model itself",
            "write [routes.<name>] with its targets into outlast.toml",
        )
    for name, provider in catalogue.providers.items():
        yield from _unenforced(name, provider)


def _unenforced(name: str, provider: Provider) -> Iterator[Finding]:
    limits = provider.limits
    set_ = [
        key
        for key, value in (
            ("requests_per_minute", limits.requests_per_minute),
            ("tokens_per_minute", limits.tokens_per_minute),
        )
        if value is not None
    ]
    if set_:
        yield advice(
            Check.SETTINGS,
            f"providers.{name}.limits: {' and '.join(set_)} not enforced by this version",
            "choose the concurrency so that the pool stays below them",
        )


def keys(facts: Facts) -> Iterator[Finding]:
    """Every secret that is named can be used, and is read by nobody else."""
    count = len(facts.secrets)
    well = f"{count} named, all there" if count else "none is named"
    yield from or_well(_keys(facts), Check.KEYS, well)


def _keys(facts: Facts) -> Iterator[Finding]:
    for name, provider in facts.catalogue.providers.items():
        if provider.family in KEYED and not (provider.api_key_env or provider.api_key_file):
            yield problem(
                Check.KEYS,
                f"providers.{name} names no API key, and {provider.family} needs one",
                f"set providers.{name}.api_key_env to the name of the variable that holds it",
            )
    for secret in facts.secrets:
        if secret.mistake is not None:
            what, _, remedy = secret.mistake.rpartition(": ")
            yield problem(Check.KEYS, what or remedy, remedy if what else f"see {secret.key}")
        elif secret.is_open:
            yield advice(
                Check.KEYS,
                f"{secret.key}: other users of this host may read {secret.file}",
                f"chmod 600 {secret.file}",
            )


def open_files(facts: Facts) -> Iterator[Finding]:
    """A call in flight holds a connection, and a connection is an open file."""
    pools = facts.catalogue.providers.values()
    calls = sum(min(pool.limits.concurrency, MOST_IN_FLIGHT) for pool in pools)
    allowed, needed = facts.open_files, calls + BESIDE_CALLS
    if allowed is None or allowed >= needed:
        well = f"{'any number' if allowed is None else f'{allowed:,}'} allowed, {needed:,} needed"
        yield from or_well((), Check.OPEN_FILES, well)
    else:
        yield advice(
            Check.OPEN_FILES,
            f"{allowed:,} are allowed here; one process with {calls:,} calls needs {needed:,}",
            f"`ulimit -n {needed}` where `outlast run` is started, or smaller pools per process",
        )


def transport(facts: Facts) -> Iterator[Finding]:
    """What goes to Kafka, the password included, is read by nobody on the way."""
    yield from or_well(_transport(facts), Check.TRANSPORT, _spoken(facts))


def _spoken(facts: Facts) -> str:
    mechanism = f", {facts.sasl_mechanism}" if facts.security_protocol.startswith("SASL") else ""
    return f"{facts.security_protocol}{mechanism} to {facts.bootstrap_servers}"


def _transport(facts: Facts) -> Iterator[Finding]:
    if facts.security_protocol in ("SSL", "SASL_SSL"):
        return
    if facts.security_protocol == "SASL_PLAINTEXT" and facts.sasl_mechanism in (
        "PLAIN",
        "OAUTHBEARER",
    ):
        yield problem(
            Check.TRANSPORT,
            f"{facts.sasl_mechanism} without TLS: the password or token travels as it is",
            'set kafka.security_protocol = "SASL_SSL"',
        )
    elif not all(map(_is_loopback, facts.bootstrap_servers.split(","))):
        yield advice(
            Check.TRANSPORT,
            f"{_spoken(facts)}: prompts and answers travel unencrypted",
            'set kafka.security_protocol to "SSL" or "SASL_SSL" where the network is not yours',
        )


def _is_loopback(server: str) -> bool:
    host = server.strip().rpartition(":")[0].strip("[]")
    return host == "localhost" or host == "::1" or host.startswith("127.")
