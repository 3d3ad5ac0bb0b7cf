"""README's examples with our client, each taken from README and run as it stands there."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from outlast.edges.kafka.connection import groupless_consumer
from outlast.edges.settings import Kafka
from tests.e2e.readme import Desk, blocks, commands, desk, own_port, says
from tests.e2e.scene import PATIENCE

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

QUESTION = {"messages": [{"role": "user", "content": "What outlasts an outage?"}]}
ANSWER = "Simulated answer to: What outlasts an outage?"
MANY = 10_000
# Around README's view: the least of a Django project. It publishes before the workers are forked,
# and says in each answer which of them gave it.
WSGI = """
import os
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of-the-test")

import views

urlpatterns = [path("ask", views.ask)]
views.client.publish({"messages": []}, job_id="before-the-fork")
django = get_wsgi_application()


def application(environ, start):
    def named(status, headers, *more):
        return start(status, [*headers, ("Worker", str(os.getpid()))], *more)
    return django(environ, named)
"""


@pytest.fixture(scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> AsyncIterator[Desk]:
    """A desk at which all stages run with README's configuration, its further routes included."""
    async with desk(tmp_path_factory.mktemp("readme"), kafka) as made:
        await made.serve("\n".join(each for each in blocks("toml") if each.startswith("[routes.")))
        yield made


async def test_a_job_is_asked_for_and_its_result_is_read_by_a_group(here: Desk) -> None:
    here.lay("ask.py", "backend.py")

    asked = await here.run("python ask.py")
    backend = await here.start("python backend.py")
    handled = await says(backend, "succeeded", ANSWER)
    await backend.kill()

    assert asked == f"{ANSWER} deepseek 1 0.0000125\n"  # 6 tokens and 11, by README's prices
    assert handled


async def test_the_fastapi_service_answers_at_once_if_asked_to_and_collects_the_rest(
    here: Desk,
) -> None:
    here.lay("service.py")
    port = own_port()
    server = await here.start("uvicorn service:app --port 8080", "--port", str(port))
    url = f"http://127.0.0.1:{port}/jobs"
    await says(server, "Uvicorn running")
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        waited = await http.post(url, params={"wait": 20}, json=QUESTION)
        failed = await http.post(url, params={"wait": 20}, json={"messages": []})
        left = await http.post(url, json=QUESTION)
        await says(server, f"{left.json()['id']} succeeded", ANSWER)
    await server.stop()

    assert waited.status_code == 200
    assert waited.json()["choices"][0]["message"]["content"] == ANSWER
    assert left.status_code == 202
    assert (failed.status_code, failed.json()["error"]["type"]) == (502, "bad_request")
    assert "Application shutdown complete" in server.log.read_text()


async def test_the_django_view_publishes_from_every_worker_that_was_forked(here: Desk) -> None:
    here.lay("views.py")
    (here.directory / "mysite").mkdir()
    (here.directory / "mysite" / "wsgi.py").write_text(WSGI)
    port = own_port()
    command = "gunicorn --workers 2 --preload mysite.wsgi"
    server = await here.start(command, "--bind", f"127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}/ask"
    await says(server, "Listening at")
    answers: list[httpx.Response] = []
    async with httpx.AsyncClient(timeout=PATIENCE) as http, asyncio.timeout(PATIENCE):
        while len({each.headers["Worker"] for each in answers}) < 2:
            answers += await asyncio.gather(*(http.post(url, json=QUESTION) for _ in range(8)))
            assert {each.status_code for each in answers} == {202}, server.log.read_text()
        named = await http.post(url, json=QUESTION, headers={"Idempotency-Key": "order-11"})
        refused = await http.post(url, json=QUESTION, headers={"Idempotency-Key": "x" * 129})
    code = await server.stop()
    results = await read(here, "default", {each.json()["id"] for each in [*answers, named]})

    assert named.json() == {"id": "order-11"}
    assert (refused.status_code, "job_id" in refused.json()["error"]) == (400, True)
    assert set(results.values()) == {1}
    assert code == 0


async def test_a_result_goes_to_the_topic_that_its_route_or_its_job_names(here: Desk) -> None:
    here.lay("billing.py")

    billing = await here.start("python billing.py")
    await says(billing, "invoice-1", ANSWER)
    await says(billing, "invoice-2", ANSWER)
    await billing.kill()
    await here.run('outlast submit "For all" --route chat --job-id for-all')

    assert set(await read(here, "billing", {"invoice-1"})) == {"invoice-1", "invoice-2"}
    assert not {"invoice-1", "invoice-2"} & set(await read(here, "default", {"for-all"}))


async def test_embeddings_go_to_who_has_them(here: Desk) -> None:
    here.lay("embed.py")

    assert await here.run("python embed.py") == "text-embedding-3-small 2\n"


async def test_ten_thousand_lines_are_ten_thousand_jobs_though_it_was_killed_once(
    here: Desk,
) -> None:
    here.lay("load.py")
    lines = (json.dumps({"messages": [{"role": "user", "content": f"{n}"}]}) for n in range(MANY))
    (here.directory / "bodies.jsonl").write_text("\n".join(lines) + "\n\n")
    ids = {f"import-7/{number}" for number in range(MANY)}

    before = await calls_asked_for(here)
    first = await here.start("python load.py")
    await says(first, "import-7/3000 published")
    await first.kill()
    again = await here.run("python load.py")
    shell = await here.run(next(each for each in commands() if "--batch import-7" in each))
    published = await until_routed(here)
    routed = await calls_asked_for(here) - before
    results = await read(here, "default", ids)
    dead = await here.run("outlast dead-letters --reason conflict")

    assert first.process.returncode == -signal.SIGKILL
    assert published > 2 * MANY
    assert routed == MANY
    assert "import-7/9000 published" in again
    assert set(shell.split()) >= ids
    assert {each for each in results if each.startswith("import-7/")} == ids
    assert {results[each] for each in ids} == {1}
    assert dead == "0 dead letter(s)\n"  # the shell's bodies are the same to the byte


async def until_routed(here: Desk) -> int:
    """Wait until route is done with every record that was published; how many there are."""
    admin = AIOKafkaAdminClient(bootstrap_servers=here.bootstrap_servers)
    await admin.start()
    try:
        published = await ends(here, "jobs")
        async with asyncio.timeout(PATIENCE):
            while True:
                done = await admin.list_consumer_group_offsets(f"{here.prefix}.route")
                if sum(done[each].offset for each in published) >= sum(published.values()):
                    return sum(published.values())
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def ends(here: Desk, *names: str) -> dict[TopicPartition, int]:
    """Partition → how many records have been written to it, for topics without their prefix."""
    topics = [f"{here.prefix}.{name}" for name in names]
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=here.bootstrap_servers)
    await consumer.start()
    try:
        found: dict[TopicPartition, int] = await consumer.end_offsets(list(consumer.assignment()))
        return found
    finally:
        await consumer.stop()


async def calls_asked_for(here: Desk) -> int:
    """How many records route has written to the pools."""
    return sum((await ends(here, *(f"work.{name}" for name in here.simulators))).values())


async def read(here: Desk, name: str, wanted: set[str]) -> Counter[str]:
    """Read a result topic from its start until the wanted are there: job id → its results."""
    kafka = Kafka(bootstrap_servers=here.bootstrap_servers, prefix=here.prefix)
    topic = f"{here.prefix}.results" + ("" if name == "default" else f".{name}")
    consumer = groupless_consumer(kafka, topic)
    found: Counter[str] = Counter()
    await consumer.start()
    try:
        async with asyncio.timeout(PATIENCE):
            while not wanted <= set(found):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found.update(dict(record.headers)["ce_subject"].decode() for record in records)
    finally:
        await consumer.stop()
    return found
