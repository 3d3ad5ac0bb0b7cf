"""A simulated provider that remembers every call: whose it was, when, and how it ended."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import orjson
from aiohttp import web

from outlast.drill.simulator import Behaviour, Simulator
from outlast.drill.simulator.calls import Calls
from outlast.drill.simulator.dialects import DIALECTS

__all__ = ["Call", "Witness"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True, kw_only=True)
class Call:
    """One call; times are those of the event loop. Without a status it was cut off.

    ``caller`` is the key it came with: every process of a fleet has its own.
    """

    caller: str
    job: str
    began: float
    ended: float | None = None
    status: int | None = None

    @property
    def spends(self) -> bool:
        """Whether a provider may bill it: answered well, or cut off."""
        return self.status in (None, 200)


class _Calls(Calls):
    def __init__(self, family: str, behaviour: Behaviour, seed: int) -> None:
        super().__init__(DIALECTS[family], behaviour, seed)
        self.seen: list[Call] = []

    def app(self) -> web.Application:
        app = super().app()
        app.middlewares.append(self._witness)
        return app

    @web.middleware
    async def _witness(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = orjson.loads(await request.read())
        now = asyncio.get_running_loop().time
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        call = Call(caller=key, job=asked["messages"][-1]["content"], began=now())
        self.seen.append(call)
        try:
            response = await handler(request)
            call.status = response.status
            return response
        finally:
            call.ended = now()


class Witness(Simulator):
    """A simulator in the test's own event loop."""

    def __init__(self, family: str, behaviour: Behaviour, seed: int = 0) -> None:
        """Listen nowhere yet."""
        super().__init__(family, behaviour=behaviour, seed=seed)
        self._witnessed = _Calls(family, behaviour, seed)
        self._calls = self._witnessed

    @property
    def seen(self) -> Iterable[Call]:
        """All calls, in the order they came in."""
        return self._witnessed.seen
