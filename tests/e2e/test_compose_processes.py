"""What docker-compose.yml starts, started as processes: its own commands, environment and settings.

The names of its containers become loopback ports, and its Kafka the one of the tests; all else is
as Docker would have it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer

from deploy.kafka.broker import free_port
from outlast.edges.answers import Result, result_of
from outlast.edges.kafka.connection import admin, groupless_consumer, producer
from outlast.edges.kafka.groups import Groups
from outlast.edges.settings import Kafka
from outlast_schemas.topics import Topics
from tests.deploy import compose, dockerfile
from tests.e2e.scene import PATIENCE, Process, chat

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

STAGES = ("route", "retry", "park", "health")
# Another address than the default, where there is one, so that `--host` has to be heeded.
HERE = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
TARGETS = {
    "deepseek": "chat",  # the first of the route
    "openai": "openai/gpt-6-luna",
    "anthropic": "anthropic/claude-haiku-5-5",
    "local": "private",
}


async def test_up_serves_every_pool_scales_outlives_an_outage_and_stops_clean(
    tmp_path: Path, kafka: str
) -> None:
    async with stack(tmp_path, kafka) as world:
        await world.up(*compose.simulators(), *STAGES, *(f"work-{name}" for name in TARGETS))
        first = {model: provider for provider, model in TARGETS.items()}
        served = await world.answers(*TARGETS.values())

        await world.up("work-deepseek", "work-deepseek")
        await world.until_members("deepseek", 3)
        scaled = await world.answers(*["chat"] * 60)

        assert await world.stop("simulator-deepseek") == [0]
        assert not await world.is_healthy("simulator-deepseek")
        elsewhere = await world.answers(*["chat"] * 6)
        codes = await world.stop()

    assert {first[asked]: each.provider for asked, each in served} == {p: p for p in TARGETS}
    assert [each.status for _, each in scaled] == ["succeeded"] * 60
    assert {each.provider for _, each in scaled} == {"deepseek"}
    assert [each.status for _, each in elsewhere] == ["succeeded"] * 6
    assert "deepseek" not in {each.provider for _, each in elsewhere}
    assert set(codes) == {0}


async def test_the_local_profile_answers_with_a_real_model(tmp_path: Path, kafka: str) -> None:
    environ = {"OUTLAST_LOCAL_URL": "http://local-model:8080/v1"}
    async with stack(tmp_path, kafka, environ) as world:
        await world.up("local-model", "route", "work-local")
        [(_, answer)] = await world.answers("private")
        codes = await world.stop()

    assert (answer.status, answer.provider) == ("succeeded", "local")
    assert answer.text
    assert "Simulated" not in answer.text
    assert set(codes) == {0}


@dataclass
class Stack:
    """The services of one test."""

    directory: Path
    services: dict[str, compose.Service]
    kafka: Kafka
    addresses: dict[str, str]
    reader: AIOKafkaConsumer
    running: list[tuple[str, Process]] = field(default_factory=list)

    async def up(self, *names: str) -> None:
        """Start services and wait until each says that it is ready."""
        started = [await self._start(name) for name in names]
        self.running += started
        for name, process in started:
            await self._until_ready(name, process)

    async def stop(self, *names: str) -> list[int]:
        """What `docker compose stop` does, to some or to all; their exit codes."""
        those = [each for each in self.running if not names or each[0] in names]
        self.running = [each for each in self.running if each not in those]
        return [await process.stop() for _, process in those]

    async def is_healthy(self, name: str) -> bool:
        """What the service's own health check says."""
        kind, program, minus_c, code = self.services[name]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        inside = re.compile(r"127\.0\.0\.1:\d+")  # to itself, as the check is made in there
        code = inside.sub(lambda at: self.addresses[f"{name}:{at[0].rpartition(':')[2]}"], code)
        null = asyncio.subprocess.DEVNULL
        check = await asyncio.create_subprocess_exec(
            sys.executable, minus_c, code, stdout=null, stderr=null
        )
        return await check.wait() == 0

    async def run_to_its_end(self, name: str) -> str:
        """Start a service that ends by itself with 0; what it said."""
        _, process = await self._start(name)
        async with asyncio.timeout(PATIENCE):
            code = await process.process.wait()
        assert code == 0, process.log.read_text()
        return process.log.read_text()

    async def answers(self, *models: str) -> list[tuple[str, Result]]:
        """Publish a job for each model and wait for the results; each with what was asked for."""
        asked: dict[str, str] = {}
        client = producer(self.kafka)
        await client.start()
        try:
            for model in models:
                asked[job := uuid4().hex] = model
                headers = [("ce_id", job.encode())]
                body = {**json.loads(chat(f"What outlasts {job}?", model)), "max_tokens": 16}
                topic = Topics(self.kafka.prefix).jobs
                await client.send(topic, json.dumps(body).encode(), headers=headers)
        finally:
            await client.stop()
        return [(asked[each.job_id], each) for each in await self._results(set(asked))]

    async def until_members(self, provider: str, count: int) -> None:
        """Wait until so many processes share a pool."""
        group = Groups(self.kafka.prefix).work(provider)
        client = admin(self.kafka)
        await client.start()
        try:
            async with asyncio.timeout(PATIENCE):
                while await members(client, group) != count:
                    await asyncio.sleep(0.1)
        finally:
            await client.close()

    async def _results(self, wanted: set[str]) -> list[Result]:
        found: dict[str, Result] = {}
        async with asyncio.timeout(PATIENCE):
            while set(found) != wanted:
                for records in (await self.reader.getmany(timeout_ms=200)).values():
                    read = [result_of(record) for record in records]
                    found |= {each.job_id: each for each in read if each}
        return list(found.values())

    async def _until_ready(self, name: str, process: Process) -> None:
        """A stage says so in its log; for what listens, its health check does."""
        if "healthcheck" not in self.services[name]:
            await process.ready()
            return
        async with asyncio.timeout(PATIENCE):
            while not await self.is_healthy(name):
                assert process.process.returncode is None, process.log.read_text()

    async def _start(self, name: str) -> tuple[str, Process]:
        log = self.directory / f"{name}-{len(list(self.directory.glob('*.log')))}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *command_of(self.services[name], name, self.addresses),
                env=self._environment(name),
                cwd=self.directory,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return name, Process(process, log)

    def _environment(self, name: str) -> dict[str, str]:
        """The image's, then the service's; nothing of the environment of the tests."""
        image = self.services[name]["build"]["target"]
        own = self.services[name].get("environment", {})
        return {
            **image_variables(image),
            **{key: moved(value, self.addresses) for key, value in own.items()},
            "OUTLAST_KAFKA__PREFIX": self.kafka.prefix,
        }


@asynccontextmanager
async def stack(
    directory: Path, bootstrap_servers: str, environ: Mapping[str, str] = compose.NOTHING
) -> AsyncIterator[Stack]:
    """Settings where the containers find them, topics applied, results read; ends what it began."""
    kafka = Kafka(bootstrap_servers=bootstrap_servers, prefix=f"stack-{uuid4().hex[:8]}")
    addresses = loopback_addresses() | {"kafka:29092": bootstrap_servers}
    settings = moved(compose.SETTINGS.read_text(), addresses)
    (directory / settings_name()).write_text(settings)
    reader = groupless_consumer(kafka, Topics(kafka.prefix).results())
    world = Stack(directory, compose.services(environ), kafka, addresses, reader)
    try:
        assert "create" in await world.run_to_its_end("topics")
        await reader.start()
        yield world
    finally:
        await reader.stop()
        for _, process in world.running:
            if process.process.returncode is None:
                await process.kill()


def loopback_addresses() -> dict[str, str]:
    """A port of this machine for each port that the simulators and the model listen on."""
    names = [*compose.simulators(), "local-model"]
    first = free_port(24_000, count=2 * len(names))
    ports = {name: first + 2 * number for number, name in enumerate(names)}
    return {
        f"{name}:{inside}": f"{HERE}:{port + offset}"
        for name, port in ports.items()
        for offset, inside in enumerate(("8080", "8081"))
    }


def moved(text: str, addresses: Mapping[str, str]) -> str:
    """With loopback addresses in the place of the containers'."""
    names = "|".join(map(re.escape, addresses))
    return re.sub(names, lambda found: addresses[found[0]], text)


def command_of(service: compose.Service, name: str, addresses: Mapping[str, str]) -> list[str]:
    """What the container runs, with this machine's programs and ports."""
    image: list[str] = dockerfile.entrypoint(service["build"]["target"])
    words: list[str] = [*(service.get("entrypoint") or image), *service.get("command", [])]
    program = {"outlast": ["-m", "outlast.cli"], "python": []}[words[0]]
    there = [on_this_machine(each, name, addresses) for each in words[1:]]
    return [sys.executable, *program, *there]


def on_this_machine(argument: str, name: str, addresses: Mapping[str, str]) -> str:
    """A port, an address or a path of the container as it is here."""
    if argument == "0.0.0.0":
        return HERE
    if argument == "/opt/local/serve.py":
        return str(compose.ROOT / "deploy" / "local" / "serve.py")
    return addresses.get(f"{name}:{argument}", argument).rpartition(":")[2]


def image_variables(image: str) -> dict[str, str]:
    """What the Dockerfile sets, but for PATH, which leads to this machine's programs."""
    set_there = [each.rest for each in dockerfile.lineage(image) if each.word == "ENV"]
    pairs = [pair.partition("=") for each in set_there for pair in each.split()]
    found = {name: value for name, _, value in pairs}
    return found | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"}


def settings_name() -> str:
    """The file that is mounted, as the working directory of the image shows it."""
    (mounted,) = compose.services()["route"]["volumes"]
    source, target, _ = mounted.split(":")
    assert (compose.ROOT / source) == compose.SETTINGS
    assert Path(target).parent == Path(dockerfile.last("outlast", "WORKDIR").rest)
    return Path(target).name


async def members(client: Any, group: str) -> int:
    """How many there are in a group."""
    (answer,) = await client.describe_consumer_groups([group])
    ((_, _, _, _, _, found, *_),) = answer.groups
    return len(found)
