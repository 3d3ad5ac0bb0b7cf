"""Two teams, two result topics: neither reads the other's answers."""

from pathlib import Path

import pytest

from outlast import AsyncClient, Result
from outlast.core.errors import TopicsError
from outlast.edges.settings import load
from tests.e2e.scene import Scene, chat, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

ROUTES = """results = "support"
[routes.invoices]
targets = ["deepseek/deepseek-flash"]
results = "billing"
"""
BODY = chat("hello", model=None)


async def taken(client: AsyncClient, name: str, count: int) -> list[Result]:
    """So many results of one topic, read by a group of its own."""
    found = []
    async with client.results(f"{name}-service", name=name) as results:
        async for result in results:
            found.append(result)
            if len(found) == count:
                break
    return found


async def holds(world: Scene, name: str, count: int) -> None:
    """The topic holds so many results and no more."""
    code, out, err = await world.outlast("results", "--name", name, "--json")
    assert code == 0, err
    assert len(out.splitlines()) == count


async def test_each_service_reads_the_results_of_its_own_route_and_jobs(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka, ("deepseek",), route=ROUTES) as world:
        await (await world.start()).ready()
        async with AsyncClient.from_env(world.environ) as client:
            by_route = [await client.publish(BODY, route="chat") for _ in range(3)]
            by_model = await client.publish(chat("hello", model="invoices"))
            by_job = await client.publish(BODY, route="chat", results="billing")
            plain = await client.publish(BODY, route="invoices", results="default")
            support = await taken(client, "support", 3)
            billing = await taken(client, "billing", 2)
            waited = await client.wait(plain, 30)

        await holds(world, "support", 3)
        await holds(world, "billing", 2)
        await holds(world, "default", 1)

    assert {each.job_id for each in support} == {each.id for each in by_route}
    assert {each.job_id for each in billing} == {by_model.id, by_job.id}
    assert [each.results for each in (by_route[0], by_model, by_job, plain)] == [
        "support",
        "billing",
        "billing",
        "default",
    ]
    assert waited.job_id == plain.id


async def test_a_client_with_the_configuration_waits_where_the_route_writes(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka, ("deepseek",), route=ROUTES) as world:
        await (await world.start()).ready()
        async with AsyncClient.from_env(world.environ) as client:
            job = await client.publish(chat("hello", model="invoices"))
            known = await client.wait(job, 30)
            by_id = await client.wait(job.id, 30, results="billing")
        async with AsyncClient(load(world.environ).kafka) as stranger:
            with pytest.raises(TimeoutError, match="it goes on, and may be waited for again"):
                await stranger.wait(job.id, 0.5)
            with pytest.raises(TopicsError, match=r"results\.team"):
                await stranger.wait(job, 5, results="team")

    assert known.job_id == by_id.job_id == job.id
    assert known.text == "Simulated answer to: hello"
