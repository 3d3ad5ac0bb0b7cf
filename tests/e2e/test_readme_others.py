"""README's examples without our client, each taken from README and run as it stands there."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.prepare import prepare_node
from tests.e2e.readme import ROOT, Desk, commands, desk, files, says
from tests.e2e.scene import PATIENCE

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

ANSWER = "Simulated answer to: What outlasts an outage?"


@pytest.fixture(scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> AsyncIterator[Desk]:
    """A desk at which all stages run with README's configuration."""
    async with desk(tmp_path_factory.mktemp("readme"), kafka) as made:
        (made.directory / "node_modules").symlink_to(prepare_node())
        await made.serve()
        yield made


async def committed(here: Desk, group: str) -> int:
    """How many records a group has committed that it is done with them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=here.bootstrap_servers)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
        return sum(max(0, each.offset) for each in found.values())
    finally:
        await admin.close()


async def until_committed(here: Desk, group: str) -> None:
    """Wait until a group has committed a record."""
    async with asyncio.timeout(PATIENCE):
        while not await committed(here, group):
            await asyncio.sleep(0.1)


async def test_kcat_publishes_with_headers_and_reads_the_answer(here: Desk) -> None:
    publish, read = (each for each in commands() if "kcat" in each)

    await here.run(publish)
    said = await here.run_until(read, "order-7")

    assert ANSWER in next(line for line in said.splitlines() if line.startswith("order-7 "))


async def test_confluent_kafka_publishes_and_its_group_commits_what_it_handled(here: Desk) -> None:
    here.lay("publish.py", "consume.py")

    accepted = await here.run("python publish.py")
    consumer = await here.start("python consume.py")
    handled = await says(consumer, "order-8 succeeded")
    await until_committed(here, "confluent-backend")
    await consumer.kill()

    assert accepted.startswith(f"accepted: {here.prefix}.jobs")
    assert ANSWER in handled


async def test_faststream_publishes_and_acknowledges_after_its_handler(here: Desk) -> None:
    here.lay("app.py")

    app = await here.start("faststream run app:app")
    handled = await says(app, "order-9 succeeded")
    await until_committed(here, "faststream-backend")

    assert ANSWER in handled
    assert await app.stop() == 0


async def test_node_publishes_and_reads_what_is_written_with_zstd(here: Desk) -> None:
    here.lay("jobs.mjs")

    script = await here.start("node jobs.mjs")
    handled = await says(script, "order-10 succeeded")
    await until_committed(here, "node-backend")
    await script.kill()

    assert ANSWER in handled


@pytest.mark.parametrize(
    ("name", "command", "group", "line", "raises"),
    [
        (
            "app.py",
            "faststream run app:app",
            "faststream-backend",
            "    print(job_id, status, body)",
            '    print("seen", job_id)\n    1 / 0',
        ),
        (
            "jobs.mjs",
            "node jobs.mjs",
            "node-backend",
            "    console.log(`${job} ${status} ${message.value}`);",
            "    console.log(`seen ${job}`);\n    throw new Error();",
        ),
    ],
)
async def test_a_handler_that_raises_is_called_again_and_nothing_is_committed(
    here: Desk, name: str, command: str, group: str, line: str, raises: str
) -> None:
    """Or a bug in a backend would pass over results."""
    here.lay(name)
    file = here.directory / name
    assert line in file.read_text()
    file.write_text(file.read_text().replace(line, raises).replace(group, f"{group}-raising"))

    raising = await here.start(command)
    async with asyncio.timeout(PATIENCE):
        while raising.log.read_text().count("seen order-7\n") < 3:
            await asyncio.sleep(0.05)
    await raising.kill()

    assert await committed(here, f"{group}-raising") == 0


def test_what_the_examples_install_is_what_they_are_tested_with() -> None:
    lock = (ROOT / "tests" / "requirements.lock").read_text()
    node = json.loads((ROOT / "tests" / "node" / "package.json").read_text())["dependencies"]
    first_lines = [text.splitlines()[0] for text in files().values()]
    pip = {name for line in first_lines for name in _named("pip install", line)}
    npm = {name for line in first_lines for name in _named("npm install", line)}

    assert {"confluent-kafka", "fastapi", "django"} <= pip
    assert [name for name in pip if f"\n{name}==" not in lock] == []
    assert npm == {f"{name}@{version}" for name, version in node.items()}


def _named(command: str, line: str) -> list[str]:
    """The packages that a comment installs, without their extras."""
    return [each.strip('"').partition("[")[0] for each in line.partition(command)[2].split()]
