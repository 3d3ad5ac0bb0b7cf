"""What every test may ask for: a real Kafka broker, started once and only if a test needs it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import structlog

from deploy.kafka.broker import free_port
from outlast.edges.logs import LIBRARIES
from tests.kafka.brokers import passing

KAFKA: Final = "OUTLAST_TESTS_KAFKA"
"""Bootstrap servers of a broker that runs already: a session inside a test shares the outer one."""


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Whoever configures the logs of a process writes to what this test captures, and no other."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, LIBRARIES)]
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    yield
    structlog.reset_defaults()
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap servers of one broker that the whole session shares: name topics apart."""
    if running := os.environ.get(KAFKA):
        yield running
        return
    directory: Path = tmp_path_factory.mktemp("kafka")
    with passing(directory, port=free_port(count=2)) as broker:
        yield broker.bootstrap_servers
