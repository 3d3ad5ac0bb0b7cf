"""Seen from outside: what a running Outlast tells over HTTP, and what becomes of that as alerts.

Real Prometheus and real Alertmanager, with the rules that are shipped.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from deploy.kafka.broker import free_port
from outlast.drill.simulator import Behaviour
from tests.e2e.scene import PATIENCE, Process, Scene, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

RULES: Final = Path(__file__).parents[2] / "deploy" / "alerts" / "outlast.rules.yml"
FIRES_WITHIN: Final = 60.0
RESOLVES_WITHIN: Final = 90.0

Samples = dict[tuple[str, ...], float]


async def asked(port: int, path: str) -> tuple[int, str]:
    """Status and body; 0 where nobody listens."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session,
            session.get(f"http://127.0.0.1:{port}{path}") as answer,
        ):
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""


async def scraped(port: int) -> Samples:
    """Name, and the labels' values in the order of the labels → value."""
    status, text = await asked(port, "/metrics")
    assert status == 200
    return {
        (each.name, *(each.labels[label] for label in sorted(each.labels))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


async def until(port: int, holds: Callable[[Samples], bool], seconds: float = PATIENCE) -> Samples:
    """Scrape until it holds."""
    found: Samples = {}
    try:
        async with asyncio.timeout(seconds):
            while not holds(found := await scraped(port)):
                await asyncio.sleep(0.1)
    except TimeoutError:
        told = "\n".join(f"{key} {value}" for key, value in sorted(found.items()))
        raise AssertionError(f"it never held:\n{told}") from None
    return found


async def started(world: Scene, port: int, *arguments: str) -> Process:
    """A process that can be asked."""
    return await world.start(*arguments, OUTLAST_MONITORING__LISTEN=f"127.0.0.1:{port}")


async def test_a_process_tells_how_it_is_from_its_start_to_its_end(
    tmp_path: Path, kafka: str
) -> None:
    port = free_port(21_000)
    steady, rates = Behaviour(latency_seconds=0.05), ", requests_per_minute = 6_000"
    async with scene(tmp_path, kafka, behaviour=steady, rates=rates) as world:
        process = await started(world, port)
        async with asyncio.timeout(PATIENCE):
            while (await asked(port, "/live"))[0] != 200:
                assert process.process.returncode is None, world.logs()
                await asyncio.sleep(0.01)
        early = await asked(port, "/ready")
        await process.ready()
        async with asyncio.timeout(PATIENCE):
            while (await asked(port, "/ready"))[0] != 200:
                await asyncio.sleep(0.05)
        await world.publish(*(f"job {number}" for number in range(20)))
        await world.publish(body=b"no json at all")
        await world.results(21)
        jobs = world.topics.jobs
        told = await until(
            port,
            lambda now: (
                now.get(("outlast_results_total", "succeeded")) == 20
                and now.get(("outlast_lag_jobs", jobs)) == 0
                and now.get(("outlast_breaker_state", "*", "deepseek")) == 0
            ),
        )

        second = await started(world, port, "route")
        async with asyncio.timeout(PATIENCE):
            code = await second.process.wait()

        await world.simulators["deepseek"].set_mode("hang")
        await world.publish("the last")
        await until(port, lambda now: now["outlast_held_jobs", "work.deepseek"] == 1)
        process.process.terminate()
        async with asyncio.timeout(PATIENCE):
            while (draining := await asked(port, "/ready"))[0] == 200:
                await asyncio.sleep(0.01)
        alive = await asked(port, "/live")
        async with asyncio.timeout(PATIENCE):
            ended = await process.process.wait()

    assert early == (503, '{"ready":false,"why":"the process is starting"}\n')
    assert told["outlast_dead_letters_total", "not_json"] == 1
    assert told["outlast_dead_letters_total", "job_rejected"] == 0
    assert told["outlast_results_total", "dead_lettered"] == 1
    assert told["outlast_partitions", "route"] == 4
    assert told["outlast_attempts_total", "deepseek-flash", "deepseek", "succeeded"] == 20
    assert told["outlast_attempt_duration_seconds_count", "deepseek-flash", "deepseek"] == 20
    assert told["outlast_attempt_duration_seconds_sum", "deepseek-flash", "deepseek"] >= 20 * 0.05
    assert told["outlast_inflight_limit", "deepseek"] == 100
    assert told["outlast_ratelimit_per_minute", "requests", "deepseek"] == 6_000
    assert told["outlast_ratelimit_remaining", "requests", "deepseek"] > 0
    assert ("outlast_ratelimit_per_minute", "tokens", "deepseek") not in told
    assert told["outlast_oldest_uncommitted_age_seconds", jobs] == 0
    assert told[("outlast_parked_jobs",)] == 0
    assert told["outlast_route_targets_up", "chat"] == 2
    assert told["outlast_retention_seconds", jobs] == 7 * 86_400
    assert (told[("outlast_ready",)], told[("outlast_writes_blocked",)]) == (1, 0)
    assert code == 2
    assert f"127.0.0.1:{port}: the port is in use" in second.log.read_text()
    assert draining == (503, '{"ready":false,"why":"the process is draining"}\n')
    assert alive[0] == 200
    assert ended == 0


async def test_the_age_is_that_of_the_oldest_job_read_or_not(tmp_path: Path, kafka: str) -> None:
    """A pool of one permit whose call hangs: what waits behind it is read, or is not."""
    port = free_port(21_010)
    topics = 'partitions = 12\ntopic_partitions = {{ "work.deepseek" = 1, "work.openai" = 1 }}'
    clocks = "connect_seconds = 2, first_token_seconds = 60"
    hanging = Behaviour(mode="hang")
    async with scene(
        tmp_path, kafka, behaviour=hanging, concurrency=1, clocks=clocks, topics=topics
    ) as world:
        await (await started(world, port)).ready()
        loop = asyncio.get_running_loop()
        before = loop.time()
        await world.publish(*(f"job {number}" for number in range(30)))
        work = world.topics.work("deepseek")
        found = await until(
            port,
            lambda now: (
                now.get(("outlast_lag_jobs", work)) == 30
                and now["outlast_oldest_uncommitted_age_seconds", work] > 6
            ),
        )
        passed = loop.time() - before

    assert found["outlast_oldest_uncommitted_age_seconds", work] <= passed + 2
    assert found["outlast_oldest_uncommitted_age_seconds", world.topics.jobs] == 0


# --- alerts ---------------------------------------------------------------------------------------


class Pager:
    """What Alertmanager calls, and what it said."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self.said: list[tuple[float, str, str, dict[str, Any]]] = []
        self._port = port
        self._changed = asyncio.Event()

    async def run(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/", self._hear)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        return runner

    async def _hear(self, request: web.Request) -> web.Response:
        at = asyncio.get_running_loop().time()
        for alert in (await request.json())["alerts"]:
            labels = alert["labels"]
            self.said.append((at, alert["status"], labels["alertname"], alert))
        self._changed.set()
        return web.Response()

    async def hears(self, status: str, name: str, seconds: float, **labels: str) -> dict[str, Any]:
        """Wait until it was told so."""
        async with asyncio.timeout(seconds):
            while True:
                self._changed.clear()
                for _, was, alert, told in self.said:
                    if (was, alert) == (status, name) and labels.items() <= told["labels"].items():
                        return told
                await self._changed.wait()


@asynccontextmanager
async def watched(directory: Path, *targets: int) -> AsyncIterator[Pager]:
    """Prometheus scrapes these ports each second, and Alertmanager calls the pager at once."""
    prometheus, alertmanager = shutil.which("prometheus"), shutil.which("prometheus-alertmanager")
    if prometheus is None or alertmanager is None:
        pytest.skip("no Prometheus and Alertmanager here")
    first = free_port(22_000, count=3)
    pager = Pager(first)
    own = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{first + 1}"]}]}]
        },
        "scrape_configs": [
            {
                "job_name": "outlast",
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in targets]}],
            }
        ],
    }
    theirs = {
        "route": {
            "receiver": "pager",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        },
        "receivers": [
            {"name": "pager", "webhook_configs": [{"url": pager.url, "send_resolved": True}]}
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(own))
    (directory / "alertmanager.yml").write_text(yaml.safe_dump(theirs))
    runner = await pager.run()
    try:
        async with (
            running(
                directory / "alertmanager.log",
                alertmanager,
                f"--config.file={directory / 'alertmanager.yml'}",
                f"--storage.path={directory / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{first + 1}",
                "--cluster.listen-address=",
                healthy=first + 1,
            ),
            running(
                directory / "prometheus.log",
                prometheus,
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{first + 2}",
                healthy=first + 2,
            ),
        ):
            await until_up(first + 2, len(targets))
            yield pager
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(log: Path, *command: str, healthy: int) -> AsyncIterator[None]:
    """A server of ours, from healthy to killed."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*command, stdout=file, stderr=file)
    try:
        async with asyncio.timeout(PATIENCE):
            while (await asked(healthy, "/-/ready"))[0] != 200:
                assert process.returncode is None, tail(log)
                await asyncio.sleep(0.1)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def tail(log: Path) -> str:
    """Its last words."""
    return log.read_text()[-2_000:]


async def until_up(prometheus: int, count: int) -> None:
    """Wait until so many processes were scraped, and their rules evaluated."""
    async with asyncio.timeout(PATIENCE):
        while True:
            _, text = await asked(prometheus, "/api/v1/query?query=sum(outlast_ready)")
            found = json.loads(text)["data"]["result"] if text else []
            if found and float(found[0]["value"][1]) == count:
                return
            await asyncio.sleep(0.2)


async def test_a_provider_that_goes_down_is_told_of_within_a_minute_and_again_when_it_is_back(
    tmp_path: Path, kafka: str
) -> None:
    first = free_port(21_020, count=2)
    async with scene(tmp_path, kafka, behaviour=Behaviour(latency_seconds=0.05)) as world:
        for each in (
            await started(world, first),
            await started(world, first + 1, "work", "--provider", "deepseek"),
        ):
            await each.ready()
        async with watched(tmp_path, first, first + 1) as pager:
            await world.publish(*(f"well {number}" for number in range(20)))
            await world.results(20)
            assert pager.said == []

            await world.simulators["deepseek"].set_mode("unavailable")
            await world.publish(*(f"down {number}" for number in range(40)))
            down = await pager.hears("firing", "ProviderDown", FIRES_WITHIN, provider="deepseek")
            await world.results(60)

            await world.simulators["deepseek"].set_mode("ok")
            resolved = await pager.hears(
                "resolved", "ProviderDown", RESOLVES_WITHIN, provider="deepseek"
            )

    assert down["annotations"]["runbook"] == "deploy/README.md#providerdown"
    assert "deepseek is down" in down["annotations"]["summary"]
    assert resolved["endsAt"] > down["startsAt"]
    # Its alternate served all the while: that is all there was to tell.
    assert {(name, told["labels"]["provider"]) for _, _, name, told in pager.said} == {
        ("ProviderDown", "deepseek")
    }
