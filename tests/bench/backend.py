"""The processes a bench starts beside Outlast's: the bare loops, and a provider that costs little.

Both are told what they need by their arguments, and say ``process.ready`` as Outlast does.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from outlast.drill.simulator.server import free_port
from tests.e2e.scene import Process, Scene

HERE = Path(__file__).parent


async def started(world: Scene, script: str, *arguments: str) -> Process:
    """Start a script of this directory; it ends with the scene."""
    log = world.directory / f"{script}-{len(world.processes)}.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / script), *arguments), stdout=file, stderr=file
        )
    world.processes.append(Process(process, log))
    return world.processes[-1]


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider in a process of its own."""

    url: str

    async def most_in_flight(self) -> int:
        """The most calls that were ever under way at once."""
        async with aiohttp.ClientSession() as session, session.get(self.url) as response:
            return int((await response.json())["most"])


@asynccontextmanager
async def provider(world: Scene, shortest: float, longest: float) -> AsyncIterator[Provider]:
    """Serve the scene's deepseek, in seconds from ``shortest`` to ``longest``, some slower."""
    port = free_port()
    run = await started(world, "provider.py", str(shortest), str(longest), str(port))
    await run.ready()
    url = f"http://127.0.0.1:{port}"
    before = world.config.read_text()
    world.config.write_text(before.replace(world.simulators["deepseek"].base_url, url))
    try:
        yield Provider(url)
    finally:
        world.config.write_text(before)
        await run.kill()
