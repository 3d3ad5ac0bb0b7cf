"""The simulated provider as an object in the caller's event loop."""

import socket
import time
from collections.abc import Callable
from typing import Final, Self

from aiohttp import web

from outlast.drill.simulator.behaviour import Behaviour, Mode
from outlast.drill.simulator.calls import Calls
from outlast.drill.simulator.control import control_app
from outlast.drill.simulator.counters import Counters
from outlast.drill.simulator.dialects import DIALECTS

__all__ = ["LOOPBACK", "Simulator", "free_port"]

LOOPBACK: Final = "127.0.0.1"
EVERY_INTERFACE: Final = "0.0.0.0"
PORTS: Final = range(18_000, 28_000)
"""Below the range from which systems number outgoing connections: a port let go by ``refuse`` is
still free when it is wanted back."""

BACKLOG: Final = 4_096
"""A pool connects a thousand times at once; a short queue would drop some for a second."""


class Simulator:
    """One provider; ``async with Simulator("deepseek") as provider:`` starts and stops it."""

    def __init__(
        self,
        family: str,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        control_port: int | None = None,
        behaviour: Behaviour | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen nowhere yet.

        Args:
            family: ``deepseek``, ``openai``, ``anthropic`` or ``compatible``.
            host: the IPv4 address to listen on, for calls and orders; in a container, whose
                loopback interface nobody else reaches, ``0.0.0.0``.
            port: 0 picks a free one.
            control_port: where ``/control`` is served; 0 picks a free one, ``None`` for nowhere.
            behaviour: to begin with.
            seed: for the spread of latencies and the share of errors.
            clock: seconds, for limits by the minute, counts by the second and ``flap``.
        """
        self.family = family
        self.host = host
        self.port = port
        self.control_port = control_port
        self._calls = Calls(DIALECTS[family], behaviour or Behaviour(), seed, clock)
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite | None = None
        self._control: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; in mode ``refuse`` only for orders."""
        self._runner = await _running(self._calls.app())
        self.port = self.port or free_port(self.host)
        if self.behaviour.mode != "refuse":
            await self._listen()
        if self.control_port is not None:
            self.control_port = self.control_port or free_port(self.host)
            self._control = await _running(control_app(self))
            await web.SockSite(self._control, _listening(self.host, self.control_port)).start()

    async def stop(self) -> None:
        """Close everything; calls in flight are cut."""
        self._cut_connections()
        for runner in (self._control, self._runner):
            if runner is not None:
                await runner.cleanup()
        self._runner = self._control = self._site = None

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    @property
    def base_url(self) -> str:
        """What the configuration of a provider of this family has as ``base_url``."""
        return f"http://{self._reached_at}:{self.port}{DIALECTS[self.family].base_path}"

    @property
    def control_url(self) -> str:
        """Where GET reads and POST changes. Only with a control port."""
        return f"http://{self._reached_at}:{self.control_port}/control"

    @property
    def _reached_at(self) -> str:
        return LOOPBACK if self.host == EVERY_INTERFACE else self.host

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves now."""
        return self._calls.behaviour

    @property
    def counters(self) -> Counters:
        """What it has seen."""
        return self._calls.tally.read()

    def reset_counters(self) -> None:
        """Count anew; calls in flight stay counted as such."""
        self._calls.tally.reset()

    async def set_mode(self, mode: Mode, **changes: object) -> None:
        """Behave otherwise from the next call on. Raises ``ValueError`` for unknown changes."""
        await self.behave(self.behaviour.changed({**changes, "mode": mode}))

    async def behave(self, behaviour: Behaviour) -> None:
        """Take on a behaviour; ``refuse`` cuts every connection, any other mode listens again."""
        self._calls.behave(behaviour)
        if behaviour.mode == "refuse":
            await self._refuse()
        elif self._site is None:
            await self._listen()

    async def _listen(self) -> None:
        if self._runner is not None:
            self._site = web.SockSite(
                self._runner, _listening(self.host, self.port), backlog=BACKLOG
            )
            await self._site.start()

    async def _refuse(self) -> None:
        site, self._site = self._site, None
        if site is not None:
            await site.stop()
        self._cut_connections()

    def _cut_connections(self) -> None:
        server = self._runner.server if self._runner is not None else None
        for connection in server.connections if server is not None else ():
            if connection.transport is not None:
                # abort() resets where close() would first wait for what is being written
                connection.transport.abort()


async def _running(app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    return runner


def _listening(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def free_port(host: str = LOOPBACK) -> int:
    """A port of this address that nobody listens on. Raises ``OSError`` if none is."""
    for port in PORTS:
        try:
            _listening(host, port).close()
        except OSError:
            continue
        return port
    raise OSError(f"no port is free from {PORTS.start} to {PORTS.stop}")
