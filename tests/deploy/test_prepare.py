"""What is missing is said with the command that mends it, and nothing is installed twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import prepare
from deploy.prepare import Missing, NotReady

LOCK = """\
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via outlast
uvloop==0.23.0 ; sys_platform != 'win32' \\
    --hash=sha256:cc
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """An empty environment, and the pip commands that would have been run in it."""
    commands: list[list[str]] = []
    monkeypatch.setattr(prepare, "VENV", tmp_path)
    monkeypatch.setattr(prepare, "ROOT", tmp_path)
    monkeypatch.setattr(prepare, "pip", lambda _python, options, _failure: commands.append(options))
    return commands


def lock(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_292"', 8),
        ("no runtime present", None),
    ],
)
def test_java_says_its_version(said: str, version: int | None) -> None:
    assert prepare.parse_java_version(said) == version


def test_missing_java_and_maven_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr("deploy.kafka.jars.are_fetched", lambda: False)
    assert prepare.missing_for_kafka() == [
        Missing("Java 17 or newer", "default-jre-headless"),
        Missing("Maven", "maven"),
    ]


def test_what_readmes_examples_need_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("shutil.which", lambda name: None if name == "node" else f"/usr/bin/{name}")
    assert prepare.missing_for_tests() == [Missing("Node", "nodejs")]
    monkeypatch.setattr("shutil.which", lambda _name: None)
    packages = [each.package for each in prepare.missing_for_tests()]
    assert packages == ["kcat", "nodejs", "npm", "prometheus", "prometheus-alertmanager"]


def test_the_packages_for_node_are_installed_once_and_again_when_their_lock_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []

    def npm(command: list[str], _failure: str) -> None:
        commands.append(command)
        (tmp_path / ".cache" / "node" / "node_modules").mkdir(exist_ok=True)

    monkeypatch.setattr(prepare, "ROOT", tmp_path)
    monkeypatch.setattr(prepare, "NODE_PACKAGES", tmp_path)
    monkeypatch.setattr(prepare, "checked", npm)
    (tmp_path / "package.json").write_text("{}")
    for lock_text, times in (("one", 1), ("one", 1), ("two", 2)):
        (tmp_path / "package-lock.json").write_text(lock_text)
        assert prepare.prepare_node() == tmp_path / ".cache" / "node" / "node_modules"
        assert len(commands) == times
    assert commands[0][:2] == ["npm", "ci"]


def test_the_lock_for_node_has_hashes_and_no_addresses() -> None:
    lock = json.loads((prepare.NODE_PACKAGES / "package-lock.json").read_text())
    packages = [each for name, each in lock["packages"].items() if name]
    assert packages
    assert [each for each in packages if "resolved" in each or "integrity" not in each] == []


def test_an_old_java_is_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "java_version", lambda: 11)
    monkeypatch.setattr("deploy.kafka.jars.are_fetched", lambda: True)
    [java] = prepare.missing_for_kafka()
    assert java.what == "Java 17 or newer (Java 11 is too old)"


def test_the_exact_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    missing = [Missing("Java 17 or newer", "openjdk-17-jre-headless"), Missing("Maven", "maven")]
    with pytest.raises(NotReady) as raised:
        prepare.provide(missing, install=False)
    assert str(raised.value).startswith("Missing: Java 17 or newer, Maven. Install with")
    assert str(raised.value).endswith(
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends "
        "openjdk-17-jre-headless maven"
    )


def test_nothing_missing_asks_for_nothing() -> None:
    prepare.provide([], install=False)


def test_an_old_python_leaves_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(SystemExit) as left:
        prepare.require_python((3, 9, 2))
    assert left.value.code == 2
    assert "needs Python 3.11 or newer; this is 3.9.2" in capsys.readouterr().err


def test_pins_are_names_and_versions() -> None:
    assert prepare.pins(LOCK) == {
        "aiohttp": "3.14.5",
        "uvloop": "0.23.0 ; sys_platform != 'win32'",
    }


def test_a_lock_is_installed_once(installed: list[list[str]], tmp_path: Path) -> None:
    for _ in range(2):
        prepare.install_lock(Path("python"), lock(tmp_path, LOCK))
    assert len(installed) == 1
    assert "--require-hashes" in installed[0]


def test_a_part_of_what_is_there_is_there(installed: list[list[str]], tmp_path: Path) -> None:
    prepare.install_lock(Path("python"), lock(tmp_path, LOCK))
    prepare.install_lock(Path("python"), lock(tmp_path, LOCK.partition("uvloop")[0]))
    assert len(installed) == 1


def test_a_changed_version_is_installed(installed: list[list[str]], tmp_path: Path) -> None:
    prepare.install_lock(Path("python"), lock(tmp_path, LOCK))
    prepare.install_lock(Path("python"), lock(tmp_path, LOCK.replace("0.23.0", "0.24.0")))
    assert len(installed) == 2


def test_an_install_cut_off_is_done_again(
    installed: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare.install_lock(Path("python"), lock(tmp_path, LOCK))

    def fail(*_: object) -> None:
        raise NotReady("no network")

    changed = lock(tmp_path, LOCK.replace("0.23.0", "0.24.0"))
    with monkeypatch.context() as patch, pytest.raises(NotReady):
        patch.setattr(prepare, "pip", fail)
        prepare.install_lock(Path("python"), changed)
    assert json.loads((tmp_path / "outlast.json").read_text())["pins"] == {}
    prepare.install_lock(Path("python"), lock(tmp_path, LOCK))
    assert len(installed) == 2


def test_a_moved_environment_is_not_used(tmp_path: Path, installed: list[list[str]]) -> None:
    prepare.write_stamp({"root": "/elsewhere", "pins": {}, "project": None})
    assert not prepare.is_usable(Path("python"))
