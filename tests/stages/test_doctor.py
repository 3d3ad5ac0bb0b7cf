"""What a doctor makes of the facts, as tables: no broker, no host, no provider needed."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from outlast.core.facts import Called, ClusterFacts, Facts, GroupFacts, SecretFacts, TopicFacts
from outlast.core.policy import Catalogue, Limits, Provider, Route, Target
from outlast.core.verdict import Verdict
from outlast.doctor import Finding, Severity, examine
from outlast_schemas.attempt import VerdictWord

DAY_MS = 86_400_000
SETTINGS = {
    "auto.create.topics.enable": "false",
    "offsets.retention.minutes": str(30 * 24 * 60),
    "socket.request.max.bytes": "104857600",
}
OPENAI = Provider(
    name="openai", family="openai", base_url="https://api.openai.com/v1", api_key_env="OPENAI_KEY"
)


def catalogue(provider: Provider = OPENAI) -> Catalogue:
    route = Route(name="chat", targets=(Target(provider.name, "m"),))
    return Catalogue(providers={provider.name: provider}, routes={"chat": route})


def topic(name: str = "outlast.jobs", **facts: int) -> TopicFacts:
    return TopicFacts(
        name=name, **{"replicas": 3, "retention_ms": 7 * DAY_MS, "min_in_sync": 2, **facts}
    )


def group(**facts: int) -> GroupFacts:
    return GroupFacts(
        name="outlast.route",
        command="outlast run route",
        **{"members": 1, "waiting": 0, **facts},
    )


CLUSTER = ClusterFacts(
    brokers=3,
    topics=(topic(),),
    groups=(group(),),
    read_by_groups=frozenset({"outlast.jobs"}),
    settings=SETTINGS,
    largest_record=1_065_536,
    clock_ms=0,
)
WELL = Facts(
    catalogue=catalogue(),
    path="outlast.toml",
    secrets=(SecretFacts(key="providers.openai.api_key_env"),),
    open_files=1_024,
    bootstrap_servers="localhost:9092",
    cluster=CLUSTER,
)


def bad(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [
        (each.severity.value, each.check.value)
        for each in findings
        if each.severity is not Severity.OK
    ]


def only(facts: Facts) -> Finding:
    """The one finding that is not well."""
    [found] = [each for each in examine(facts) if each.severity is not Severity.OK]
    return found


def test_where_all_is_well_every_check_says_so_once_and_asks_for_nothing() -> None:
    findings = examine(WELL)

    assert bad(findings) == []
    assert len({each.check for each in findings}) == len(findings) == 11
    assert {each.remedy for each in findings} == {""}


def test_without_a_cluster_only_what_is_known_here_is_judged() -> None:
    checks = [each.check.value for each in examine(replace(WELL, cluster=None))]

    assert checks == ["settings", "keys", "open files", "transport"]


@pytest.mark.parametrize(
    ("facts", "severity", "what", "remedy"),
    [
        (
            replace(WELL, catalogue=Catalogue(providers={}, routes={})),
            "problem",
            "no provider is configured",
            "outlast init",
        ),
        (
            replace(WELL, catalogue=replace(catalogue(), routes={})),
            "advice",
            "no route is configured",
            "[routes.<name>]",
        ),
        (
            replace(
                WELL,
                catalogue=catalogue(
                    replace(OPENAI, limits=Limits(concurrency=9, tokens_per_minute=5))
                ),
            ),
            "advice",
            "tokens_per_minute not enforced",
            "choose the concurrency",
        ),
        (
            replace(WELL, catalogue=catalogue(replace(OPENAI, api_key_env=None))),
            "problem",
            "providers.openai names no API key",
            "providers.openai.api_key_env",
        ),
        (
            replace(
                WELL,
                secrets=(
                    SecretFacts(
                        key="providers.openai.api_key_env",
                        mistake="providers.openai.api_key_env: the environment variable "
                        "OPENAI_KEY is not set: set it to the API key of openai",
                    ),
                ),
            ),
            "problem",
            "the environment variable OPENAI_KEY is not set",
            "set it to the API key of openai",
        ),
        (
            replace(WELL, secrets=(SecretFacts(key="kafka.x_file", file="/k", is_open=True),)),
            "advice",
            "other users of this host may read /k",
            "chmod 600 /k",
        ),
        (replace(WELL, open_files=199), "advice", "199 are allowed", "ulimit -n 200"),
        (
            replace(WELL, bootstrap_servers="localhost:9092,kafka.example:9092"),
            "advice",
            "travel unencrypted",
            "SASL_SSL",
        ),
        (
            replace(WELL, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN"),
            "problem",
            "PLAIN without TLS",
            "SASL_SSL",
        ),
        (
            replace(
                WELL,
                security_protocol="SASL_PLAINTEXT",
                sasl_mechanism="SCRAM-SHA-512",
                bootstrap_servers="kafka.example:9092",
            ),
            "advice",
            "travel unencrypted",
            "SASL_SSL",
        ),
    ],
)
def test_what_is_wrong_here(facts: Facts, severity: str, what: str, remedy: str) -> None:
    found = only(facts)

    assert found.severity == severity
    assert what in found.what
    assert remedy in found.remedy


@pytest.mark.parametrize("servers", ["localhost:1", "127.0.0.1:1", "[::1]:1"])
def test_what_stays_on_this_host_needs_no_encryption(servers: str) -> None:
    assert bad(examine(replace(WELL, bootstrap_servers=servers))) == []


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_with_tls_any_network_will_do(protocol: str) -> None:
    facts = replace(
        WELL, security_protocol=protocol, sasl_mechanism="PLAIN", bootstrap_servers="far:9092"
    )

    assert bad(examine(facts)) == []


@pytest.mark.parametrize(
    ("changed", "severity", "what", "remedy"),
    [
        ({"steps": ("create a", "b", "c", "d")}, "problem", "4 step(s)", "outlast topics apply"),
        ({"refusal": "pool p has too few: raise it"}, "problem", "pool p has too few", "raise it"),
        ({"orphans": {"outlast.work.old": 3}}, "advice", "3 record(s) wait for nobody", "back"),
        ({"orphans": {"outlast.work.old": 0}}, "advice", "no configured provider", "delete"),
        ({"topics": (topic(replicas=1),)}, "problem", "fewer than 3 replicas", "reassign"),
        ({"topics": (topic(leaderless=1),)}, "problem", "without a leader", "broker back"),
        ({"topics": (topic(behind=1),)}, "problem", "out of sync", "a broker is down"),
        ({"topics": (topic(min_in_sync=3),)}, "advice", "min.insync.replicas", "2 of 3"),
        ({"groups": (group(members=0, unbegun=4),)}, "problem", "outlast.route", "topics apply"),
        ({"groups": (group(unbegun=4, members=1),)}, "advice", "at work now", "stop them all"),
        (
            {"settings": {**SETTINGS, "offsets.retention.minutes": str(7 * 24 * 60 - 1)}},
            "problem",
            "outlast.jobs keeps records for 7 d",
            "offsets.retention.minutes of the brokers to 10080",
        ),
        ({"settings": {}}, "advice", "do not tell them", "operator"),
        (
            {"settings": {**SETTINGS, "auto.create.topics.enable": "true"}},
            "advice",
            "auto.create.topics.enable is on",
            "auto.create.topics.enable=false",
        ),
        (
            {"settings": {**SETTINGS, "socket.request.max.bytes": "1000000"}},
            "problem",
            "1,065,536",
            "kafka.max_body_bytes",
        ),
        ({"clock_ms": None}, "advice", "not compared", "outlast topics apply"),
        ({"clock_ms": 2_001}, "problem", "2.0 s behind", "NTP"),
        ({"clock_ms": -9_000}, "problem", "9.0 s ahead of", "NTP"),
        (
            {"groups": (group(members=0, waiting=7),)},
            "advice",
            "7 record(s) wait for outlast.route",
            "start `outlast run route`",
        ),
    ],
)
def test_what_is_wrong_there(
    changed: dict[str, object], severity: str, what: str, remedy: str
) -> None:
    found = only(replace(WELL, cluster=replace(CLUSTER, **changed)))  # type: ignore[arg-type]

    assert found.severity == severity
    assert what in found.what
    assert remedy in found.remedy


@pytest.mark.parametrize(
    "changed",
    [
        {"clock_ms": 2_000},
        {"clock_ms": -2_000},
        {"groups": (group(members=0),)},
        {"groups": (group(members=2, waiting=9),)},
        {"topics": (topic(retention_ms=-1),)},
        {"topics": (topic(), topic("outlast.dead-letters", retention_ms=99 * DAY_MS))},
        {"settings": {**SETTINGS, "offsets.retention.minutes": str(7 * 24 * 60)}},
        {"topics": (topic(min_in_sync=1, replicas=3),)},
    ],
)
def test_what_is_well_enough_there(changed: dict[str, object]) -> None:
    """Dead letters are read by no group, so their retention needs no offsets."""
    facts = replace(WELL, cluster=replace(CLUSTER, **changed))  # type: ignore[arg-type]

    assert bad(examine(facts)) == []


def test_one_broker_is_said_once_and_no_topic_is_blamed_for_it() -> None:
    alone = replace(CLUSTER, brokers=1, topics=(topic(replicas=1, min_in_sync=1),))

    assert bad(examine(replace(WELL, cluster=alone))) == [("advice", "kafka")]


def test_the_first_names_stand_in_a_finding_and_the_rest_are_counted() -> None:
    steps = tuple(f"create t{number}" for number in range(5))
    found = only(replace(WELL, cluster=replace(CLUSTER, steps=steps)))

    assert "create t0; create t1; create t2 and 2 more" in found.what


# --- providers --------------------------------------------------------------------------------


def called(verdict: Verdict | None, model: str | None = "m") -> Facts:
    call = Called(
        provider="openai", model=model, base_url="https://h/v1", verdict=verdict, seconds=0.25
    )
    return replace(WELL, called=(call,))


@pytest.mark.parametrize(
    ("word", "severity", "remedy"),
    [
        (VerdictWord.RETRY_LATER, "advice", "limits.concurrency"),
        (VerdictWord.PROVIDER_DOWN, "problem", "base_url (https://h/v1)"),
        (VerdictWord.ACCOUNT_BLOCKED, "problem", "the key is the right one"),
        (VerdictWord.MISROUTED, "problem", "the model's name"),
        (VerdictWord.AMBIGUOUS, "problem", "did not answer in time"),
        (VerdictWord.JOB_REJECTED, "advice", "chat model"),
        (VerdictWord.CONTEXT_TOO_LONG, "advice", "chat model"),
        (VerdictWord.CONTENT_POLICY, "advice", "ping"),
    ],
)
def test_every_verdict_has_its_remedy(word: VerdictWord, severity: str, remedy: str) -> None:
    found = only(called(Verdict(word=word, status=418, note="why")))

    assert found.severity == severity
    assert found.what == f"openai/m {word.value} (418) in 0.25 s: why"
    assert remedy in found.remedy


def test_a_provider_that_answers_is_well() -> None:
    findings = examine(called(Verdict(word=VerdictWord.SUCCEEDED, status=200)))

    assert bad(findings) == []
    assert findings[-1].what == "openai/m succeeded (200) in 0.25 s"


def test_a_provider_that_could_not_be_called_is_named() -> None:
    assert "without its key" in only(called(None)).what
    assert "no route names a model" in only(called(None, model=None)).what
