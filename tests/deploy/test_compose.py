"""docker-compose.yml where no Docker daemon can run it: everything that can be checked without one.

tests/e2e/test_compose_processes.py starts its commands, tests/deploy/test_compose_brokers.py its
brokers, and tests/deploy/test_dockerfile.py builds what goes into its image.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import typer

from deploy.local import serve
from outlast.app import STAGES
from outlast.cli.commands import app
from outlast.drill.simulator import __main__ as simulator
from outlast.edges.settings import load
from outlast.edges.settings.build import BASE_URLS
from outlast_schemas.topics import Topics
from tests.deploy import compose, dockerfile

KEYS = {name: f"{name.upper()}_API_KEY" for name in BASE_URLS}
EVERYTHING = {
    **dict.fromkeys(KEYS.values(), "a-key"),
    "OUTLAST_BROKERS": "3",
    "OUTLAST_KAFKA_PORT": "9093",
    "OUTLAST_KAFKA_PORT_2": "9193",
    "OUTLAST_LOCAL_URL": "http://local-model:8080/v1",
}
HEAD = compose.FILE.read_text().split("\nname:")[0]


# --- the file as such -------------------------------------------------------------------------


def schema_check(path: Path) -> subprocess.CompletedProcess[str]:
    """Against the schema of the Compose specification that check-jsonschema brings along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)


def test_the_file_keeps_to_the_compose_specification(tmp_path: Path) -> None:
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(compose.FILE.read_text().replace("depends_on:", "depend_on:"))

    checked = schema_check(compose.FILE)
    assert checked.returncode == 0, checked.stdout
    assert schema_check(wrong).returncode == 1


@pytest.mark.parametrize("environ", [{}, EVERYTHING], ids=["no-variable", "every-variable"])
def test_docker_compose_reads_it_as_these_tests_do(environ: dict[str, str]) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in compose.variables()}
    command = ["docker", "compose", "--env-file", os.devnull, "-f", str(compose.FILE)]
    if not answers("docker", "compose", "version"):
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [*command, "--profile", "*", "config", "--format", "json"],
        env=clean | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.replace("$$", "$"))["services"]

    assert {name: words(each) for name, each in theirs.items()} == {
        name: words(each) for name, each in compose.services(environ).items()
    }


def answers(*command: str) -> bool:
    """Whether the command is there and content."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def words(service: dict[str, Any]) -> dict[str, Any]:
    """The part of a service that both write in the same way."""
    same = ("command", "entrypoint", "environment", "image", "hostname", "profiles", "init")
    return {key: service.get(key) or None for key in same}


def test_every_variable_is_explained_in_the_head_and_every_explained_one_is_used() -> None:
    explained = set(re.findall(r"^#   ([A-Z][A-Z0-9_]+)(?:  |$)", HEAD, re.MULTILINE))

    assert explained == compose.variables()


def test_every_file_that_is_mounted_or_built_from_exists() -> None:
    for name, service in compose.services().items():
        for volume in service.get("volumes", ()):
            source, _, mode = volume.split(":") if volume.count(":") == 2 else (volume, "", "ro")
            if source.startswith("."):
                assert (compose.ROOT / source).is_file(), name
                assert mode == "ro", name
        if "build" in service:
            build = service["build"]
            assert (compose.ROOT / build["context"] / build["dockerfile"]).is_file(), name
            assert build["target"] in dockerfile.stages(), name


def test_every_named_volume_is_declared_and_used() -> None:
    mounted = chain(*(each.get("volumes", ()) for each in compose.services().values()))
    named = {each.split(":")[0] for each in mounted if not each.startswith(".")}

    assert named == set(compose.document()["volumes"])


# --- what runs ----------------------------------------------------------------------------------


def test_one_container_runs_each_stage_and_each_pool_of_the_configuration() -> None:
    stages = [list(words[1:]) for _, words in compose.outlast_commands() if words[0] == "run"]

    assert sorted(stages) == sorted(
        [[stage] for stage in STAGES if stage != "work"]
        + [["work", "--provider", name] for name in compose.providers()]
    )


@pytest.mark.parametrize(("name", "command"), list(compose.outlast_commands()))
def test_outlast_knows_the_command(name: str, command: list[str]) -> None:
    parsed(command)


def test_a_command_that_outlast_does_not_know_is_found() -> None:
    with pytest.raises(typer._click.exceptions.UsageError):
        parsed(["run", "work", "--provide", "deepseek"])


def parsed(command: list[str]) -> None:
    """Parse as the command line would, and run nothing."""
    at: Any = typer.main.get_command(app)
    context = at.make_context("outlast", [*command])
    while hasattr(at, "resolve_command"):
        name, at, rest = at.resolve_command(context, [*context._protected_args, *context.args])
        context = at.make_context(name, rest, parent=context)


def test_a_simulator_stands_in_for_each_provider_with_its_own_family() -> None:
    for provider, settings in compose.providers().items():
        service = compose.services()[f"simulator-{provider}"]
        python, minus_m, module, *options = service["entrypoint"]
        arguments = simulator._arguments([*options, *service["command"]])

        assert (python, minus_m, module) == ("python", "-m", "outlast.drill.simulator")
        assert arguments.family == settings["family"]
        assert arguments.host == "0.0.0.0"
        assert settings["base_url"].startswith(f"http://simulator-{provider}:{arguments.port}")


def test_the_local_model_listens_where_the_head_of_the_file_says() -> None:
    service = compose.services()["local-model"]
    entrypoint = dockerfile.entrypoint("local")
    arguments = serve.parse([*entrypoint[2:], *service["command"]])

    assert entrypoint[:2] == ["python", "/opt/local/serve.py"]
    assert arguments.host == "0.0.0.0"
    assert f"http://local-model:{arguments.port}/v1" in HEAD


def test_the_model_of_the_routes_is_the_one_that_is_served_locally() -> None:
    routes = tomllib.loads(compose.SETTINGS.read_text())["routes"]

    assert routes["private"]["targets"] == [f"local/{serve.MODEL}"]


# --- who reaches whom ---------------------------------------------------------------------------


def listened_on() -> set[str]:
    """Every `service:port` at which something answers the other containers."""
    found = set()
    for name, service in compose.brokers().items():
        listeners = service["environment"]["KAFKA_LISTENERS"]
        found |= {f"{name}:{port}" for port in re.findall(r"://:(\d+)", listeners)}
    for name, service in compose.simulators().items():
        found.add(f"{name}:{compose.option(service['entrypoint'], '--port')}")
    command = compose.services()["local-model"]["command"]
    return found | {f"local-model:{compose.option(command, '--port')}"}


@pytest.mark.parametrize("environ", [{}, EVERYTHING], ids=["no-variable", "every-variable"])
def test_every_address_between_containers_is_one_that_is_listened_on(
    environ: dict[str, str],
) -> None:
    texts = [compose.SETTINGS.read_text()]
    for service in compose.services(environ).values():
        texts += map(str, service.get("environment", {}).values())
    names = "|".join(sorted(compose.services(), key=len, reverse=True))
    used = {each for text in texts for each in re.findall(rf"\b(?:{names}):\d+", text)}

    assert len(used) >= 6
    assert used <= listened_on()


def test_ports_are_published_to_this_machine_only_and_lead_to_kafka() -> None:
    for name, service in compose.services(EVERYTHING).items():
        for published in service.get("ports", ()):
            host, port, inside = published.split(":")
            environment = service["environment"]

            assert host == "127.0.0.1", name
            assert f"HOST://:{inside}," in environment["KAFKA_LISTENERS"]
            assert f"HOST://localhost:{port}," in environment["KAFKA_ADVERTISED_LISTENERS"]


def test_kafka_is_at_the_address_that_the_configuration_has_for_this_machine() -> None:
    kafka = compose.services()["kafka"]

    assert kafka["ports"] == ["127.0.0.1:9092:9092"]
    assert load({}, str(compose.SETTINGS)).kafka.bootstrap_servers == "localhost:9092"


def test_every_container_of_ours_can_read_its_settings() -> None:
    for environ in ({}, EVERYTHING):
        for name, service in compose.ours(environ).items():
            if "volumes" in service:
                settings = load(service["environment"], str(compose.SETTINGS))
                assert settings.kafka.bootstrap_servers.startswith("kafka:29092"), name


def test_a_kafka_of_ones_own_is_reached_by_all_with_the_login_that_the_file_shows(
    tmp_path: Path,
) -> None:
    shown = re.sub(r"^# (\w+ = )", r"\1", compose.SETTINGS.read_text(), flags=re.MULTILINE)
    settings = tomllib.loads(shown)["kafka"]
    own = {"OUTLAST_KAFKA_SERVERS": "kafka.example:9093", settings["sasl_password_env"]: "secret"}
    for name, _ in compose.outlast_commands():
        environment = compose.services(own)[name]["environment"]

        assert environment["OUTLAST_KAFKA__BOOTSTRAP_SERVERS"] == "kafka.example:9093", name
        assert environment[settings["sasl_password_env"]] == "secret", name
    (tmp_path / "outlast.toml").write_text(shown)
    assert load(own, str(tmp_path / "outlast.toml")).kafka.security_protocol == "SASL_SSL"


def test_the_variables_of_this_file_do_not_disturb_outlast_on_this_machine() -> None:
    every = dict.fromkeys(compose.variables(), "3") | EVERYTHING

    assert load(every, str(compose.SETTINGS)) == load({}, str(compose.SETTINGS))


# --- what readers are told ----------------------------------------------------------------------


def told() -> list[str]:
    """Every `docker compose ...` of the runbook and of the file's own head."""
    runbook = (compose.ROOT / "deploy" / "README.md").read_text()
    in_the_head = re.findall(r"^#   (docker compose .*?)(?:   |$)", HEAD, re.MULTILINE)
    return sorted({*re.findall(r"`(docker compose [^`]+)`", runbook), *in_the_head})


@pytest.mark.parametrize("command", told())
def test_a_command_that_readers_are_told_names_what_is_there(command: str) -> None:
    match shlex.split(command)[2:]:
        case ["run", "--rm", "cli", *rest]:
            parsed(rest)
        case ["up" | "stop" | "logs" | "restart" | "down" | "config" | "run", *rest]:
            options = {"-d", "-f", "-v", "--rm", "--scale"}
            named = {each.partition("=")[0] for each in rest if each not in options}
            assert named <= set(compose.services())
        case other:
            raise AssertionError(other)


def test_readers_are_told_of_all_that_is_asked_for() -> None:
    assert len(told()) >= 10


# --- order, restarts, scale ---------------------------------------------------------------------


def dependencies() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Who waits for whom, and for what of it."""
    for name, service in compose.services().items():
        for other, how in service.get("depends_on", {}).items():
            yield name, other, how


def test_each_container_waits_for_something_that_is_there_and_can_happen() -> None:
    services = compose.services()
    for name, other, how in dependencies():
        condition = {
            "service_healthy": "healthcheck" in services[other],
            "service_completed_successfully": services[other]["restart"] == "no",
        }
        assert condition[how["condition"]], (name, other)
        # what has a profile is there only sometimes
        assert how.get("required", True) != ("profiles" in services[other]), (name, other)


def test_no_stage_starts_before_its_topics_and_no_topic_before_its_brokers() -> None:
    waits = {(name, other) for name, other, _ in dependencies()}
    stages = {name for name, command in compose.outlast_commands() if command[0] == "run"}

    assert {(name, "topics") for name in stages} <= waits
    assert {("topics", broker) for broker in compose.brokers()} <= waits


def test_what_ends_comes_back_but_for_what_is_meant_to_end() -> None:
    restarts = {name: each["restart"] for name, each in compose.services(EVERYTHING).items()}

    assert {name for name, how in restarts.items() if how == "no"} == {"topics", "cli"}
    assert set(restarts.values()) == {"no", "unless-stopped"}


def test_a_stop_is_given_longer_than_a_drain_takes() -> None:
    drain = load({}, str(compose.SETTINGS)).catalogue.defaults.drain_seconds
    for name, _ in compose.outlast_commands():
        grace = compose.services()[name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) >= drain + 15, name


def test_what_may_be_scaled_has_nothing_that_only_one_can_have() -> None:
    for name, service in compose.ours().items():
        assert not {"container_name", "ports", "hostname"} & set(service), name
        assert "OUTLAST_INSTANCE_ID" not in service.get("environment", {}), name


def test_every_profile_that_readers_are_told_of_is_there() -> None:
    texts = HEAD + (compose.ROOT / "deploy" / "README.md").read_text()
    told_of = set(re.findall(r"(?:--profile |COMPOSE_PROFILES=)(\w+)", texts))

    assert told_of == {"cluster", "local"}
    assert told_of <= {
        each["profiles"][0] for each in compose.services().values() if "profiles" in each
    }


def test_a_profile_adds_what_it_is_for() -> None:
    profiles = {
        name: each["profiles"] for name, each in compose.services().items() if "profiles" in each
    }

    assert profiles == {
        "kafka-2": ["cluster"],
        "kafka-3": ["cluster"],
        "local-model": ["local"],
        "cli": ["cli"],
    }


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", KEYS)
def test_a_key_makes_its_provider_real_and_no_other(provider: str) -> None:
    with_key = compose.pools({KEYS[provider]: "a-key"})
    for name, pool in with_key.items():
        settings = load(pool["environment"], str(compose.SETTINGS))
        url = settings.catalogue.providers[name].base_url

        assert url == BASE_URLS[name] if name == provider else "simulator-" in url


def test_only_its_own_pool_is_given_a_key() -> None:
    for name, service in compose.services(EVERYTHING).items():
        given = {key for key in service.get("environment", {}) if key.endswith("_API_KEY")}
        own = KEYS.get(name.removeprefix("work-"))

        assert given == ({own} if own and name.startswith("work-") else set()), name


def test_without_a_variable_no_provider_is_real() -> None:
    for name, pool in compose.pools().items():
        provider = load(pool["environment"], str(compose.SETTINGS)).catalogue.providers[name]

        assert provider.base_url.startswith(f"http://simulator-{name}:")
        assert provider.api_key_env is None or pool["environment"][provider.api_key_env]


def test_the_local_pool_goes_where_the_variable_says() -> None:
    pool = compose.pools(EVERYTHING)["local"]

    providers = load(pool["environment"], str(compose.SETTINGS)).catalogue.providers
    assert providers["local"].base_url == EVERYTHING["OUTLAST_LOCAL_URL"]


# --- Kafka --------------------------------------------------------------------------------------


def test_the_image_is_the_kafka_that_the_tests_run_on() -> None:
    pom = (compose.ROOT / "deploy" / "kafka" / "pom.xml").read_text()
    (jar,) = re.findall(r"kafka_2.13</artifactId>\s+<version>([\d.]+)<", pom)

    assert {each["image"] for each in compose.brokers().values()} == {f"apache/kafka:{jar}"}


def test_no_topic_is_made_by_accident_and_data_outlives_the_container() -> None:
    for name, broker in compose.brokers().items():
        environment = broker["environment"]

        assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
        assert broker["volumes"] == [f"{name}-data:{environment['KAFKA_LOG_DIRS']}"]


def test_offsets_are_kept_as_long_as_the_longest_topic() -> None:
    kept = [each.retention_ms for each in Topics().table(("deepseek",)) if each.retention_ms]
    for broker in compose.brokers().values():
        minutes = int(broker["environment"]["KAFKA_OFFSETS_RETENTION_MINUTES"])
        assert minutes * 60_000 >= max(kept)


def test_a_cluster_is_three_brokers_that_know_each_other_and_keep_three_copies() -> None:
    three = [each["environment"] for each in compose.brokers(EVERYTHING).values()]
    voters = {each["KAFKA_CONTROLLER_QUORUM_VOTERS"] for each in three}

    assert [each["KAFKA_NODE_ID"] for each in three] == ["1", "2", "3"]
    assert voters == {"1@kafka:9093,2@kafka-2:9093,3@kafka-3:9093"}
    assert {each["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"] for each in three} == {"3"}
    assert {each["KAFKA_MIN_INSYNC_REPLICAS"] for each in three} == {"2"}


def test_a_further_broker_without_the_variable_says_which_one_and_ends() -> None:
    assert {compose.brokers()[name]["restart"] for name in ("kafka-2", "kafka-3")} == {""}
    for environ, code in (({}, 2), (EVERYTHING, 127)):  # 127: there is no image around it here
        broker = compose.brokers(environ)["kafka-2"]
        environment = {"PATH": os.environ["PATH"], **broker["environment"]}
        done = subprocess.run(
            broker["command"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code
        assert ("OUTLAST_BROKERS=3" in done.stderr) == (code == 2)


# --- as little as it needs ----------------------------------------------------------------------


def test_a_container_may_do_no_more_than_it_must() -> None:
    for name, service in compose.services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "user", "network_mode", "cap_add"} & set(service), name
    for name, service in compose.ours().items():
        assert service["read_only"] is True, name
        assert service["tmpfs"] == ["/tmp"], name
        assert service["init"] is True, name


def test_all_of_outlast_is_one_image() -> None:
    ours = compose.ours()
    local = ours.pop("local-model")

    assert {each["image"] for each in ours.values()} == {"outlast:compose"}
    assert {each["build"]["target"] for each in ours.values()} == {"outlast"}
    assert (local["image"], local["build"]["target"]) == ("outlast-local-model:compose", "local")
