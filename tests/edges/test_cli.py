"""The command line: usage errors, clear messages, exit codes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from outlast.cli.commands import app
from outlast.core.errors import KafkaUnreachable
from outlast.edges.codec import Encoded
from outlast.edges.kafka import connection
from outlast_schemas.topics import Topics
from tests.kafka.cluster import place

NOBODY = "127.0.0.1:1"
TOO_LARGE = f'{{"messages":"{"x" * 1_100_000}"}}'
COMMANDS = ("submit", "results", "dead-letters", "replay", "audit", "topics", "doctor")


def outlast(
    *arguments: str, servers: str = NOBODY, prefix: str = "cli", stdin: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, away from any outlast.toml."""
    return subprocess.run(
        [sys.executable, "-m", "outlast.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=os.path.sep,
        env=environment(servers, prefix, **more),
        check=False,
    )


def here(
    *arguments: str, servers: str = NOBODY, prefix: str = "cli", stdin: str = "", **more: str
) -> Result:
    """As :func:`outlast`, in this process: a new one takes a second to begin."""
    ours = dict.fromkeys(name for name in os.environ if name.startswith("OUTLAST_"))
    environ = {**ours, **environment(servers, prefix, **more)}
    return CliRunner().invoke(app, list(arguments), input=stdin, env=environ)


def environment(servers: str, prefix: str, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTLAST_")}
    return {
        **kept,
        "COLUMNS": "80",
        "OUTLAST_KAFKA__BOOTSTRAP_SERVERS": servers,
        "OUTLAST_KAFKA__PREFIX": prefix,
        "OUTLAST_KAFKA__PARTITIONS": "2",
        **more,
    }


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_names_what_there_is(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"])

    assert done.exit_code == 0
    assert "Usage" in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    if not command:
        assert all(each in done.output for each in COMMANDS)


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.startswith("outlast ")


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (["sumbit", "x"], "", "No such command 'sumbit'. Did you mean 'submit'?"),
        (["submit"], "", "give a message, or --file"),
        (["submit", "x", "--file", "y"], "", "give a message, or --file"),
        (["submit", " "], "", "the message is empty"),
        (["submit", __file__], "", f"{__file__} is a file: --file {__file__} publishes"),
        (["submit", "--file", "/nowhere.jsonl"], "", "/nowhere.jsonl cannot be read"),
        (["submit", "--file", "-"], '{"a":1}\nnope\n', "line 2 is not a JSON object"),
        (["submit", "--file", "-"], "\n", "there is no body in it"),
        (["submit", "--file", "-", "--model", "m"], "{}", "a JSON body says its own model"),
        (["submit", "--file", "-", "--job-id", "a"], "{}\n{}", "it is for a single job"),
        (["submit", "x", "--deadline", "soon"], "", "2026-03-30T06:00:00Z"),
        (["submit", "x", "--header", "novalue"], "", "NAME=VALUE was expected"),
        (["submit", "x", "--on-ambiguous", "maybe"], "", "maybe"),
        (["submit", "x", "--deadline", "2026-03-30"], "", "a time zone is missing"),
        (["submit", "x", "--ttl", "0"], "", "a number of seconds above 0"),
        (["submit", "x", "--ttl", "9", "--deadline", "2026-03-30T06:00:00Z"], "", "exclude each"),
        (["submit", "x", "--job-id", ""], "", "1 to 128 printable ASCII"),
        (["submit", "x", "--job-id", "ä"], "", "1 to 128 printable ASCII"),
        (["submit", "x", "--job-id", "a", "--batch", "b"], "", "exclude each other"),
        (["submit", "x", "--batch", ""], "", "1 to 108 printable ASCII"),
        (["submit", "x", "--route", ""], "", "for --route: it is empty"),
        (["submit", "x", "--scope", " "], "", "for --scope: it is empty"),
        (["submit", "x", "--results", ""], "", "for --results: it is empty"),
        (["submit", "x", "--operation", "dream"], "", "dream"),
        (["submit", "x", "--header", "ce_id=1"], "", "not for ce_id: use --job-id"),
        (["submit", "x", "--header", "outlast-ttl-seconds=1"], "", "use --ttl"),
        (["submit", "x", "--header", "outlast-state={}"], "", "it is Outlast's own"),
        (["submit", "x", "--timeout", "1"], "", "it needs --wait"),
        (["submit", "--file", "-", "--wait"], "{}\n{}", "it is for a single job"),
        (["submit", "--file", "-"], "[1]", "line 1 is not a JSON object"),
        (["submit", "--file", "/"], "", "/ cannot be read"),
        pytest.param(
            *(["submit", "--file", "-"], TOO_LARGE, "kafka.max_body_bytes); nothing was published"),
            id="too-large",
        ),
        (["results", "--group", "g"], "", "it needs --follow"),
        (["results", "--job", ""], "", "for --job: it is empty"),
        (["results", "--since", "soon"], "", "90s, 15m, 1h or 2d ago, or an instant such as"),
        (["results", "--since", "2026-03-30"], "", "a time zone is missing"),
        (["results", "--follow", "--group", "g", "--since", "1h"], "", "leave it out"),
        (["replay"], "", "name ids or --reason, or say --all"),
        (["replay", "a", "--all"], "", "exclude each other"),
        (["replay", "a", "--ttl", "-1"], "", "a number of seconds above 0"),
        (["replay", "--reason", "bored"], "", "bored"),
        (["dead-letters", "--limit", "0"], "", "--limit"),
    ],
)
def test_a_usage_error_says_what_is_wrong(arguments: list[str], stdin: str, says: str) -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments, input=stdin)

    assert done.exit_code == 2
    assert says in done.output


@pytest.mark.parametrize(
    "command",
    [
        ["submit", "hello"],
        ["results"],
        ["results", "--follow"],
        ["dead-letters"],
        ["replay", "--all", "--yes"],
        ["audit"],
        ["topics", "plan"],
        ["topics", "apply"],
        ["submit", "hello", "--wait"],
    ],
)
def test_a_wrong_address_is_said_plainly(command: list[str]) -> None:
    done = outlast(*command)

    assert done.returncode == 3
    assert f"no Kafka broker answers at {NOBODY}" in done.stderr
    assert "OUTLAST_KAFKA__BOOTSTRAP_SERVERS" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_that_never_answers_is_given_up(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(connection, "HEARD_SECONDS", 1.5)
    done = here("audit", servers=silent)

    assert isinstance(done.exception, KafkaUnreachable)
    assert f"no Kafka broker answers at {silent}" in str(done.exception)


def test_mistakes_in_the_settings_stand_on_a_line_each(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[kafka]\nprefx = "a"\npartitions = 0\n[routes.chat]\ntargets = ["x/y"]\n')

    done = outlast("--config", str(path), "audit", OUTLAST_KAFKA__PARTITIONS="")

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    mistakes = done.stderr.splitlines()[1:]
    assert len(mistakes) == 3
    assert [any(key in each for each in mistakes) for key in ("prefx", "partitions", "routes")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nowhere.toml", None, "there is no such file"),
        ("broken.toml", b"[kafka", "is not valid TOML"),
        ("bytes.toml", b"\xff\xfe\x00", "is not valid TOML"),
    ],
)
def test_a_settings_file_that_is_none_is_said_plainly(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    done = outlast("--config", str(tmp_path / name), "doctor")

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_settings_file_is_named() -> None:
    done = outlast("audit", OUTLAST_CONFIG="/nowhere.toml")

    assert done.returncode == 2
    assert "OUTLAST_CONFIG names /nowhere.toml, and there is no such file" in done.stderr


@pytest.mark.kafka
@pytest.mark.parametrize(
    "command", [["submit", "x"], ["results"], ["dead-letters"], ["replay", "a"], ["audit"]]
)
def test_missing_topics_name_the_command_that_makes_them(kafka: str, command: list[str]) -> None:
    done = outlast(*command, servers=kafka, prefix="nowhere")

    assert done.returncode == 2
    assert "Run `outlast topics apply`." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.kafka
def test_topics_then_jobs_then_an_audit(kafka: str, tmp_path: Path) -> None:
    prefix = f"cli{tmp_path.name[-8:].replace('_', '-').lower()}-{os.getpid()}"

    def run(*arguments: str, stdin: str = "") -> tuple[int, list[str]]:
        done = here(*arguments, servers=kafka, prefix=prefix, stdin=stdin)
        assert isinstance(done.exception, SystemExit | None), done.exception
        return done.exit_code, done.stdout.splitlines()

    assert run("topics", "plan")[0] == 1
    code, planned = run("topics", "plan", "--json")
    kinds = [json.loads(line)["kind"] for line in planned]
    assert (code, kinds.count("create"), kinds.count("begin")) == (1, len(kinds), 0)
    code, steps = run("topics", "apply")
    assert code == 0
    assert f"create {Topics(prefix).jobs}: 2 partition(s), 1 replica(s)" in steps
    assert run("topics", "plan") == (0, ["nothing to do: Kafka agrees"])

    assert run("submit", "hello", "--job-id", "job-1", "--header", "a=b") == (0, ["job-1"])
    code, [receipt] = run("submit", "-", "--json", stdin="what is the time?")
    assert code == 0
    assert json.loads(receipt)["topic"] == Topics(prefix).jobs
    lines = "".join(f'{{"messages": [], "n": {number}}}\n' for number in range(700))
    code, ids = run("submit", "--file", "-", stdin=lines)
    assert (code, len(set(ids))) == (0, 700)

    code, [report] = run("audit", "--json")
    assert code == 0
    assert json.loads(report)["open"] == json.loads(report)["accepted"] == 702
    code, table = run("audit")
    assert code == 0
    assert table[1].split() == ["accepted", "702"]

    assert run("results") == (0, [])
    assert run("results", "--job", "job-1")[0] == 1
    absent = here("results", "--name", "absent", servers=kafka, prefix=prefix)
    assert absent.exit_code == 2
    assert f"there is no topic {Topics(prefix).results('absent')}" in absent.stderr
    assert "topics apply" not in absent.stderr  # it would make none
    assert run("dead-letters", "--json") == (0, [])
    assert run("replay", "--all", "--yes") == (0, [])
    assert run("replay", "job-1")[0] == 1


@pytest.mark.kafka
async def test_ctrl_c_ends_quietly(kafka: str) -> None:
    async with place(kafka) as where:
        await where.apply()
        headers = [("ce_subject", b"a"), ("outlast-replays", b"0"), ("outlast-status", b"expired")]
        await where.write(Encoded(where.topics.results(), b"a", b"{}", [*headers]))
        following = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "outlast.cli", "results", "--follow", "--json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(kafka, where.kafka.prefix),
            cwd=os.path.sep,
        )
        assert following.stdout is not None
        assert json.loads(await following.stdout.readline())["job_id"] == "a"
        following.send_signal(signal.SIGINT)
        out, err = await following.communicate()

    assert following.returncode == 130
    assert (out, err) == (b"", b"")


def wait_until_it_reads(pid: int) -> None:
    """A process that has asked for input sleeps in nothing else."""
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "S":
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ctrl_c_at_the_question_of_replay_is_heard_the_first_time() -> None:
    program = (
        "import asyncio\n"
        "from outlast.cli.replay import _confirmed\n"
        "async def replay(): return _confirmed(3)\n"
        "asyncio.run(replay())\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stderr=pipe) as child:
        assert child.stderr is not None
        asked = child.stderr.read(len("Replay 3 job(s)?"))
        # No user is so quick that it comes before the read; there CPython would not notice it.
        wait_until_it_reads(child.pid)
        child.send_signal(signal.SIGINT)
        try:
            code = child.wait(30)
        finally:
            child.kill()

    assert asked == b"Replay 3 job(s)?"
    assert code == -signal.SIGINT


def test_ctrl_c_before_anything_is_loaded_leaves_quietly() -> None:
    """Loading takes most of a second; the signal lands in the middle of it."""
    program = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'outlast.cli.commands': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from outlast.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (130, b"")
