"""What a backend pays for ``import outlast``: no framework of ours comes along."""

import subprocess
import sys

import pytest

import outlast

HEAVY = ("faststream", "typer", "aiohttp", "click", "uvloop", "rich.progress")
"""Not ``rich`` as such: structlog imports it, for tracebacks, wherever it is installed."""


def loaded_by(statement: str) -> str:
    """Which of the heavy ones are loaded after the statement, in a process of its own."""
    code = f"{statement}\nimport sys\nprint([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "statement",
    [
        "import outlast",
        "from outlast import *",
        *(f"from outlast import {name}" for name in outlast.__all__),
        "import outlast.core.decide",
    ],
)
def test_importing_outlast_loads_no_framework(statement: str) -> None:
    assert loaded_by(statement) == "[]"


def test_using_the_clients_loads_no_framework_either() -> None:
    statement = """
import asyncio, outlast
client = outlast.Client("127.0.0.1:1")
try:
    client.publish(b"{}", ttl=0)
except outlast.PublishRefused:
    client.close()
try:
    asyncio.run(outlast.AsyncClient("127.0.0.1:1").__aenter__())
except outlast.OutlastError:
    pass
"""
    assert loaded_by(statement) == "[]"


def test_the_package_alone_loads_no_client_library() -> None:
    code = "import outlast, sys\nprint([n for n in ('aiokafka', 'pydantic') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert sorted(outlast.__all__) == outlast.__all__
    for name in outlast.__all__:
        assert getattr(outlast, name).__module__.startswith("outlast.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = outlast.Cleint  # type: ignore[attr-defined]
