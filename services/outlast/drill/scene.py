"""What a drill runs against: simulated providers, and Outlast itself as a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outlast.core.errors import OutlastError
from outlast.drill.simulator import Behaviour, Simulator
from outlast.drill.timeline import ROUTES, Happening

__all__ = ["LocalModel", "Scene", "configuration"]

SIMULATED: Final = ("deepseek", "openai", "anthropic")
JURISDICTIONS: Final = {"deepseek": "cn", "openai": "us", "anthropic": "us"}
KEY: Final = "a-key-for-the-simulators"
LATENCY_SECONDS: Final = 0.3
FIRST_TOKEN_SECONDS: Final = 3.0
STOP_SECONDS: Final = 30.0
READY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A real model behind an OpenAI-compatible address, or none: then it is simulated too."""

    base_url: str
    model: str


def configuration(
    *, bootstrap_servers: str, prefix: str, base_urls: Mapping[str, str], local: LocalModel
) -> str:
    """The drill's ``outlast.toml``."""
    providers = "".join(
        f"""
[providers.{name}]
family = "{name}"
base_url = "{base_urls[name]}"
api_key_env = "OUTLAST_DRILL_KEY"
jurisdiction = "{JURISDICTIONS[name]}"
limits = {{ concurrency = 60 }}
clocks = {{ connect_seconds = 2, first_token_seconds = {FIRST_TOKEN_SECONDS:g} }}
"""
        for name in SIMULATED
    )
    routes = "".join(
        f"\n[routes.{name}]\ntargets = {_toml_list(targets, local.model)}\n"
        for name, targets in ROUTES.items()
    )
    return f"""# Written by `outlast drill outage`.
[kafka]
bootstrap_servers = "{bootstrap_servers}"
prefix = "{prefix}"

[defaults]
route = "chat"
drain_seconds = 15
{providers}
[providers.local]
family = "compatible"
base_url = "{local.base_url}"
limits = {{ concurrency = 4 }}
{routes}"""


def _toml_list(targets: tuple[str, ...], local_model: str) -> str:
    return "[" + ", ".join(f'"{each.format(local_model=local_model)}"' for each in targets) + "]"


class Scene:
    """The simulators in this process, the stages in another; stops what it started."""

    def __init__(self, directory: Path, local: LocalModel | None) -> None:
        """Start nothing yet; ``directory`` keeps the configuration and the log."""
        calm = Behaviour(latency_seconds=LATENCY_SECONDS, latency_spread_seconds=LATENCY_SECONDS)
        self.simulators = {name: Simulator(name, behaviour=calm) for name in SIMULATED}
        self._stand_in = None if local else Simulator("compatible", behaviour=calm)
        self._local = local
        self.config = directory / "outlast.toml"
        self.log = directory / "outlast.log"
        self._stages: asyncio.subprocess.Process | None = None

    @property
    def simulated(self) -> frozenset[str]:
        """The providers that are not the real thing."""
        return frozenset((*SIMULATED, *(("local",) if self._stand_in else ())))

    async def start(self, bootstrap_servers: str, prefix: str) -> None:
        """Start the simulators and write the configuration."""
        for simulator in self.simulators.values():
            await simulator.start()
        if self._stand_in is not None:
            await self._stand_in.start()
        local = self._local or LocalModel(self._stand_in_url(), "local-model")
        self.config.write_text(
            configuration(
                bootstrap_servers=bootstrap_servers,
                prefix=prefix,
                base_urls={name: each.base_url for name, each in self.simulators.items()},
                local=local,
            )
        )

    def _stand_in_url(self) -> str:
        assert self._stand_in is not None
        return self._stand_in.base_url

    async def run_stages(self) -> None:
        """Start ``outlast run``, as an operator would. Raises ``OutlastError`` if it ends early."""
        inherited = {name: value for name, value in os.environ.items() if "OUTLAST_" not in name}
        environ = {**inherited, "OUTLAST_DRILL_KEY": KEY, "OUTLAST_LOG": "json"}
        with self.log.open("ab") as log:
            self._stages = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "outlast.cli", "--config", str(self.config), "run"),
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await self._until_ready()

    async def _until_ready(self) -> None:
        assert self._stages is not None
        end = asyncio.get_running_loop().time() + READY_SECONDS
        while b'"process.ready"' not in self.log.read_bytes():
            if asyncio.get_running_loop().time() > end:
                raise OutlastError(f"the stages are not ready; their log: {self.log.read_text()}")
            try:
                async with asyncio.timeout(0.1):
                    await self._stages.wait()
            except TimeoutError:
                continue
            raise OutlastError(f"the stages ended at once; their log: {self.log.read_text()}")

    async def happen(self, happening: Happening) -> None:
        """Let it happen to ``deepseek``."""
        deepseek = self.simulators["deepseek"]
        match happening:
            case "brownout":
                await deepseek.set_mode("outage")
            case "refused":
                await deepseek.set_mode("refuse")
            case "recovered":
                await deepseek.set_mode("ok")

    async def stop(self) -> None:
        """End the stages with a drain, then the simulators."""
        if self._stages is not None and self._stages.returncode is None:
            self._stages.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self._stages.wait()
            except TimeoutError:
                self._stages.kill()
                await self._stages.wait()
        for simulator in (*self.simulators.values(), *filter(None, (self._stand_in,))):
            await simulator.stop()
