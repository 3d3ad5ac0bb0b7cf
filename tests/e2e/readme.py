"""README as a reader takes it: its blocks and files, and the desk they are tried at."""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from deploy.kafka.broker import free_port
from outlast.drill.simulator import Simulator
from tests.e2e.scene import PATIENCE, Process

ROOT: Final = Path(__file__).resolve().parents[2]
README: Final = (ROOT / "README.md").read_text()
CONFIG: Final = re.findall(r"^```toml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)[0]
"""README's first configuration."""
SIMULATORS: Final = {"deepseek": "deepseek", "openai": "openai", "local": "compatible"}
"""Provider of README's configuration → the family that is simulated behind it."""


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """What stands under a heading of the second level."""
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def commands(text: str = README) -> list[str]:
    """Every line of every sh block, without its comment; continued lines are one."""
    whole = "\n".join(blocks("sh", text)).replace("\\\n", " ")
    lines = [re.split(r"\s{2,}#", line)[0].strip() for line in whole.splitlines()]
    return [re.sub(r"\s{2,}", " ", line) for line in lines if line]


def files() -> dict[str, str]:
    """Name → text of each block whose first line is a comment with a file's name."""
    named = re.findall(r"^```\w+\n((?:#|//) ([\w./-]+)\b.*?)^```", README, re.DOTALL | re.MULTILINE)
    return {name: text for text, name in named}


@dataclass
class Desk:
    """A directory with README's files, providers behind them, and what runs in it."""

    directory: Path
    bootstrap_servers: str
    prefix: str
    simulators: dict[str, Simulator]
    environ: dict[str, str]
    running: list[Process] = field(default_factory=list)

    def fill(self, text: str) -> str:
        """README's text with this desk's broker and topics in the place of the reader's."""
        here = text.replace("localhost:9092", self.bootstrap_servers)
        return re.sub(r"\boutlast\.(jobs|results|dead-letters)\b", rf"{self.prefix}.\1", here)

    def lay(self, *names: str) -> None:
        """Put files of README in the directory."""
        for name in names:
            (self.directory / name).write_text(self.fill(files()[name]))

    async def serve(self, more: str = "") -> None:
        """Run every stage with README's configuration, as README says."""
        (self.directory / "outlast.toml").write_text(f"{CONFIG}\n{more}")
        await self.run("outlast topics apply")
        await (await self.start("outlast run")).ready()

    async def start(self, command: str, *more: str) -> Process:
        """Start one of README's commands and leave it running; its output is in its log."""
        assert command in commands(), f"README does not say: {command}"
        log = self.directory / f"{len(self.running)}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *shlex.split(self.fill(command)),
                *more,
                cwd=self.directory,
                env=self.environ,
                stdout=file,
                stderr=file,
            )
        self.running.append(Process(process, log))
        return self.running[-1]

    async def run(self, command: str, answer: str = "y\n") -> str:
        """Run a shell command to its end; it must exit with 0."""
        code, said = await self.attempt(command, answer)
        assert code == 0, f"{command}: {said}"
        return said

    async def attempt(self, command: str, answer: str = "") -> tuple[int, str]:
        """The exit code of a shell command, and all that it said."""
        process = await asyncio.create_subprocess_shell(
            self.fill(command),
            cwd=self.directory,
            env=self.environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate(answer.encode())
        return process.returncode or 0, out.decode()

    async def run_until(self, command: str, wanted: str) -> str:
        """Run a command that looks, again and again, until it says what is wanted."""
        async with asyncio.timeout(PATIENCE):
            while wanted not in (said := await self.run(command)):
                await asyncio.sleep(0.1)
        return said

    async def close(self) -> list[int]:
        """Stop what runs, last started first, and the providers; the exit codes."""
        codes = [await each.stop() for each in reversed(self.running)]
        for simulator in self.simulators.values():
            await simulator.stop()
        return codes


@asynccontextmanager
async def desk(
    directory: Path, bootstrap_servers: str, providers: Sequence[str] = tuple(SIMULATORS)
) -> AsyncIterator[Desk]:
    """A desk with simulated providers; nothing runs on it yet but they."""
    prefix = f"readme-{uuid4().hex[:8]}"
    simulators = {name: Simulator(SIMULATORS[name]) for name in providers}
    environ = clean(directory) | {
        "OUTLAST_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
        "OUTLAST_KAFKA__PREFIX": prefix,
        "OUTLAST_LOG": "json",
    }
    made = Desk(directory, bootstrap_servers, prefix, simulators, environ)
    try:
        for name, simulator in simulators.items():
            await simulator.start()
            environ[f"OUTLAST_PROVIDERS__{name.upper()}__BASE_URL"] = simulator.base_url
        yield made
    finally:
        await made.close()


def clean(directory: Path) -> dict[str, str]:
    """An environment with keys, in which `outlast` and `python` are this checkout's."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OUTLAST_")}
    return environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}",
        "DEEPSEEK_API_KEY": "d-key-of-the-readme",
        "OPENAI_API_KEY": "o-key-of-the-readme",
        "HOME": str(directory),
        "PYTHONUNBUFFERED": "1",
    }


def own_port() -> int:
    """A free port, looked for where another session that runs beside this one does not look."""
    return free_port(20_000 + os.getpid() % 10_000)


async def says(process: Process, *wanted: str) -> str:
    """Wait until a process has said all of it in one line; fails when it ends instead."""
    async with asyncio.timeout(PATIENCE):
        while True:
            said = process.log.read_text()
            for line in said.splitlines():
                if all(each in line for each in wanted):
                    return line
            ended = process.process.returncode
            assert ended is None, f"ended with {ended}:\n{said}"
            await asyncio.sleep(0.05)
