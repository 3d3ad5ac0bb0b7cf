"""Run one simulated provider as a process, until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
import sys
from dataclasses import fields

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
    parser.add_argument("--seed", type=int, default=0, help="for latencies and errors")
    _add_numbers(parser)
    arguments = parser.parse_args(given)
    named = {field.name for field in fields(Behaviour)} & vars(arguments).keys()
    try:
        arguments.behaviour = Behaviour(**{name: getattr(arguments, name) for name in named})
    except ValueError as error:
        parser.error(str(error))
    return arguments


def _add_numbers(parser: argparse.ArgumentParser) -> None:
    """Each number of the behaviour under its own name, as ``--error-share 0.3``."""
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    parser.add_argument("--latency-spread-seconds", type=float, default=0.0)
    parser.add_argument("--slow-seconds", type=float, default=10.0, help="the latency in slow")
    parser.add_argument("--slow-factor", type=float, default=1.0, help="of latencies in ok")
    parser.add_argument("--error-share", type=float, default=0.0, help="of 503s in ok, 0 to 1")
    parser.add_argument("--flap-seconds", type=float, default=20.0, help="up, and down, in flap")
    parser.add_argument("--retry-after-seconds", type=float, default=1.0, help="of a 429")
    parser.add_argument("--concurrency", type=int, default=0, help="0 for no limit")
    parser.add_argument("--requests-per-minute", type=int, default=0, help="0 for no limit")
    parser.add_argument("--tokens-per-minute", type=int, default=0, help="0 for no limit")


async def _serve(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Simulator(
        arguments.family,
        host=arguments.host,
        port=arguments.port,
        control_port=arguments.control_port,
        behaviour=arguments.behaviour,
        seed=arguments.seed,
    ) as simulator:
        where = {"base_url": simulator.base_url, "control_url": simulator.control_url}
        sys.stdout.write(orjson.dumps(where).decode() + "\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    main()
