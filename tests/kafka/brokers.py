"""Brokers of which nothing is wanted when a test has ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.kafka.broker import Broker, Secured
from deploy.kafka.jars import Jars


@contextmanager
def passing(
    directory: Path, *, port: int, nodes: int = 1, secured: Secured | None = None
) -> Iterator[Broker]:
    """Killed at the end: a clean stop takes seconds, ten of them with all topics of a session."""
    broker = Broker(directory, port=port, nodes=nodes, secured=secured)
    broker.start()
    try:
        yield broker
    finally:
        if Jars().archive.is_file():
            for node in broker.nodes:
                broker.kill(node)
        else:
            broker.stop()  # the first clean stop leaves what speeds up every later start
