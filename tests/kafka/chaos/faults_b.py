"""What the scenarios of failpoints, broken brokers and broken topics share."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from deploy.kafka.broker import Secured
from outlast import AsyncClient
from outlast.drill.conservation import Account, Allowance, Published, check
from outlast.drill.dump import calls_of, dump
from outlast.edges.codec import Codec
from outlast.edges.kafka.connection import admin, connect
from outlast.edges.kafka.topics import find
from tests.e2e.scene import Process, chat
from tests.kafka.chaos.fleet import Fleet
from tests.kafka.chaos.worker import Worker
from tests.kafka.secured import USER

__all__ = [
    "Access",
    "Commits",
    "Guarded",
    "Settings",
    "as_user",
    "conserved",
    "events",
    "has_logged",
    "killed_itself",
    "launch",
    "named",
    "publish",
    "until",
]

BOUND: Final = 60.0
LOOK_SECONDS: Final = 0.05


async def until(holds: Callable[[], object], what: str, seconds: float = BOUND) -> None:
    """Wait for a state of another process, with a bound; fails saying what did not come."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:.0f} s: {what}") from None


async def launch(here: Fleet, slot: str, *arguments: str, faults: Sequence[str] = ()) -> Worker:
    """Start `outlast run …` in a slot with these faults of ``failing``; returns at once."""
    if not faults:
        return await here.launch(slot, *arguments)
    number = next(here._numbers)
    key, log = f"{slot}-{number}", here.directory / f"{number}-{slot}.log"
    keys = {f"{name.upper()}_API_KEY": key for name in here.simulators}
    born = asyncio.get_running_loop().time()
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.kafka.chaos.failing", *faults, "--", "run", *arguments),
            env={**here.environ, **keys, "OUTLAST_INSTANCE_ID": slot},
            cwd=here.directory,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    worker = Worker(process, log, slot=slot, stage=arguments[0], key=key, born=born)
    here.processes.append(worker)
    return worker


def events(process: Process, name: str) -> list[dict[str, Any]]:
    """What the process has logged under this name."""
    found = []
    for line in process.log.read_text().splitlines():
        if name in line and line.startswith("{"):
            found.append(json.loads(line))
    return [each for each in found if each.get("event") == name]


async def has_logged(process: Process, name: str, seconds: float = BOUND) -> dict[str, Any]:
    """Wait for the event; the first of its kind."""
    await until(lambda: events(process, name), f"{name} in {process.log}", seconds)
    return events(process, name)[0]


async def killed_itself(here: Fleet, worker: Worker, seconds: float = BOUND) -> set[str]:
    """Wait until it has died at its failpoint; the jobs that may be called again for it."""
    code = await worker.ended(seconds)
    assert code == -signal.SIGKILL, worker.log.read_text()[-3_000:]
    [last] = events(worker, "failing.killed")
    await here.taken_for_dead(worker)
    return set(last["at_risk"])


async def named(here: Fleet, *names: str, **terms: Any) -> list[str]:
    """Publish jobs whose ids, and texts, end so; returns the ids."""
    jobs = [f"{here.kafka.prefix} {name}" for name in names]
    client = AsyncClient(here.kafka)
    try:
        for job in jobs:
            await client.publish(chat(job), job_id=job, **terms)
            here.publisher.acked[job] = asyncio.get_running_loop().time()
    finally:
        await client.close()
    return jobs


async def publish(here: Fleet, count: int, per_second: float) -> None:
    """Publish so many at an even pace; returns when every publish has ended."""
    async with here.publisher.at(per_second):
        await asyncio.sleep((count - 0.5) / per_second)


async def conserved(here: Fleet, allowance: Allowance) -> Account:
    """The account of everything that was published, from the topics as they are now."""
    cluster, client = await connect(here.kafka), admin(here.kafka)
    await client.start()
    try:
        found = await dump(here.kafka, Codec(cluster.id, here.topics), client)
    finally:
        await client.close()
    known = here.publisher
    published = Published(frozenset(known.acked), frozenset(known.unknown), frozenset(known.failed))
    counted = {name: each.counters.calls_by_content for name, each in here.simulators.items()}
    texts = {job: job for job in (*known.acked, *known.unknown)}
    return check(published, found, calls_of(counted, texts), allowance)


class Commits:
    """The commits of one group as they are made, and whether any of them went back."""

    def __init__(self, here: Fleet, group: str) -> None:
        """Watch nothing yet."""
        self.rewound: list[str] = []
        self._here, self._group = here, group
        self._highest: dict[TopicPartition, int] = {}

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at them again and again while the block lasts."""
        client = admin(self._here.kafka)
        await client.start()
        looking = asyncio.create_task(self._look_on(client))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await client.close()

    async def _look_on(self, client: AIOKafkaAdminClient) -> None:
        while True:
            for tp, each in (await client.list_consumer_group_offsets(self._group)).items():
                highest = self._highest.get(tp, -1)
                if each.offset < highest:
                    self.rewound.append(f"{tp.topic}/{tp.partition}: {highest} to {each.offset}")
                self._highest[tp] = max(highest, each.offset)
            await asyncio.sleep(LOOK_SECONDS)


class Settings:
    """No record is small enough for the dead letters, until `outlast topics apply`."""

    @staticmethod
    async def refuse(here: Fleet) -> None:
        topic = here.topics.dead_letters
        client = admin(here.kafka)
        await client.start()
        try:
            settings = {**(await find([topic], client))[topic].own, "max.message.bytes": "1"}
            await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
        finally:
            await client.close()

    @staticmethod
    async def mend(here: Fleet) -> None:
        code, out, err = await here.outlast("topics", "apply")
        assert code == 0, out + err


class Access:
    """The workers' user may not write dead letters, until the rule is taken away."""

    @staticmethod
    def rules(here: Fleet) -> list[AclBinding]:
        # Where a topic has rules, who is to see it needs one too.
        return [
            AclBinding(
                ResourceType.TOPIC,
                here.topics.dead_letters,
                ResourcePatternType.LITERAL,
                f"User:{USER}",
                "*",
                operation,
                permission,
            )
            for operation, permission in (
                (AclOperation.WRITE, AclPermissionType.DENY),
                (AclOperation.DESCRIBE, AclPermissionType.ALLOW),
            )
        ]

    @classmethod
    async def refuse(cls, here: Fleet) -> None:
        client = AdminClient({"bootstrap.servers": here.kafka.bootstrap_servers})
        made = client.create_acls(cls.rules(here))
        await asyncio.gather(*(asyncio.wrap_future(each) for each in made.values()))

    @classmethod
    async def mend(cls, here: Fleet) -> None:
        client = AdminClient({"bootstrap.servers": here.kafka.bootstrap_servers})
        filters = [
            AclBindingFilter(
                ResourceType.TOPIC,
                here.topics.dead_letters,
                ResourcePatternType.LITERAL,
                f"User:{USER}",
                "*",
                AclOperation.ANY,
                AclPermissionType.ANY,
            )
        ]
        await asyncio.gather(
            *(asyncio.wrap_future(each) for each in client.delete_acls(filters).values())
        )


@dataclass(frozen=True, kw_only=True)
class Guarded(Secured):
    """A broker that heeds rules; who comes by the plain listener may do everything."""

    @property
    def properties(self) -> dict[str, object]:
        """With Kafka's own authorizer."""
        return {
            **super().properties,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "true",
        }


def as_user(here: Fleet, secured: Guarded) -> None:
    """From now on processes come by the listener that asks who they are."""
    port = secured.ports["SASL_PLAINTEXT"]
    lines = (
        f'bootstrap_servers = "127.0.0.1:{port}"',
        'security_protocol = "SASL_PLAINTEXT"',
        'sasl_mechanism = "SCRAM-SHA-512"',
        f'sasl_username = "{USER}"',
        f'sasl_password_file = "{secured.keystore.parent / "password"}"',
    )
    plain = f'bootstrap_servers = "{here.kafka.bootstrap_servers}"'
    here.config.write_text(here.config.read_text().replace(plain, "\n".join(lines)))
