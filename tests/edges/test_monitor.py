"""``/live``, ``/ready`` and ``/metrics`` over HTTP, and what the configuration may say of them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from outlast.core.errors import SettingsError, WatchdogTripped
from outlast.edges.condition import Condition, Phase
from outlast.edges.metrics import families as m
from outlast.edges.monitor import Monitor
from outlast.edges.settings import Monitoring, load

ANYWHERE = Monitoring("127.0.0.1:0")


@pytest.fixture
async def monitor() -> AsyncIterator[Monitor]:
    async with Monitor(ANYWHERE) as monitor:
        yield monitor


async def asked(monitor: Monitor, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{monitor.url}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def test_a_process_is_alive_from_the_start_and_ready_when_it_runs(monitor: Monitor) -> None:
    assert await asked(monitor, "/live") == (200, '{"live":true}\n')
    assert await asked(monitor, "/ready") == (
        503,
        '{"ready":false,"why":"the process is starting"}\n',
    )

    monitor.condition.phase = Phase.RUNNING
    assert await asked(monitor, "/ready") == (200, '{"ready":true}\n')


async def test_while_it_drains_it_is_alive_and_not_ready_and_then_neither(monitor: Monitor) -> None:
    monitor.condition.phase = Phase.DRAINING
    assert (await asked(monitor, "/live"))[0] == 200
    assert await asked(monitor, "/ready") == (
        503,
        '{"ready":false,"why":"the process is draining"}\n',
    )

    monitor.condition.phase = Phase.ENDING
    status, why = await asked(monitor, "/live")
    assert status == 503
    assert "drained" in why


async def test_after_a_watchdog_it_is_not_alive_and_says_why_in_one_line(monitor: Monitor) -> None:
    monitor.condition.phase = Phase.RUNNING
    monitor.condition.failed(WatchdogTripped("the fetcher task has ended\nmore of it"))

    for path in ("/live", "/ready"):
        status, said = await asked(monitor, path)
        assert status == 503
        assert "WatchdogTripped: the fetcher task has ended" in said
        assert "more of it" not in said
        assert said.count("\n") == 1


async def test_what_speaks_against_it_is_said(monitor: Monitor) -> None:
    reasons: list[str | None] = [None, None]
    monitor.condition.watch(lambda: reasons[0], lambda: reasons[1])
    monitor.condition.phase = Phase.RUNNING
    assert (await asked(monitor, "/ready"))[0] == 200

    reasons[1] = "Kafka refuses or delays writes"
    status, said = await asked(monitor, "/ready")
    assert (status, "Kafka refuses" in said) == (503, True)
    assert (await asked(monitor, "/live"))[0] == 200


async def test_metrics_are_those_of_now(monitor: Monitor) -> None:
    monitor.metrics.watch(lambda: [m.HELD.of("route", value=4)])

    status, text = await asked(monitor, "/metrics")

    assert status == 200
    assert 'outlast_held_jobs{feed="route"} 4.0\n' in text


async def test_a_scraper_hears_what_it_is_answered_with(monitor: Monitor) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{monitor.url}/metrics") as plain,
        session.get(
            f"{monitor.url}/metrics", headers={"Accept": "application/openmetrics-text"}
        ) as open_metrics,
    ):
        assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text")


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics"])
async def test_a_head_has_the_status_and_no_body(monitor: Monitor, path: str) -> None:
    status, _ = await asked(monitor, path)

    assert await asked(monitor, path, "HEAD") == (status, "")


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/", "GET"),
        ("/live/", "GET"),
        ("/metrics/x", "GET"),
        ("/favicon.ico", "GET"),
        ("/ready", "POST"),
        ("/metrics", "DELETE"),
    ],
)
async def test_anything_else_is_not_there(monitor: Monitor, path: str, method: str) -> None:
    assert (await asked(monitor, path, method))[0] == 404


async def test_a_port_in_use_is_said_with_what_to_do() -> None:
    async with Monitor(ANYWHERE) as first:
        port = first.url.rpartition(":")[2]
        with pytest.raises(SettingsError) as refused:
            await Monitor(Monitoring(f"127.0.0.1:{port}")).__aenter__()

    assert refused.value.exit_code == 2
    [said] = refused.value.mistakes
    assert f"monitoring.listen 127.0.0.1:{port}: the port is in use" in said
    assert "OUTLAST_MONITORING__LISTEN" in said


def test_with_uvloop_a_port_in_use_is_said_too() -> None:
    async def second(port: int) -> None:
        async with Monitor(Monitoring(f"127.0.0.1:{port}")):
            raise AssertionError("two listen on one port")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            asyncio.Runner(loop_factory=uvloop.Loop) as runner,
            pytest.raises(SettingsError, match="the port is in use"),
        ):
            runner.run(second(taken.getsockname()[1]))


async def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(SettingsError, match="cannot listen there"):
        await Monitor(Monitoring("192.0.2.1:9464")).__aenter__()


async def test_where_nothing_is_configured_it_listens_nowhere() -> None:
    async with Monitor(Monitoring()) as monitor:
        assert not monitor.is_on
        with pytest.raises(RuntimeError):
            _ = monitor.url


async def test_the_port_is_free_again_after_it_has_ended() -> None:
    async with Monitor(ANYWHERE) as first:
        port = first.url.rpartition(":")[2]

    async with Monitor(Monitoring(f"127.0.0.1:{port}")) as second:
        assert (await asked(second, "/live"))[0] == 200


def test_a_condition_knows_its_failure_before_all_else() -> None:
    condition = Condition()
    condition.watch(lambda: "waits for its group")
    condition.phase = Phase.RUNNING
    waiting = condition.unready
    condition.failed(KeyError())

    assert waiting == "waits for its group"
    assert condition.unready == condition.unalive == "KeyError: "


# --- settings -------------------------------------------------------------------------------------


def settings(tmp_path: Path, text: str, **environ: str) -> Any:
    path = tmp_path / "outlast.toml"
    path.write_text(text)
    return load(environ, str(path)).monitoring


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_where_to_listen_is_read(tmp_path: Path, listen: str, address: tuple[str, int]) -> None:
    text = f'[monitoring]\nlisten = "{listen}"\n'

    assert settings(tmp_path, text).address == address
    assert settings(tmp_path, text, OUTLAST_MONITORING__LISTEN="10.0.0.1:1").address == (
        "10.0.0.1",
        1,
    )
    assert settings(tmp_path, "").address is None


@pytest.mark.parametrize(
    "listen", [":9464", "9464", "127.0.0.1", "*:9464", "h:99999", "http://h:1", ""]
)
def test_an_address_that_would_be_every_interface_or_none_is_refused(
    tmp_path: Path, listen: str
) -> None:
    with pytest.raises(SettingsError, match=r"monitoring\.listen must be host:port"):
        settings(tmp_path, f'[monitoring]\nlisten = "{listen}"\n')


def test_a_variable_that_was_meant_for_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean OUTLAST_MONITORING__LISTEN"):
        settings(tmp_path, "", OUTLAST_MONITORING_LISTEN="127.0.0.1:9464")
    with pytest.raises(SettingsError, match="did you mean listen"):
        settings(tmp_path, "[monitoring]\nlistens = 'x'\n")
