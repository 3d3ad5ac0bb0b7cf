"""The brokers of docker-compose.yml, started for real from what the file says of them.

The image's own program turns the environment into Kafka's settings; it lies in the same jars that
the tests run on, so only the container around it is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.kafka.broker import free_port
from deploy.kafka.jars import JVM, LOGGING, Jars
from deploy.kafka.node import cluster_seen_by
from tests.deploy import compose

pytestmark = pytest.mark.kafka

THREE: Mapping[str, str] = {"OUTLAST_BROKERS": "3"}
# What `configureDefaults` of the image sets when nobody else does.
CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"


async def test_one_broker_takes_a_record(tmp_path: Path) -> None:
    with running(tmp_path, {}, 1) as brokers:
        await until_all_are_there(brokers)
        await create_topic(brokers, 1)
        await write(brokers)


@pytest.mark.parametrize("killed", ["kafka", "kafka-3"])
async def test_three_brokers_take_a_record_and_another_when_one_is_gone(
    tmp_path: Path, killed: str
) -> None:
    with running(tmp_path, THREE, 3) as brokers:
        await until_all_are_there(brokers)
        await create_topic(brokers, 3)
        await write(brokers)
        brokers.pop(killed).process.kill()
        await write(brokers)


@dataclass(frozen=True, slots=True)
class Running:
    """A broker, and the port at which this machine finds it."""

    port: int
    process: subprocess.Popen[bytes]


async def until_all_are_there(brokers: Mapping[str, Running]) -> None:
    """Wait until each names all of them."""
    async with asyncio.timeout(60):
        while any(cluster_seen_by(each.port)[1] < len(brokers) for each in brokers.values()):
            await asyncio.sleep(0.1)


def servers(brokers: Mapping[str, Running]) -> str:
    """Where clients begin."""
    return ",".join(f"127.0.0.1:{each.port}" for each in brokers.values())


async def create_topic(brokers: Mapping[str, Running], replicas: int) -> None:
    """As many replicas as brokers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers(brokers))
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic("kept", 1, replicas)])
        assert [error for _, error, *_ in answer.topic_errors] == [0]
    finally:
        await admin.close()


async def write(brokers: Mapping[str, Running]) -> None:
    """Acknowledged by all that are left, so by as many as min.insync.replicas asks for."""
    async with AIOKafkaProducer(bootstrap_servers=servers(brokers), acks="all") as producer:
        await asyncio.wait_for(producer.send_and_wait("kept", b"a job"), 60)


@contextlib.contextmanager
def running(
    directory: Path, environ: Mapping[str, str], count: int
) -> Iterator[dict[str, Running]]:
    """The first ``count`` brokers as processes."""
    first = free_port(21192, count=3 * count)
    names = list(compose.brokers())[:count]
    base = {name: first + 3 * number for number, name in enumerate(names)}
    started: list[subprocess.Popen[bytes]] = []
    try:
        with ThreadPoolExecutor(count) as pool:
            several = pool.map(
                lambda name: configured(directory / name, name, environ, base), names
            )
            started += map(started_from, list(several))
        there = zip(base.values(), started, strict=True)
        yield {name: Running(*each) for name, each in zip(names, there, strict=True)}
    finally:
        for process in started:
            process.kill()
            process.wait()


def configured(
    directory: Path, name: str, environ: Mapping[str, str], base: Mapping[str, int]
) -> Path:
    """The server.properties that the image's program makes, and storage that it formatted."""
    for part in ("default", "mounted", "final"):
        (directory / part).mkdir(parents=True)
    for empty in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (directory / "default" / empty).touch()
    folders = [f"--{part}-configs-dir={directory / part}" for part in ("default", "mounted")]
    command = Jars().command(*JVM, *LOGGING, "kafka.docker.KafkaDockerWrapper", "setup")
    done = subprocess.run(
        [*command, *folders, f"--final-configs-dir={directory / 'final'}"],
        env={"PATH": os.environ["PATH"], "CLUSTER_ID": CLUSTER_ID}
        | at_home(compose.brokers(environ)[name]["environment"], name, directory, base),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "final" / "server.properties"


def at_home(
    given: Mapping[str, str], name: str, directory: Path, base: Mapping[str, int]
) -> dict[str, str]:
    """The broker's environment with every address moved to a loopback port of its own."""

    def port(service: str, number: str) -> int:
        return base[service] + {"9092": 0, "29092": 1, "9093": 2}[number]

    def moved(value: str) -> str:
        value = re.sub(r"HOST://localhost:\d+", f"HOST://127.0.0.1:{port(name, '9092')}", value)
        value = re.sub(r"://:(\d+)", lambda found: f"://127.0.0.1:{port(name, found[1])}", value)
        return re.sub(r"\b(kafka[\w-]*):(\d+)", lambda at: f"127.0.0.1:{port(at[1], at[2])}", value)

    assert given["KAFKA_LOG_DIRS"] in compose.services()[name]["volumes"][0]
    own = {"KAFKA_LOG_DIRS": str(directory / "data")}
    return {key: moved(value) for key, value in given.items()} | own


def started_from(settings: Path) -> subprocess.Popen[bytes]:
    """Kafka, with its log beside its settings."""
    with (settings.parent / "kafka.log").open("wb") as log:
        command = Jars().command(*JVM, *LOGGING, "kafka.Kafka", str(settings))
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
