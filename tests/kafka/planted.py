"""Bugs that are put into a copy of the sources, and the tests that have to fail for each."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conftest import KAFKA
from tests.kafka.member import BOUND_SECONDS

__all__ = [
    "BEFORE_ACK",
    "BUGS",
    "LENT_AT_ONCE",
    "Bug",
    "Patch",
    "copied",
    "planted",
    "ran",
]

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 150.0
"""Seconds a session of a few tests may take."""


@dataclass(frozen=True)
class Patch:
    """One place of the sources as it is, and as it would be with the bug."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """A mistake that somebody could make, where it is caught, and by what that test then says."""

    name: str
    patches: tuple[Patch, ...]
    caught_by: str
    says: str


RUNS: Final = "services/outlast/edges/kafka/runs.py"
MOVES: Final = "services/outlast/edges/kafka/moves.py"
COMMIT: Final = "services/outlast/edges/kafka/commit.py"
LENT: Final = "services/outlast/edges/kafka/lent.py"
SEEN: Final = "services/outlast/core/seen.py"
OUTBOX: Final = "services/outlast/edges/kafka/outbox.py"

BEFORE_ACK: Final = Bug(
    "commit before ack",
    (
        Patch(
            RUNS,
            "            await self._move(decoded, start)\n",
            "            records.done(tp, offset, life)\n"
            "            await self._move(decoded, start)\n",
        ),
    ),
    "tests/kafka/test_feed_restart.py"
    "::test_a_drain_takes_nothing_new_and_cuts_what_does_not_end_in_time",
    "low: 2 != 0",
)
LENT_AT_ONCE: Final = Bug(
    "a lent offset dispatched at once",
    (
        Patch(
            LENT,
            "orphaned = mark.settle(self.membership.is_live)",
            "orphaned = mark.settle(lambda _: False)",
        ),
    ),
    "tests/kafka/test_lending.py"
    "::test_what_runs_while_a_member_joins_is_lent_and_ends_where_it_began",
    "assert 0 == 3",
)
BUGS: Final = (
    BEFORE_ACK,
    Bug(
        "commit of a batch before its acks",
        (
            Patch(
                MOVES,
                "            await self._send_all(\n",
                "            for n in range(len(batch)):\n"
                "                self._done(batch[n], ended)\n"
                "            await self._send_all(\n",
            ),
        ),
        "tests/kafka/test_moves.py::test_no_move_is_done_before_its_next_record_is_acknowledged",
        "low: 3 != 0",
    ),
    Bug(
        "a batch that counts as acknowledged once it is handed to the producer",
        (
            Patch(
                OUTBOX,
                "            await acks.all()\n",
                "            for n in range(taken):\n"
                "                acked(n)\n"
                "            return ()\n",
            ),
        ),
        "tests/kafka/test_moves.py::test_no_move_is_done_before_its_next_record_is_acknowledged",
        "low: 3 != 0",
    ),
    Bug(
        "commit of the position instead of the watermark",
        (
            Patch(
                COMMIT,
                "        progress = mark.progress()\n",
                "        progress = Progress(mark.high, mark.high)\n",
            ),
        ),
        "tests/kafka/test_feed_restart.py"
        "::test_a_copy_dropped_before_its_first_was_done_does_not_replace_it[{}]",
        "assert [] == ['j']",
    ),
    Bug(
        "commit at generation -1",
        (
            Patch(
                COMMIT,
                "if consumer is None or private.generation(consumer) < 0:",
                "if consumer is None:",
            ),
        ),
        "tests/kafka/test_feed_restart.py::test_who_is_no_member_any_more_commits_nothing",
        "assert not True",
    ),
    Bug(
        "metadata ignored at restart",
        (
            Patch(
                "services/outlast/edges/kafka/loading.py",
                "return decode(offset, metadata)",
                "return decode(offset, None)",
            ),
        ),
        "tests/kafka/test_feed_restart.py::test_a_restart_runs_exactly_what_was_not_done",
        "diff: '4' != '5'",
    ),
    LENT_AT_ONCE,
    Bug(
        "a lent offset never released",
        (
            Patch(
                LENT,
                "        if self._records.returned(tp, offset, by, turn, end):\n",
                "        if False:\n",
            ),
        ),
        "tests/kafka/test_lending.py"
        "::test_what_runs_while_a_member_joins_is_lent_and_ends_where_it_began",
        "Progress(low=0, high=4, incomplete=(0, 1, 2)",
    ),
    Bug(
        "a record's own redelivery taken for a copy",
        (
            Patch(
                SEEN,
                "        if first is None or first[0] == place:\n",
                "        if first is None:\n",
            ),
            Patch(
                SEEN,
                "        if first is not None and first[0] == place:\n",
                "        if False:\n",
            ),
        ),
        "tests/kafka/test_feed.py"
        "::test_a_job_let_go_of_is_read_again_here_and_is_no_copy_of_itself",
        "assert ['j0'] == ['j0', 'j0']",
    ),
    Bug(
        "completion marked before the producer's ack",
        (
            Patch(
                OUTBOX,
                "            ack = await self._entrance.enter(producer, record)\n",
                "            await self._entrance.enter(producer, record)\n"
                "            return True\n",
            ),
        ),
        "tests/kafka/test_two_steps.py::test_no_job_is_done_before_what_it_wrote_is_acknowledged",
        "low: 2 != 0",
    ),
    Bug(
        "a stage re-run after a failed send",
        (
            Patch(
                OUTBOX,
                "                await self._insisted(ticket, record)\n",
                "                raise KafkaError(record.topic)\n",
            ),
        ),
        "tests/kafka/test_two_steps.py"
        "::test_a_call_is_not_made_again_however_often_the_write_of_its_end_is_refused",
        "assert ['a', 'a'",
    ),
)


def copied(directory: Path) -> Path:
    """The sources as they are."""
    for name in ("services", "schemas"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, directory / name, ignore=ignored)
    return directory


def planted(bug: Bug, directory: Path) -> Path:
    """The sources with the bug. Fails where they are not what the patch was made for."""
    copied(directory)
    for patch in bug.patches:
        path = directory / patch.file
        source = path.read_text()
        found = source.count(patch.old)
        assert found == 1, f"the patch is stale: {patch.old!r} is {found} times in {patch.file}"
        path.write_text(source.replace(patch.old, patch.new))
    return directory


def ran(sources: Path, tests: Sequence[str], kafka: str, *, bound: float) -> tuple[int, str]:
    """Run these tests with these sources on a broker that is there; exit code and output.

    Their states may take ``bound`` seconds to come.
    """
    where = shlex.join(map(str, (sources / "services", sources / "schemas", ROOT)))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
            *("-o", f"pythonpath={where}", f"--basetemp={sources / 'tmp'}", *tests),
        ],
        cwd=ROOT,
        env={**os.environ, KAFKA: kafka, BOUND_SECONDS: str(bound)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
