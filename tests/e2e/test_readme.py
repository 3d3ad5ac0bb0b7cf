"""README taken at its word: its configuration, its commands and its snippet, all run."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from outlast.drill.simulator import Simulator
from tests.e2e.scene import Process

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DEPLOY = (ROOT / "deploy" / "README.md").read_text()
# Tested elsewhere: by tests/e2e/test_demo.py, and by the run that runs this.
# Docker needs a daemon: tests/deploy/test_compose.py checks what can be checked without one.
ELSEWHERE = {"./deploy/demo", "./tests/run", "docker compose up -d kafka"}


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    """Every line of every sh block, without its comment."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [re.split(r"\s{2,}#", line)[0].strip() for line in lines if line.strip()]


def outlast_on_path(directory: Path) -> dict[str, str]:
    """An environment in which `outlast` is this checkout's."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OUTLAST_")}
    return {
        **environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}",
        "DEEPSEEK_API_KEY": "d-key-of-the-readme",
        "OPENAI_API_KEY": "o-key-of-the-readme",
        "HOME": str(directory),
    }


async def test_each_command_of_the_readme_does_what_it_says(tmp_path: Path, kafka: str) -> None:
    """In the order a reader meets them, in one directory, against one broker."""
    (config,) = blocks("toml")
    simulators = {
        "DEEPSEEK": Simulator("deepseek"),
        "OPENAI": Simulator("openai"),
        "LOCAL": Simulator("compatible"),
    }
    environ = outlast_on_path(tmp_path) | {"OUTLAST_KAFKA__BOOTSTRAP_SERVERS": kafka}
    for name, simulator in simulators.items():
        await simulator.start()
        environ[f"OUTLAST_PROVIDERS__{name}__BASE_URL"] = simulator.base_url
    (tmp_path / "outlast.toml").write_text(config)
    running: list[Process] = []
    said: dict[str, str] = {}
    try:
        for command in commands():
            if command in ELSEWHERE or command.startswith(("pip ", "export ")):
                continue
            if command == "outlast run":
                running.append(await started(command, tmp_path, environ))
                continue
            said[command] = await done(command.replace("localhost:9092", kafka), tmp_path, environ)
        said["snippet"] = await snippet(tmp_path, environ)
        stopped = [await each.stop() for each in running]
    finally:
        for simulator in simulators.values():
            await simulator.stop()
        for each in running:
            if each.process.returncode is None:
                await each.kill()

    assert len(said) >= 8
    assert stopped == [0]
    assert "succeeded" in said["outlast results"]
    assert "lost" in said["outlast audit"]
    assert "Simulated answer to: What outlasts an outage?" in said["snippet"]


async def started(command: str, directory: Path, environ: dict[str, str]) -> Process:
    """Start a command that stays, and wait until it is ready."""
    log = directory / "run.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), cwd=directory, env=environ, stdout=file, stderr=file
        )
    return await Process(process, log).ready()


async def done(command: str, directory: Path, environ: dict[str, str]) -> str:
    """Run a command to its end, answering yes where it asks; it must exit with 0."""
    process = await asyncio.create_subprocess_shell(
        command,
        cwd=directory,
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate(b"y\n")
    if command == "outlast results":
        # The job of the line before may need a moment; the reader would ask again.
        while b"succeeded" not in out:
            return await done(command, directory, environ)
    assert process.returncode == 0, f"{command}: {out.decode()}"
    return out.decode()


async def snippet(directory: Path, environ: dict[str, str]) -> str:
    """The Python snippet, as the body of a coroutine; it ends after its first result."""
    (code,) = blocks("python")
    code = code.replace("print(result", "print(result.job_id == job.id, result")
    imports, body = code.split("\n\n", 1)
    program = (
        f"import asyncio\n{imports}\nasync def main():\n"
        f"{textwrap.indent(body, '    ')}            if result.job_id == job.id: break\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        cwd=directory,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


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


@pytest.mark.parametrize("text", [README, DEPLOY])
def test_every_file_that_is_linked_or_named_exists(text: str) -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", text)
    named = re.findall(r"`(?:\./|\.venv/bin/python )?((?:deploy|tests)/[\w./-]+)", text)

    assert [each for each in linked + named if not (ROOT / each).exists()] == []
