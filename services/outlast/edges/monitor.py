"""Answers ``/metrics``, ``/live`` and ``/ready`` on one address, from the event loop that works.

That it answers at all shows that the loop turns. It asks nothing of Kafka or of a provider, so
that an outage of either never gets a process killed for it.
"""

import errno
from typing import Final

import orjson
import structlog
from aiohttp import web

from outlast.core.errors import SettingsError
from outlast.edges.condition import Condition
from outlast.edges.metrics import Metrics
from outlast.edges.settings import Monitoring

__all__ = ["Monitor"]

log = structlog.get_logger()

CLOSE_SECONDS: Final = 1.0
READING: Final = ("GET", "HEAD")


class Monitor:
    """A small HTTP server; ``async with`` starts and stops it.

    Where nothing is configured it listens nowhere.
    """

    def __init__(self, monitoring: Monitoring) -> None:
        """Know nothing yet of the process but that it is starting."""
        self._monitoring = monitoring
        self._runner: web.AppRunner | None = None
        self.metrics = Metrics()
        self.condition = Condition()

    @property
    def is_on(self) -> bool:
        """Whether anybody can ask."""
        return self._monitoring.address is not None

    @property
    def url(self) -> str:
        """Where it answers. Raises ``RuntimeError`` when it does nowhere."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("nobody can ask")
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def __aenter__(self) -> "Monitor":
        """Listen. Raises ``SettingsError`` when that cannot be."""
        if (address := self._monitoring.address) is not None:
            await self._listen(*address)
            log.info("monitor.listening", url=self.url)
        return self

    async def _listen(self, host: str, port: int) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError([self._not_listening(error)]) from error

    def _not_listening(self, error: OSError) -> str:
        listen = self._monitoring.listen
        if error.errno == errno.EADDRINUSE:
            return (
                f"monitoring.listen {listen}: the port is in use; each process of a host needs one "
                "of its own: OUTLAST_MONITORING__LISTEN for this one, or leave it out of the file"
            )
        return f"monitoring.listen {listen}: cannot listen there: {error.strerror or error}"

    async def __aexit__(self, *_: object) -> None:
        """Answer no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        match request.method, request.path:
            case method, "/metrics" if method in READING:
                return self._scraped(request)
            case method, "/live" if method in READING:
                return _said("live", self.condition.unalive)
            case method, "/ready" if method in READING:
                return _said("ready", self.condition.unready)
            case _:
                return web.Response(status=404, text="there is /metrics, /live and /ready\n")

    def _scraped(self, request: web.Request) -> web.Response:
        body, content_type = self.metrics.text(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


def _said(what: str, why_not: str | None) -> web.Response:
    """One line of JSON; 503 with the reason where it is not so."""
    said = {what: why_not is None} | ({} if why_not is None else {"why": why_not})
    return web.Response(
        body=orjson.dumps(said) + b"\n",
        status=200 if why_not is None else 503,
        content_type="application/json",
    )
