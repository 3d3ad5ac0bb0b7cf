"""What a type checker says to users of the clients: the types they get, the mistakes it finds."""

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import pytest

from outlast import (
    AsyncClient,
    Client,
    Job,
    JobFailed,
    Kafka,
    NewJob,
    OutlastError,
    PublishRefused,
    PublishUnknown,
    Receipt,
    Result,
    Results,
    ResultStream,
)


async def never_run_but_checked_with_an_event_loop(bodies: AsyncIterator[bytes]) -> None:
    """The type checker reads it with the rest of the project; so it must not fail there."""
    async with AsyncClient(Kafka(bootstrap_servers="localhost:9092"), source="shop") as client:
        assert_type(client, AsyncClient)
        job = await client.publish(
            {"model": "chat", "messages": [{"role": "user", "content": "x"}]},
            job_id="j",
            route="chat",
            operation="chat.completions",
            ttl=timedelta(minutes=5),
            scope=["local", "jurisdiction:eu"],
            on_ambiguous="hold",
            results="team",
            headers={"customer": "c", "digest": b"\0"},
        )
        assert_type(job, Job)
        assert_type(await client.publish(b"{}", deadline=datetime.now(UTC), ttl=None), Job)
        assert_type(job.accepted, int)
        assert_type(client.publish_many([b"{}", "{}"]), AsyncGenerator[Receipt, None])
        async for receipt in client.publish_many(bodies, batch="b", first=7, ttl=5.0):
            assert_type(receipt, Receipt)
            assert_type(receipt.job, Job | None)
            assert_type(receipt.error, PublishRefused | PublishUnknown | None)
            assert_type(receipt.raise_for_error(), Job)
        assert_type(await client.wait(job), Result)
        result = await client.wait("j", timeout=60, results="team")
        async with client.results("group", name="team", ack="manual") as stream:
            assert_type(stream, ResultStream)
            async for each in stream:
                assert_type(each, Result)
                await each.ack()
    assert_type(result.raise_for_status(), Result)
    assert_type(result.text, str | None)
    assert_type(result.body, Any)
    assert_type(result.cost, Decimal | None)
    assert_type(result.headers, Mapping[str, bytes])
    assert_type(AsyncClient.from_env({}), AsyncClient)


def never_run_but_checked_without_an_event_loop(lines: Iterator[bytes]) -> None:
    """The same of the synchronous client."""
    with Client.from_env() as client:
        assert_type(client, Client)
        job = client.publish({"input": ["a"]}, operation="embeddings")
        assert_type(job, Job)
        assert_type(client.publish_many(lines, batch="b"), Iterator[Receipt])
        mixed = [NewJob(body=b"{}", job_id="own", ttl=5), NewJob(body={"model": "chat"})]
        for receipt in client.publish_many(mixed, route="chat"):
            assert_type(receipt, Receipt)
        assert_type(client.wait(job, timeout=60), Result)
        assert_type(client.wait("j"), Result)
        with client.results("group", ack="manual") as results:
            assert_type(results, Results)
            for result in results:
                assert_type(result, Result)
                results.ack(result)
    error: type[OutlastError] = JobFailed
    assert_type(error, type[OutlastError])


RIGHT = """
import outlast

client = outlast.Client("localhost:9092")
reveal_type(client.publish(b"{}", job_id="j").id)
reveal_type([each.raise_for_error() for each in client.publish_many([b"{}"])])
reveal_type(client.wait("j", timeout=5).status)
"""

WRONG = """
import outlast

client = outlast.Client("localhost:9092")
client.publish(b"{}", jobid="j")
client.publish(5)
client.publish(b"{}", on_ambiguous="maybe")
client.publish_many([b"{}"], job_id="one for all")
client.publish_many([b"{}"], ttl="5")
client.wait(job=5)
client.results("g", ack="later")
outlast.NewJob(b"{}")
outlast.Cleint
"""


def test_a_program_that_uses_the_package_is_checked_by_its_types(tmp_path: Path) -> None:
    code, said = checked(tmp_path, RIGHT)

    assert code == 0, said
    assert 'Revealed type is "str"' in said[0]
    assert "outlast.client.job.Job]" in said[1]
    assert "Status" in said[2]


def test_what_is_wrong_is_found_line_by_line(tmp_path: Path) -> None:
    code, said = checked(tmp_path, WRONG)

    assert code == 1
    lines = {int(line.split(":")[1]) for line in said if ": error:" in line}
    assert lines == set(range(5, 14)), said
    assert any('Unexpected keyword argument "jobid"' in line for line in said)
    assert any('has no attribute "Cleint"' in line for line in said)


def checked(directory: Path, text: str) -> tuple[int, list[str]]:
    """What mypy says of a program outside the project, to whom the package is installed."""
    program = directory / "program.py"
    program.write_text(text)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", ""),
            *("--cache-dir", str(directory / "cache"), "program.py"),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("package", ["outlast", "outlast_schemas"])
def test_the_packages_say_that_they_are_typed(package: str) -> None:
    module = __import__(package)

    assert module.__file__ is not None
    assert (Path(module.__file__).parent / "py.typed").is_file()
