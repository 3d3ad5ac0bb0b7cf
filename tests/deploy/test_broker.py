"""The broker from jars is a real one: it keeps what it acknowledged through a kill."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.kafka import broker as module
from deploy.kafka.broker import Broker, BrokerError, Secured, free_port
from tests.kafka.secured import PASSWORD, USER, fortress

TOPIC = "kept"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, because it is going to be killed."""
    broker = Broker(tmp_path / "own", port=free_port(20092, count=2))
    yield broker
    broker.stop()


async def create_topic(servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    await admin.close()


async def write(servers: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await producer.send_and_wait(TOPIC, value)


async def read_first(servers: str) -> bytes | None:
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        record = await asyncio.wait_for(consumer.getone(), 30)
        value: bytes | None = record.value
        return value


@pytest.mark.kafka
async def test_what_was_acknowledged_outlives_a_kill(own: Broker) -> None:
    own.start()
    await create_topic(own.bootstrap_servers)
    await write(own.bootstrap_servers, b"before")
    own.kill()
    assert own.pids == {}
    own.start()
    assert await read_first(own.bootstrap_servers) == b"before"


@pytest.mark.kafka
async def test_the_shared_broker_answers(kafka: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    assert len((await admin.describe_cluster())["brokers"]) == 1
    await admin.close()


@pytest.mark.kafka
def test_the_command_starts_and_stops(tmp_path: Path) -> None:
    command = [sys.executable, module.__file__ or ""]
    options = ["--dir", str(tmp_path), "--port", str(free_port(21092, count=2))]
    started = subprocess.run([*command, "start", *options], stdout=subprocess.PIPE, check=True)
    told = json.loads(started.stdout)
    assert Broker(tmp_path).pids == {1: told["pids"][0]}
    subprocess.run([*command, "stop", *options[:2]], check=True)
    assert Broker(tmp_path).pids == {}


@pytest.mark.kafka
def test_run_ends_on_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, module.__file__ or "", "run", "--dir", str(tmp_path)]
    port = str(free_port(22092, count=2))
    with subprocess.Popen([*command, "--port", port], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline()
        run.send_signal(signal.SIGTERM)
        assert run.wait(40) == 0
    assert Broker(tmp_path).pids == {}


@pytest.mark.kafka
def test_a_taken_port_is_named(tmp_path: Path) -> None:
    port = free_port(23092, count=2)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(BrokerError, match=f"port {port} is taken"):
            Broker(tmp_path, port=port).start()


@pytest.mark.kafka
async def test_secured_listeners_stand_beside_the_plain_one(tmp_path: Path) -> None:
    with fortress(tmp_path) as walls:
        await create_topic(walls.servers("PLAINTEXT"))
        async with AIOKafkaProducer(
            bootstrap_servers=walls.servers("SASL_PLAINTEXT"),
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_plain_username=USER,
            sasl_plain_password=PASSWORD,
        ) as producer:
            await producer.send_and_wait(TOPIC, b"secured")
        assert await read_first(walls.servers("PLAINTEXT")) == b"secured"
        told = (walls.directory / "kafka").rglob("*.log")
        assert not any(PASSWORD.encode() in log.read_bytes() for log in told if log.is_file())


def test_secured_listeners_are_for_one_broker_only(tmp_path: Path) -> None:
    secured = Secured(port=1, keystore=tmp_path, truststore=tmp_path, users={})
    with pytest.raises(BrokerError, match="for one broker"):
        Broker(tmp_path, nodes=3, secured=secured)


def test_a_foreign_process_is_not_stopped(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "node-1.pid").write_text(str(other.pid))
        Broker(tmp_path).stop()
        assert other.poll() is None
        other.kill()
