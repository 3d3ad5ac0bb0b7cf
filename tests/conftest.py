"""What every test may ask for: a real Kafka broker, started once and only if a test needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka.broker import Broker, free_port


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap servers of one broker that the whole session shares: name topics apart."""
    directory: Path = tmp_path_factory.mktemp("kafka")
    with Broker(directory, port=free_port(count=2)) as broker:
        yield broker.bootstrap_servers
