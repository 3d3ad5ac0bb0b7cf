"""Orders to a running simulated provider, and its counts, over HTTP on a port of their own."""

from collections.abc import Mapping
from typing import Protocol

import orjson
from aiohttp import web

from outlast.drill.simulator.behaviour import Behaviour
from outlast.drill.simulator.counters import Counters

__all__ = ["control_app"]


class Controlled(Protocol):
    """What can be ordered about."""

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves now."""
        ...

    @property
    def counters(self) -> Counters:
        """What it has seen."""
        ...

    @property
    def base_url(self) -> str:
        """Where it is called."""
        ...

    def reset_counters(self) -> None:
        """Count anew."""
        ...

    async def behave(self, behaviour: Behaviour) -> None:
        """Take on a behaviour."""
        ...


def control_app(controlled: Controlled) -> web.Application:
    """``GET /control`` shows behaviour and counters; ``POST /control`` changes fields of it.

    ``{"mode": "outage", "latency_seconds": 0.5}`` changes two; ``{"reset": true}`` counts anew.
    Both answer with how things stand then.
    """

    async def show(_: web.Request) -> web.Response:
        return _shown(controlled)

    async def change(request: web.Request) -> web.Response:
        try:
            orders = orjson.loads(await request.read())
            if not isinstance(orders, Mapping):
                raise ValueError("orders are a JSON object")
            reset = orders.get("reset") is True
            fields = {name: value for name, value in orders.items() if name != "reset"}
            changed = controlled.behaviour.changed(fields)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        await controlled.behave(changed)
        if reset:
            controlled.reset_counters()
        return _shown(controlled)

    app = web.Application()
    app.router.add_get("/control", show)
    app.router.add_post("/control", change)
    return app


def _shown(controlled: Controlled) -> web.Response:
    return web.json_response(
        {
            "base_url": controlled.base_url,
            "mode": controlled.behaviour.mode,
            "behaviour": controlled.behaviour.to_json(),
            "counters": controlled.counters.to_json(),
        }
    )
