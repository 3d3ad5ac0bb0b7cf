"""Logs: one JSON object a line, nothing that is secret, libraries kept short."""

import io
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from outlast.edges.logs import RateLimit, configure, without_secrets


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    out = io.StringIO()
    configure({}, out)
    yield out
    structlog.contextvars.clear_contextvars()


def events(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_a_json_line_with_what_is_bound(lines: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(job_id="j-1"):
        structlog.get_logger("outlast.work").warning("work.failed_over", provider="openai")

    [event] = events(lines)
    assert event["event"] == "work.failed_over"
    assert (event["job_id"], event["provider"]) == ("j-1", "openai")
    assert (event["level"], event["logger"]) == ("warning", "outlast.work")
    assert "timestamp" in event


@pytest.mark.parametrize(
    "field", ["body", "payload", "api_key", "authorization", "key", "headers", "API_KEY"]
)
def test_payloads_and_keys_are_dropped_at_any_depth(lines: io.StringIO, field: str) -> None:
    log = structlog.get_logger()
    log.error("x.y", **{field: "sk-secret"}, about={field: "sk-secret", "kept": 1})

    [event] = events(lines)
    assert "sk-secret" not in lines.getvalue()
    assert event["about"] == {"kept": 1}


def test_bytes_are_told_by_their_size_only() -> None:
    assert without_secrets(None, "info", {"event": "x", "raw": b"abc"})["raw"] == "<3 bytes>"


def test_an_exception_is_part_of_its_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        structlog.get_logger().exception("x.failed")

    [event] = events(lines)
    assert "ValueError: wrong" in event["exception"]


@pytest.mark.parametrize("wish", ["json", "console"])
def test_a_traceback_never_shows_what_the_variables_hold(lines: io.StringIO, wish: str) -> None:
    configure({"OUTLAST_LOG": wish}, lines)

    def stage(body: str) -> None:
        raise ValueError("a bug")

    try:
        stage("the-prompt-" + "of-a-user")
    except ValueError:
        structlog.get_logger("outlast.feed").exception("feed.stage_raised")

    assert "a bug" in lines.getvalue()
    assert "the-prompt-of-a-user" not in lines.getvalue()


def test_libraries_speak_from_warnings_on_and_in_the_same_form(lines: io.StringIO) -> None:
    library = logging.getLogger("aiokafka.consumer.group_coordinator")
    library.info("chatter")
    library.warning("Heartbeat failed for group %s", "g")

    [event] = events(lines)
    assert event["event"] == "Heartbeat failed for group g"
    assert event["logger"] == "aiokafka.consumer.group_coordinator"


def test_a_library_that_repeats_itself_is_cut_short(lines: io.StringIO) -> None:
    library = logging.getLogger("aiokafka.conn")
    for number in range(20):
        library.error("Unable to connect to %s", number)
    library.error("Something else")

    assert len(events(lines)) == 6


def test_the_first_of_the_next_window_tells_how_many_were_left_out() -> None:
    now = [0.0]
    limit = RateLimit(most=2, window_seconds=10, clock=lambda: now[0])

    def passes() -> str | None:
        record = logging.LogRecord("n", logging.ERROR, "p", 1, "again %s", ("x",), None)
        return record.getMessage() if limit.filter(record) else None

    assert [passes() for _ in range(5)] == ["again x", "again x", None, None, None]
    now[0] = 11.0
    assert passes() == "again x (3 more like this)"
    assert [passes(), passes()] == ["again x", None]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "stream", "is_json"),
    [
        ({}, io.StringIO, True),
        ({}, Terminal, False),
        ({"OUTLAST_LOG": "json"}, Terminal, True),
        ({"OUTLAST_LOG": "console"}, io.StringIO, False),
    ],
)
@pytest.mark.usefixtures("lines")
def test_a_terminal_gets_the_readable_form(
    environ: dict[str, str], stream: type[io.StringIO], is_json: bool
) -> None:
    out = stream()
    configure(environ, out)
    structlog.get_logger().info("x.y")

    assert out.getvalue().startswith("{") is is_json


def test_without_a_configuration_events_go_to_the_standard_library_and_not_to_the_output() -> None:
    """As of any library: a backend that asks for our warnings gets them, its output stays its."""
    code = (
        "import logging, sys\n"
        "logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format='%(name)s: "
        "%(message)s')\n"
        "from outlast.edges.logs import Log\n"
        "log = Log('outlast.edges.kafka.results')\n"
        "log.info('feed.assigned', partitions=3)\n"
        "log.warning('results.fetch_failed', error='KafkaError', body=b'secret')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == ""
    assert done.stderr == "outlast: event='results.fetch_failed' error='KafkaError'\n"


def test_where_structlog_is_configured_events_go_the_way_of_all_others() -> None:
    code = (
        "import structlog\n"
        "structlog.configure(processors=[structlog.processors.KeyValueRenderer()])\n"
        "from outlast.edges.logs import Log\n"
        "Log('x').info('feed.assigned', partitions=3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "partitions=3 event='feed.assigned'\n"


def test_a_library_that_repeats_itself_in_a_backend_is_kept_short() -> None:
    code = (
        "import logging\n"
        "from outlast import AsyncClient\n"
        "AsyncClient('127.0.0.1:1')\n"
        "AsyncClient('127.0.0.1:1')\n"
        "for number in range(100):\n"
        "    logging.getLogger('aiokafka').error('no node %s', number)\n"
        "    logging.getLogger('aiokafka.conn').error('no connection')\n"
        "    logging.getLogger('mine').error('mine')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    said = Counter(line.rstrip("0123456789 ") for line in done.stderr.splitlines())
    assert said == {"no node": 5, "no connection": 5, "mine": 100}
