"""What a backend pays for ``import outlast``: no framework of ours comes along."""

import subprocess
import sys

import pytest

HEAVY = ("faststream", "typer", "aiohttp")


@pytest.mark.parametrize(
    "statement",
    [
        "import outlast",
        "from outlast import AsyncClient, Job, Result, PublishUnknown, PublishRefused, JobFailed",
        "import outlast.core.decide",
    ],
)
def test_importing_outlast_loads_no_framework(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint([n for n in {HEAVY!r} if n in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import outlast

    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = outlast.Cleint
