"""Run one simulated provider as a process, until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
import sys

import orjson

from outlast.drill.simulator.behaviour import MODES, Behaviour
from outlast.drill.simulator.dialects import DIALECTS
from outlast.drill.simulator.server import LOOPBACK, Simulator


def main() -> None:
    """Read the arguments and serve; the first line of output says where, as JSON."""
    asyncio.run(_serve(_arguments(sys.argv[1:])))


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m outlast.drill.simulator", description=__doc__)
    parser.add_argument("--family", choices=DIALECTS, required=True)
    parser.add_argument("--host", default=LOOPBACK, help="0.0.0.0 in a container (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--control-port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--mode", choices=MODES, default="ok")
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    parser.add_argument("--latency-spread-seconds", type=float, default=0.0)
    parser.add_argument("--concurrency", type=int, default=0, help="0 for no limit")
    return parser.parse_args(given)


async def _serve(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    behaviour = Behaviour(
        mode=arguments.mode,
        latency_seconds=arguments.latency_seconds,
        latency_spread_seconds=arguments.latency_spread_seconds,
        concurrency=arguments.concurrency,
    )
    async with Simulator(
        arguments.family,
        host=arguments.host,
        port=arguments.port,
        control_port=arguments.control_port,
        behaviour=behaviour,
    ) as simulator:
        where = {"base_url": simulator.base_url, "control_url": simulator.control_url}
        sys.stdout.write(orjson.dumps(where).decode() + "\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    main()
