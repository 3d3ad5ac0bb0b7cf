"""README taken at its word: its configuration and commands are run, its other claims checked."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from outlast.edges.settings import load
from tests.e2e.readme import (
    CONFIG,
    ROOT,
    Desk,
    blocks,
    clean,
    commands,
    desk,
    files,
    own_port,
    says,
    section,
)

WITH_JSON = ("results", "dead-letters", "audit", "doctor")
IN_A_CONTAINER = "docker compose run --rm cli "
# What is not run by the first test below → the file that runs it. What needs a Docker daemon is
# held against docker-compose.yml here, and what its `cli` would run is run without the container.
ELSEWHERE = {
    "./deploy/demo": "tests/e2e/test_demo.py",
    "./tests/run": ".ci/run",
    "pip install .": "tests/e2e/test_readme.py",
    "python deploy/kafka/broker.py start --dir .cache/data --port 9092": (
        "tests/deploy/test_broker.py"
    ),
    "python ask.py": "tests/e2e/test_readme_python.py",
    "python backend.py": "tests/e2e/test_readme_python.py",
    "uvicorn service:app --port 8080": "tests/e2e/test_readme_python.py",
    "gunicorn --workers 2 --preload mysite.wsgi": "tests/e2e/test_readme_python.py",
    "python load.py": "tests/e2e/test_readme_python.py",
    "outlast submit --file bodies.jsonl --route chat --batch import-7": (
        "tests/e2e/test_readme_python.py"
    ),
    "python embed.py": "tests/e2e/test_readme_python.py",
    "python billing.py": "tests/e2e/test_readme_python.py",
    "python publish.py": "tests/e2e/test_readme_others.py",
    "python consume.py": "tests/e2e/test_readme_others.py",
    "faststream run app:app": "tests/e2e/test_readme_others.py",
    "node jobs.mjs": "tests/e2e/test_readme_others.py",
}


TITLES = (
    "Quick start without Docker",
    "Your own keys",
    "Scale a pool",
    "In an outage",
    "After an outage",
)
ANSWER = "Simulated answer to: What outlasts an outage?"
WITHOUT_TYPES = {"consume.py"}
"""Its library's types say None where a record of ours always has a value."""


@pytest.mark.kafka
@pytest.mark.e2e
async def test_the_quick_start_leads_to_an_answer_without_a_key(tmp_path: Path, kafka: str) -> None:
    """As it stands, but for the ports: what `outlast init` writes is not touched."""
    async with desk(tmp_path, kafka, providers=()) as here:
        simulator, *steps = at_a_desk("Quick start without Docker")
        started = await here.start(simulator, "--port", str(own_port()))
        url = json.loads(await says(started, "base_url"))["base_url"]
        here.environ["OUTLAST_PROVIDERS__LOCAL__BASE_URL"] = url
        said = await in_order(here, steps)
        inside = [await here.run(each) for each in in_a_container()]

    assert f"{ANSWER}\n" in said['outlast submit "What outlasts an outage?" --wait']
    assert "succeeded" in said["outlast results"]
    assert "0 problem(s)" in said["outlast doctor"]
    assert [each for each in inside if ANSWER not in each] == []
    assert inside


@pytest.mark.kafka
@pytest.mark.e2e
async def test_with_keys_a_pool_is_scaled_and_an_outage_is_accounted_for(
    tmp_path: Path, kafka: str
) -> None:
    """The other sections that begin with a configuration, in the order a reader meets them."""
    async with desk(tmp_path, kafka) as here:
        (tmp_path / "outlast.toml").write_text(CONFIG)
        said = await in_order(here, at_a_desk("Your own keys", "Scale a pool", "In an outage"))
        await here.run('outlast submit "REJECT ME" --job-id not-served')
        await here.run_until("outlast dead-letters", "not-served")
        said |= await in_order(here, at_a_desk("After an outage"))
        ran = await asyncio.gather(*(here.run(f"outlast {each} --json") for each in WITH_JSON))
        stopped = [await each.stop() for each in here.running]

    printed = zip(WITH_JSON, ran, strict=True)
    assert [key for command, text in printed for key in unsaid(command, text)] == []
    assert "0 problem(s)" in said["outlast doctor --providers"]
    assert "not-served" in said["outlast dead-letters"]
    assert "lost" in said["outlast audit"]
    assert "verdict" in said["outlast providers"]
    assert "oldest" in said["outlast status"]
    assert stopped == [0, 0]


async def in_order(here: Desk, wanted: list[str]) -> dict[str, str]:
    """Run commands, the stages in the background: command → what it said."""
    said: dict[str, str] = {}
    for command in wanted:
        if command.startswith("outlast run"):
            await (await here.start(command)).ready()
        else:
            said[command] = await here.run(command)
    return said


def unsaid(command: str, printed: str) -> set[str]:
    """The keys of the first object that a command printed and its row in README does not name."""
    (row,) = re.findall(rf"^\| `{command}` \|(.*)", section("Commands"), re.MULTILINE)
    return set(json.loads(printed.splitlines()[0])) - set(re.findall(r"`(\w+)`", row))


def at_a_desk(*titles: str) -> list[str]:
    """The commands of these sections that are run here."""
    return [
        command
        for title in titles
        for command in commands(section(title))
        if command not in ELSEWHERE and not command.startswith("export ")
    ]


def in_a_container() -> list[str]:
    """What README has the container `cli` run, as it is run without one."""
    return [
        command.replace(IN_A_CONTAINER, "outlast ")
        for command in commands()
        if command.startswith(IN_A_CONTAINER)
    ]


def test_every_command_is_run_by_a_test() -> None:
    run = set(at_a_desk(*TITLES))
    docker = {each for each in commands() if each.startswith("docker compose ")}
    kcat = {each for each in commands() if "kcat" in each}
    exports = {each for each in commands() if each.startswith("export ")}

    assert set(commands()) == run | docker | kcat | exports | ELSEWHERE.keys()


@pytest.mark.parametrize(("command", "where"), ELSEWHERE.items())
def test_what_is_run_elsewhere_is_said_here_and_run_there(command: str, where: str) -> None:
    assert command in commands()
    there = (ROOT / where).read_text()
    assert "readme" not in where or command.split(" --file ")[0] in there


def test_what_the_readme_asks_of_docker_is_in_the_compose_file() -> None:
    services = set(compose()["services"])
    asked = [shlex.split(each)[2:] for each in commands() if each.startswith("docker compose")]

    assert {words[0] for words in asked} == {"up", "run", "stop"}
    named = {service for words in asked for service in _services(words)}
    assert {"cli", "work-deepseek", "simulator-deepseek"} <= named <= services


def _services(words: list[str]) -> set[str]:
    match words:
        case ["run", "--rm", service, *_]:
            return {service}
        case ["stop", *named]:
            return set(named)
        case ["up", *options]:
            return {each.partition("=")[0] for each in options if not each.startswith("-")}
        case _:
            raise AssertionError(words)


def compose() -> dict[str, Any]:
    """docker-compose.yml."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed


def test_the_keys_that_are_exported_are_those_that_are_read() -> None:
    exported = {
        name
        for command in commands()
        if command.startswith("export ")
        for name in re.findall(r"(\w+)=", command)
    }

    assert exported == set(re.findall('api_key_env = "(.*)"', CONFIG))
    assert [each for each in exported if f"${{{each}:" not in str(compose())] == []


def test_every_snippet_of_toml_is_a_configuration(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    first, *further = blocks("toml")
    kafka = re.compile(r"\[kafka\]\n.*?\n\n", re.DOTALL)
    for block in ["", *further]:
        text = kafka.sub("", first) if "[kafka]" in block else first
        (tmp_path / "outlast.toml").write_text(
            f"{text}\n{block}".replace("/etc/kafka", str(tmp_path))
        )
        settings = load(environ(tmp_path))
        assert "chat" in settings.catalogue.routes


def test_security_may_be_said_in_the_file_or_to_the_client(tmp_path: Path) -> None:
    (block,) = (each for each in blocks("toml") if "SASL_SSL" in each)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "outlast.toml").write_text(block.replace("/etc/kafka", str(tmp_path)))
    made: dict[str, Any] = {}
    code = files()["secured.py"].replace("/etc/kafka", str(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA_PASSWORD", "p-of-the-test")
        exec(compile(code, "secured.py", "exec"), made)

    assert made["kafka"] == load(environ(tmp_path)).kafka


def environ(directory: Path) -> dict[str, str]:
    """What a process reads its settings from, in a directory with an outlast.toml."""
    config = str(directory / "outlast.toml")
    return clean(directory) | {"OUTLAST_CONFIG": config, "KAFKA_PASSWORD": "p-of-the-test"}


def test_the_python_snippets_are_as_tidy_and_as_typed_as_our_own(tmp_path: Path) -> None:
    snippets = {name: text for name, text in files().items() if name.endswith(".py")}
    for name, text in snippets.items():
        (tmp_path / name).write_text(text)
    typed = [str(tmp_path / name) for name in sorted(snippets.keys() - WITHOUT_TYPES)]
    settings = ["--config", str(ROOT / "pyproject.toml")]

    run("ruff", "format", "--check", *settings, str(tmp_path))
    run("ruff", "check", "--ignore", "T20,TID251", *settings, str(tmp_path))
    run("mypy", "--disable-error-code", "import-untyped", *typed, MYPYPATH=str(tmp_path))


def run(tool: str, *arguments: str, **environ: str) -> None:
    """Run a tool of ours in the checkout; it must find nothing."""
    done = subprocess.run(
        [Path(sys.executable).parent / tool, *arguments],
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pip_install_in_a_virtual_environment_gives_the_command(tmp_path: Path) -> None:
    assert "pip install ." in commands()

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "v"], check=True)
    pip = [str(tmp_path / "v" / "bin" / "pip"), "install", "--quiet", "."]
    subprocess.run(pip, cwd=ROOT, check=True)
    said = subprocess.run(
        [tmp_path / "v" / "bin" / "outlast", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert said.stdout.startswith("outlast ")


@pytest.mark.parametrize(
    "page", ["README.md", "deploy/README.md", "services/README.md", "schemas/README.md"]
)
def test_every_file_that_is_linked_or_named_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    linked = [(ROOT / page).parent / each for each in re.findall(r"\]\(([^)#:]+)\)", text)]
    named = re.findall(r"`(?:\./|\.venv/bin/python )?((?:deploy|tests)/[\w./-]+)", text)

    assert [each for each in (*linked, *(ROOT / each for each in named)) if not each.exists()] == []
