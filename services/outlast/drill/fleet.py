"""Where a scenario plays: four simulated providers, and several `outlast run` processes."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outlast.core.errors import OutlastError
from outlast.drill.scenarios.sight import Exit
from outlast.drill.scenarios.story import DEAD, PROVIDERS, Act, Process, Scenario
from outlast.drill.simulator import Behaviour, Simulator
from outlast.drill.simulator.server import free_port

__all__ = ["Fleet", "configuration"]

FAMILIES: Final = {"local": "compatible"}
CALM: Final = Behaviour(latency_seconds=0.2, latency_spread_seconds=0.2)
KEY: Final = "a-key-for-the-simulators"
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
DRAIN_SECONDS: Final = 15


def configuration(
    scenario: Scenario, bootstrap_servers: str, prefix: str, base_urls: Mapping[str, str]
) -> str:
    """The ``outlast.toml`` of a scenario."""
    providers = "".join(
        f"""
[providers.{name}]
family = "{_family(scenario, name)}"
base_url = "{base_urls[name]}"
api_key_env = "OUTLAST_DRILL_KEY"
limits = {{ {scenario.limits if name == DEAD else "concurrency = 200"} }}
clocks = {{ {scenario.clocks} }}
"""
        for name in PROVIDERS
    )
    targets = [f'"{name}/{model}"' for name, model in PROVIDERS.items()]
    return f"""# Written by `outlast drill {scenario.name}`.
[kafka]
bootstrap_servers = "{bootstrap_servers}"
prefix = "{prefix}"

[defaults]
route = "chat"
drain_seconds = {DRAIN_SECONDS}
{providers}
[routes.chat]
targets = [{", ".join(targets)}]

[routes.only]
targets = [{targets[0]}]
"""


def _family(scenario: Scenario, provider: str) -> str:
    return scenario.family if provider == DEAD else FAMILIES.get(provider, provider)


@dataclass(slots=True)
class _Running:
    process: asyncio.subprocess.Process
    log: Path
    is_killed: bool = False


class Fleet:
    """Starts, kills and freezes; stops whatever it started."""

    def __init__(self, directory: Path, scenario: Scenario) -> None:
        """Start nothing yet; ``directory`` keeps configurations and logs."""
        self.simulators = {
            name: Simulator(_family(scenario, name), behaviour=CALM) for name in PROVIDERS
        }
        self.config = directory / "outlast.toml"
        self.exits: list[Exit] = []
        self._broken = directory / "broken.toml"
        self._directory = directory
        self._scenario = scenario
        self._running: dict[str, _Running] = {}
        self._watching: set[asyncio.Task[None]] = set()

    async def start(self, bootstrap_servers: str, prefix: str) -> None:
        """Start the simulators and write the configurations."""
        for simulator in self.simulators.values():
            await simulator.start()
        dead = self.simulators[DEAD]
        await dead.behave(dead.behaviour.changed(self._scenario.behaviour))
        urls = {name: each.base_url for name, each in self.simulators.items()}
        self._write(self.config, bootstrap_servers, prefix, urls)
        nobody = {DEAD: f"http://127.0.0.1:{free_port()}/v1"}
        self._write(self._broken, bootstrap_servers, prefix, {**urls, **nobody})

    def _write(self, path: Path, servers: str, prefix: str, urls: Mapping[str, str]) -> None:
        path.write_text(configuration(self._scenario, servers, prefix, urls))

    async def run(self, seconds: Callable[[], float]) -> None:
        """Start all processes of the scenario and wait until each is ready.

        ``seconds`` says when a process that ends by itself did so. Raises ``OutlastError`` if one
        is not ready in time.
        """
        self._seconds = seconds
        for process in self._scenario.processes:
            await self._launch(process)
        async with asyncio.TaskGroup() as group:
            for name, each in self._running.items():
                group.create_task(self._until_ready(name, each))

    def begin(self) -> None:
        """The first job is published now: the simulators count their seconds from here."""
        for simulator in self.simulators.values():
            simulator.reset_counters()

    async def act(self, act: Act) -> None:
        """Do what a step says."""
        for name in act.providers:
            simulator = self.simulators[name]
            await simulator.behave(simulator.behaviour.changed(act.behaviour))
        if act.start is not None:
            await self._launch(act.start)
        if act.kill is not None:
            self._running[act.kill].is_killed = True
            self._signal(act.kill, signal.SIGKILL)
        if act.freeze is not None:
            self._signal(act.freeze, signal.SIGSTOP)
        if act.thaw is not None:
            self._signal(act.thaw, signal.SIGCONT)

    async def stop(self) -> None:
        """End all processes with a drain, then the simulators."""
        for task in self._watching:
            task.cancel()
        for name in self._running:
            self._signal(name, signal.SIGCONT)
            self._signal(name, signal.SIGTERM)
        await asyncio.gather(*map(self._ended, self._running.values()))
        for simulator in self.simulators.values():
            await simulator.stop()

    async def _launch(self, process: Process) -> None:
        inherited = {name: value for name, value in os.environ.items() if "OUTLAST_" not in name}
        ours = {
            "OUTLAST_DRILL_KEY": KEY,
            "OUTLAST_LOG": "json",
            "OUTLAST_INSTANCE_ID": process.name,
        }
        config = self._broken if process.is_broken else self.config
        path = self._directory / f"{process.name}.log"
        with path.open("ab") as log:
            started = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "outlast.cli", "--config", str(config), "run"),
                *process.arguments,
                env={**inherited, **ours},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        running = self._running[process.name] = _Running(started, path)
        task = asyncio.ensure_future(self._watched(process.name, running))
        self._watching.add(task)

    async def _watched(self, name: str, running: _Running) -> None:
        code = await running.process.wait()
        if not running.is_killed:
            self.exits.append(Exit(self._seconds(), name, code))

    async def _until_ready(self, name: str, running: _Running) -> None:
        end = asyncio.get_running_loop().time() + READY_SECONDS
        while b'"process.ready"' not in running.log.read_bytes():
            is_late = asyncio.get_running_loop().time() > end
            if is_late or running.process.returncode is not None:
                raise OutlastError(f"{name} is not ready; its log: {running.log.read_text()}")
            await asyncio.sleep(0.1)

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self._running[name].process
        if process.returncode is None:
            process.send_signal(number)

    async def _ended(self, running: _Running) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await running.process.wait()
        except TimeoutError:
            running.process.kill()
            await running.process.wait()
