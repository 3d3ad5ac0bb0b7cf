"""Commands in pipes and odd terminals: they end quietly, and say everything in any locale."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from outlast.edges.codec import Encoded
from tests.kafka.cluster import Place, place

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

MANY = 400
PADDING = "x" * 2_000
"""So that no pipe's buffer holds all of it, and the reader's end is noticed."""
TEXT = "schön → “fertig” ✓"


def result(number: int, text: str) -> tuple[list[tuple[str, bytes | None]], bytes]:
    body = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    headers: list[tuple[str, bytes | None]] = [
        ("ce_subject", f"job-{number}".encode()),
        ("outlast-replays", b"0"),
        ("outlast-status", b"succeeded"),
    ]
    return headers, json.dumps(body).encode()


async def write(where: Place, topic: str, count: int, text: str = PADDING) -> None:
    for number in range(count):
        headers, body = result(number, text)
        await where.write(Encoded(topic, f"job-{number}".encode(), body, headers))


@asynccontextmanager
async def filled(kafka: str) -> AsyncIterator[Place]:
    """A place with many results and dead letters."""
    async with place(kafka) as where:
        await where.apply()
        headers, body = result(0, PADDING)
        letter = [("ce_id", b"a"), ("outlast-reason", b"ambiguous"), ("outlast-detail", b"d" * 500)]
        records = [
            *(Encoded(where.topics.results(), b"%d" % n, body, headers) for n in range(MANY)),
            *(Encoded(where.topics.dead_letters, b"%d" % n, b"{}", [*letter]) for n in range(MANY)),
        ]
        await where.write(*records)
        yield where


def environment(where: Place, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTLAST_")}
    return {
        **kept,
        "OUTLAST_KAFKA__BOOTSTRAP_SERVERS": where.kafka.bootstrap_servers,
        "OUTLAST_KAFKA__PREFIX": where.kafka.prefix,
        **more,
    }


def outlast(
    where: Place, *arguments: str, stdin: bytes = b"", **more: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "outlast.cli", *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        cwd=os.path.sep,
        env=environment(where, **more),
        check=False,
    )


async def accepted(where: Place) -> int:
    return sum([1 async for _ in where.archive.accepted()])


async def test_a_reader_that_has_enough_ends_the_command_quietly(kafka: str) -> None:
    async with filled(kafka) as where:
        for arguments in (["results"], ["results", "--json"], ["dead-letters", "--json"]):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "outlast.cli", *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=4_096,
                env=environment(where),
            )
            assert process.stdout is not None
            assert process.stderr is not None
            assert await process.stdout.read(10)
            process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
            err = await process.stderr.read()
            assert (await process.wait(), err) == (141, b""), arguments


async def test_ids_that_nobody_reads_stop_the_publishing_and_it_is_said(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "outlast.cli", "submit", "--file", "-"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(where),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        process.stdin.write(b'{"messages": []}\n' * 10)
        process.stdin.close()
        err = (await process.stderr.read()).decode()

        assert await process.wait() == 141
        assert "nobody reads the ids any more: stopped after 1 job(s)" in err
        assert "Traceback" not in err


async def test_any_locale_gets_all_of_the_text(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        await write(where, where.topics.results(), 1, TEXT)
        ascii_ = outlast(where, "results", LC_ALL="C", PYTHONIOENCODING="ascii")
        utf8 = outlast(where, "results", PYTHONIOENCODING="utf-8")
        as_json = outlast(where, "results", "--json", PYTHONIOENCODING="ascii")
        plan = outlast(
            where, "topics", "plan", PYTHONIOENCODING="ascii", OUTLAST_KAFKA__PARTITIONS="5"
        )

    assert (ascii_.returncode, ascii_.stderr) == (0, b"")
    assert b"sch\\xf6n \\u2192" in ascii_.stdout
    assert TEXT in utf8.stdout.decode()
    [choice] = json.loads(as_json.stdout)["body"]["choices"]
    assert choice["message"]["content"] == TEXT
    assert plan.returncode == 1
    assert b"3 \\u2192 5 partitions" in plan.stdout


async def test_what_is_no_terminal_gets_no_colour_and_no_bar(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        body = b'{"messages": []}\n'
        for arguments in (["submit", "-f", "-"], ["results"], ["audit"], ["doctor"]):
            done = outlast(where, *arguments, stdin=body * 700)
            assert b"\x1b" not in done.stdout + done.stderr, arguments


async def test_results_come_in_the_order_of_time(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        await write(where, where.topics.results(), 30, "t")

        def ids(*arguments: str) -> list[str]:
            done = outlast(where, "results", "--json", *arguments)
            assert done.returncode == 0, done.stderr
            return [json.loads(line)["job_id"] for line in done.stdout.splitlines()]

        written = [f"job-{number}" for number in range(30)]
        assert ids() == written
        assert ids("--limit", "4") == written[-4:]
        assert ids("--job", "job-3", "--limit", "2") == ["job-3"]
        assert ids("--since", "1h") == written
        assert ids("--since", "0s") == []
        assert ids("--follow", "--limit", "5") == written[:5]
        assert sorted(ids("--follow", "--group", "g", "--limit", "30")) == sorted(written)


async def test_a_group_that_ends_at_its_limit_goes_on_behind_it(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        await write(where, where.topics.results(), 6, "t")
        seen: list[str] = []
        for _ in range(3):
            done = outlast(where, "results", "--json", "--follow", "--group", "g", "--limit", "2")
            seen += [json.loads(line)["job_id"] for line in done.stdout.splitlines()]

    assert sorted(seen) == [f"job-{number}" for number in range(6)]


async def test_what_comes_after_a_bad_line_on_standard_input_is_not_published(kafka: str) -> None:
    """The line comes late: what was there at the start is looked at before anything goes out."""
    async with place(kafka) as where:
        await where.apply()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "outlast.cli", "submit", "-f", "-", "--batch", "b"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(where),
        )
        assert process.stdin is not None
        process.stdin.write(b'{"messages": []}\n{"messages": []}\n')
        await process.stdin.drain()
        async with asyncio.timeout(60):
            while await accepted(where) < 2:
                await asyncio.sleep(0.05)
        out, err = await process.communicate(b'nope\n{"messages": []}\n')

    assert process.returncode == 2
    assert out == b"b/0\nb/1\n"
    assert b"line 3 is not a JSON object; 2 job(s) before it were published" in err
    assert b"with --batch b it is safe to run again" in err


async def test_a_file_with_a_bad_line_publishes_nothing(kafka: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b'{"messages": []}\n' * 3_000 + b"nope\n")
    async with place(kafka) as where:
        await where.apply()
        done = outlast(where, "submit", "--file", str(path))
        report = json.loads(outlast(where, "audit", "--json").stdout)

    assert done.returncode == 2
    assert b"line 3001 is not a JSON object; nothing was published" in done.stderr
    assert report["accepted"] == 0


async def test_a_batch_run_twice_is_one_batch(kafka: str) -> None:
    body = b'{"messages": []}\n'
    async with place(kafka) as where:
        await where.apply()
        first = outlast(where, "submit", "-f", "-", "--batch", "day-1", stdin=body * 3)
        again = outlast(where, "submit", "-f", "-", "--batch", "day-1", stdin=body * 3)
        report = json.loads(outlast(where, "audit", "--json").stdout)

    assert first.stdout == again.stdout == b"day-1/0\nday-1/1\nday-1/2\n"
    assert report["accepted"] == 3


async def test_ctrl_c_while_standard_input_is_silent_leaves_quietly(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "outlast.cli", "submit", "-f", "-"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(where),
        )
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b'{"messages": []}\n')
        await process.stdin.drain()
        async with asyncio.timeout(60):
            while await accepted(where) < 1:
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert await process.stderr.read() == b""
        process.stdin.close()
