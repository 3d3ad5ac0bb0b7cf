"""What every chaos test may ask for: three brokers that are whole, and the table of figures."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.kafka.chaos.cluster import Cluster, running
from tests.kafka.chaos.figures import Table
from tests.kafka.chaos.scenario import Scenario

TABLE: Final = pytest.StashKey[Table]()


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers for the whole session."""
    with running(tmp_path_factory.mktemp("brokers")) as cluster:
        yield cluster


@pytest.fixture
async def cluster(brokers: Cluster) -> AsyncIterator[Cluster]:
    """The brokers; whole again after each test."""
    yield brokers
    await brokers.heal()


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    """Where each scenario puts its row."""
    return pytestconfig.stash.setdefault(TABLE, Table())


@pytest.fixture
def scenario(
    request: pytest.FixtureRequest, cluster: Cluster, table: Table, tmp_path: Path
) -> Scenario:
    """Of this test, named after it."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    return Scenario(name, cluster, table, tmp_path)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table, if any scenario ran."""
    if (table := config.stash.get(TABLE, None)) and table.rows:
        terminalreporter.section("chaos")
        for line in table.lines():
            terminalreporter.write_line(line)
