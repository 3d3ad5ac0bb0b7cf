"""A user's world for end-to-end tests: a configuration, simulated providers, real processes."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from outlast.drill.simulator import Behaviour, Simulator
from outlast.edges.answers import Result, result_of
from outlast.edges.kafka import topics as kafka_topics
from outlast.edges.kafka.connection import admin, connect, groupless_consumer, producer
from outlast.edges.kafka.depth import depths
from outlast.edges.kafka.groups import Groups
from outlast.edges.settings import Kafka, load
from outlast_schemas.headers import STATE
from outlast_schemas.state import State
from outlast_schemas.topics import Topics

PATIENCE: Final = 60.0
KEYS: Final = {
    "DEEPSEEK_API_KEY": "d-key-canary-7731",
    "OPENAI_API_KEY": "o-key-canary-7732",
    "ANTHROPIC_API_KEY": "a-key-canary-7733",
}
MODELS: Final = {
    "deepseek": "deepseek-flash",
    "openai": "gpt-6-luna",
    "anthropic": "claude-haiku-5-5",
}


@dataclass
class Ended:
    """A result record, with the state that travels beside it."""

    result: Result
    state: State
    headers: dict[str, bytes | None]
    value: bytes


@dataclass
class Process:
    """One `outlast` process of ours."""

    process: asyncio.subprocess.Process
    log: Path

    async def ready(self) -> Self:
        """Wait until it says so; fails with its log when it ends instead."""
        async with asyncio.timeout(PATIENCE):
            while b'"process.ready"' not in self.log.read_bytes():
                if self.process.returncode is not None:
                    raise AssertionError(f"ended at once:\n{self.log.read_text()}")
                await asyncio.sleep(0.02)
        return self

    async def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; the exit code after the drain."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


@dataclass
class Scene:
    """Everything of one test: its own topics, its own processes, its own providers."""

    kafka: Kafka
    directory: Path
    simulators: dict[str, Simulator]
    config: Path
    processes: list[Process] = field(default_factory=list)
    ended: dict[tuple[str, int], Ended] = field(default_factory=dict)
    repeats: int = 0
    _producer: AIOKafkaProducer | None = None
    _reader: AIOKafkaConsumer | None = None

    @property
    def topics(self) -> Topics:
        """The names of this test's topics."""
        return Topics(self.kafka.prefix)

    @property
    def environ(self) -> dict[str, str]:
        """What a process of ours is started with."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("OUTLAST_")}
        return {**inherited, **KEYS, "OUTLAST_CONFIG": str(self.config), "OUTLAST_LOG": "json"}

    async def outlast(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Run a command to its end: exit code, standard output, standard error."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "outlast.cli", *arguments),
            env=self.environ,
            cwd=self.directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(stdin.encode())
        return process.returncode or 0, out.decode(), err.decode()

    async def start(self, *arguments: str, **environ: str) -> Process:
        """Start `outlast run …` and leave it running."""
        log = self.directory / f"run-{len(self.processes)}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "outlast.cli", "run", *arguments),
                env={**self.environ, **environ},
                cwd=self.directory,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        started = Process(process, log)
        self.processes.append(started)
        return started

    async def publish(
        self,
        *texts: str,
        key: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
        model: str | None = "chat",
        body: bytes | None = None,
    ) -> None:
        """Publish as any Kafka client would; returns with the broker's ack."""
        assert self._producer is not None
        pairs = [
            (name, None if value is None else value.encode())
            for name, value in (headers or {}).items()
        ]
        bodies: list[bytes | None] = [chat(text, model) for text in texts]
        bodies = bodies or [body]
        acks = [
            await self._producer.send(self.topics.jobs, each, key=key or b"a", headers=pairs)
            for each in bodies
        ]
        await asyncio.gather(*acks)

    async def results(self, count: int, seconds: float = PATIENCE) -> list[Ended]:
        """Wait until so many runs have ended."""
        assert self._reader is not None
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while len(self.ended) < count:
            if loop.time() > end:
                raise AssertionError(f"{len(self.ended)} of {count} ended; logs:\n{self.logs()}")
            for records in (await self._reader.getmany(timeout_ms=200)).values():
                for record in records:
                    self._take(record)
        return list(self.ended.values())

    def _take(self, record: Any) -> None:
        result = result_of(record)
        assert result is not None, record
        headers = dict(record.headers)
        key = (result.job_id, result.replays)
        self.repeats += key in self.ended
        state = State.from_json(json.loads(headers[STATE] or b""))
        self.ended.setdefault(key, Ended(result, state, headers, record.value))

    async def depths(self) -> dict[str, int]:
        """Topic → records that no stage has done yet."""
        assert self._reader is not None
        groups = Groups(self.kafka.prefix).moving(self.topics, self.simulators)
        client = admin(self.kafka)
        await client.start()
        try:
            return await depths(groups, client, self._reader)
        finally:
            await client.close()

    async def until_depth(self, topic: str, count: int, seconds: float = PATIENCE) -> None:
        """Wait until so many records of the topic are not done."""
        async with asyncio.timeout(seconds):
            while (await self.depths())[topic] != count:
                await asyncio.sleep(0.1)

    async def audited(self) -> dict[str, Any]:
        """What `outlast audit --json` says."""
        code, out, err = await self.outlast("audit", "--json")
        assert out, err
        return {**json.loads(out), "exit_code": code}

    def logs(self) -> str:
        """The last lines of every process, for a failing test."""
        return "\n".join(each.log.read_text()[-2_000:] for each in self.processes)

    async def __aenter__(self) -> Self:
        """Start the simulators, make the topics, begin to read results."""
        for simulator in self.simulators.values():
            await simulator.start()
        self.config.write_text(self.config.read_text().format(**self._urls()))
        await self._apply()
        self._producer = producer(self.kafka)
        await self._producer.start()
        self._reader = groupless_consumer(self.kafka, self.topics.results())
        await self._reader.start()
        return self

    async def _apply(self) -> None:
        """What `outlast topics apply` does, without the second that a process takes to begin."""
        settings = load(self.environ)
        cluster = await connect(settings.kafka)
        client = admin(settings.kafka)
        await client.start()
        try:
            await kafka_topics.apply(settings.kafka, settings.catalogue, cluster, client)
        finally:
            await client.close()

    def _urls(self) -> dict[str, str]:
        return {name: each.base_url for name, each in self.simulators.items()}

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process of ours, then the rest."""
        for process in self.processes:
            if process.process.returncode is None:
                await process.kill()
        for part in (self._producer, self._reader, *self.simulators.values()):
            if part is not None:
                await part.stop()


def chat(text: str, model: str | None = "chat") -> bytes:
    """A chat request."""
    body: dict[str, object] = {"messages": [{"role": "user", "content": text}]}
    return json.dumps({"model": model, **body} if model else body).encode()


@asynccontextmanager
async def scene(
    directory: Path,
    bootstrap_servers: str,
    providers: Sequence[str] = ("deepseek", "openai"),
    *,
    behaviour: Behaviour | None = None,
    concurrency: int = 100,
    rates: str = "",
    route: str = "max_attempts = 8",
    clocks: str = "connect_seconds = 2, first_token_seconds = 2",
    topics: str = "partitions = 4",
    secured: Kafka | None = None,
) -> AsyncIterator[Scene]:
    """A scene whose route `chat` has all the providers, in this order.

    `rates` follow the concurrency in `limits`. `topics` are further lines of `[kafka]`; `secured`
    says to us what they say of its security.
    """
    prefix = f"e2e-{uuid4().hex[:8]}"
    kafka = replace(secured or Kafka(), bootstrap_servers=bootstrap_servers, prefix=prefix)
    config = directory / "outlast.toml"
    targets = ", ".join(f'"{name}/{MODELS[name]}"' for name in providers)
    config.write_text(
        f"""[kafka]
bootstrap_servers = "{bootstrap_servers}"
prefix = "{prefix}"
{topics}
[defaults]
route = "chat"
drain_seconds = 20
[routes.chat]
targets = [{targets}]
{route}
"""
        + "".join(
            f"""[providers.{name}]
family = "{name}"
base_url = "{{{name}}}"
api_key_env = "{name.upper()}_API_KEY"
jurisdiction = "{"cn" if name == "deepseek" else "us"}"
limits = {{{{ concurrency = {concurrency}{rates} }}}}
clocks = {{{{ {clocks} }}}}
"""
            for name in providers
        )
    )
    simulators = {name: Simulator(name, behaviour=behaviour) for name in providers}
    async with Scene(kafka, directory, simulators, config) as made:
        yield made
