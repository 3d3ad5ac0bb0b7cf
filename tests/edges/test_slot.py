"""The slot: of the equal processes on one host, no two have the same instance id."""

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.core.errors import SettingsError
from outlast.edges import slot as module
from outlast.edges.slot import Slot

HOLDER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from outlast.edges.slot import Slot
slot = Slot.take("work", sys.argv[2] or None)
print(slot.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The locks of a test are its own, and the host has a name without surprises."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(socket, "gethostname", lambda: "host")
    return tmp_path


@contextlib.contextmanager
def taken(purpose: str = "work", configured: str | None = None) -> Iterator[Slot]:
    """Hold a slot for a while, as a process does for its life."""
    slot = Slot.take(purpose, configured)
    try:
        yield slot
    finally:
        if slot._held is not None:
            slot._held.close()


def test_each_of_several_holders_has_a_number_of_its_own() -> None:
    with taken() as first, taken() as second, taken() as third:
        names = [first.name, second.name, third.name]

    assert names == ["host-0", "host-1", "host-2"]


def test_the_first_free_number_is_taken_again() -> None:
    with taken() as first:
        with taken() as second:
            pass
        with taken() as third:
            assert (first.name, second.name, third.name) == ("host-0", "host-1", "host-1")


def test_purposes_number_their_processes_apart() -> None:
    with taken("a.outlast.work") as one, taken("b.outlast.work") as other:
        assert (one.name, other.name) == ("host-0", "host-0")


def test_the_configured_id_is_used_as_it_is() -> None:
    with taken(configured="pod-7/blue") as slot:
        assert slot.name == "pod-7/blue"


def test_the_configured_id_in_use_is_refused_by_name() -> None:
    with taken(configured="pod-7"):
        with pytest.raises(SettingsError, match="OUTLAST_INSTANCE_ID 'pod-7' is in use"):
            Slot.take("work", "pod-7")

        with taken(configured="pod-8") as other, taken("route", "pod-7") as another_stage:
            assert (other.name, another_stage.name) == ("pod-8", "pod-7")


def test_a_host_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)

    with taken(), taken(), pytest.raises(SettingsError, match="2 processes of this kind"):
        Slot.take("work", None)


def test_a_purpose_of_any_length_leaves_numbers_and_purposes_apart() -> None:
    long = "cluster.outlast.work+" + "+".join(f"provider-{number}" for number in range(40))

    with taken(long) as first, taken(long) as second, taken(f"{long}+one-more") as other:
        assert (first.name, second.name, other.name) == ("host-0", "host-1", "host-0")


def test_a_slot_is_free_when_its_holder_dies(folder: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), "pod-7"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "pod-7\n"
        with pytest.raises(SettingsError):
            Slot.take("work", "pod-7")
        holder.kill()
        holder.wait()

    with taken(configured="pod-7") as slot:
        assert slot.name == "pod-7"
