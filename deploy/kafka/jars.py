"""Apache Kafka's jars, fetched once with Maven, and what makes a start fast."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.kafka.node import DEFAULT_PORT, BrokerError, properties

POM = Path(__file__).resolve().parent / "pom.xml"
CACHE = POM.parents[2] / ".cache" / "kafka"
JVM = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
LOGGING = [
    f"-Dorg.slf4j.simpleLogger.{option}"
    for option in (
        "defaultLogLevel=warn",
        "log.org.apache.kafka.coordinator.group=info",
        "showDateTime=true",
        "dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
        "showThreadName=false",
    )
]


def home(cache: Path = CACHE) -> Path:
    return cache / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]


def are_fetched() -> bool:
    return (home() / "lib").is_dir()


class Jars:
    """Kafka's jars and what makes a start fast, kept in the cache directory."""

    def __init__(self, cache: Path = CACHE) -> None:
        self.home = home(cache)
        self.java = _program("java", "Java 17 or newer", "openjdk-17-jre-headless")

    @property
    def lib(self) -> Path:
        return self.home / "lib"

    @property
    def archive(self) -> Path:
        """Classes as the JVM had them loaded (AppCDS): halves the start, and may be missing."""
        java = Path(self.java).resolve()
        release = java.parents[1] / "release"  # names the version, which an update changes
        made_by = str(java).encode() + (release.read_bytes() if release.is_file() else b"")
        return self.home / f"classes-{hashlib.sha256(made_by).hexdigest()[:12]}.jsa"

    @property
    def checkpoint(self) -> Path:
        return self.home / "bootstrap.checkpoint"

    def command(self, *arguments: str) -> list[str]:
        """A list of jars, not a wildcard: AppCDS compares the class path word by word."""
        jars = ":".join(str(jar) for jar in sorted(self.lib.glob("*.jar")))
        return [self.java, *arguments[:-2], "-cp", jars, *arguments[-2:]]

    def prepare(self) -> None:
        if not self.lib.is_dir():
            self._fetch()
        if not self.checkpoint.is_file():
            self._format()

    def _fetch(self) -> None:
        maven = _program("mvn", "Maven", "maven")
        print(
            "fetching Apache Kafka with Maven (once, about 45 MB) ...", file=sys.stderr, flush=True
        )
        with scratch_beside(self.home) as scratch:
            # strict checksums: a damaged jar is an error, not a warning
            goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"]
            options = ["-B", "-q", "--strict-checksums", f"-DoutputDirectory={scratch / 'lib'}"]
            _check([maven, *options, "-f", str(POM), *goal], "Maven could not fetch Apache Kafka")
            publish(scratch / "lib", self.lib)

    def _format(self) -> None:
        """Formatting takes a JVM's start; what it leaves is the same for every broker."""
        with scratch_beside(self.home) as scratch:
            publish(self._formatted(scratch, []), self.checkpoint)

    def format_with(self, scram: Sequence[str], place: Path) -> None:
        """The same with users in it, each as ``--add-scram`` takes it."""
        with scratch_beside(place.parent) as scratch:
            shutil.move(self._formatted(scratch, scram), place)

    def _formatted(self, scratch: Path, scram: Sequence[str]) -> Path:
        settings, options = scratch / "server.properties", scratch / "options"
        settings.write_text(properties(1, [DEFAULT_PORT], [DEFAULT_PORT + 1], scratch / "data"))
        lines = [
            f"--cluster-id={new_cluster_id()}",
            f"--config={settings}",
        ]  # an id may begin with -
        lines += [f"--add-scram={user}" for user in scram]
        options.write_text("\n".join(lines))  # in a file: a command line is everybody's to read
        tool = self.command(*JVM, *LOGGING, "kafka.tools.StorageTool", "format")
        _check([*tool, f"@{options}"], "Kafka could not format its storage")
        return scratch / "data" / self.checkpoint.name


def new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _program(name: str, what: str, package: str) -> str:
    home = os.environ.get("JAVA_HOME", "")
    beside = shutil.which(name, path=str(Path(home) / "bin")) if home and name == "java" else None
    found = beside or shutil.which(name)
    if found is None:
        raise BrokerError(f"{what} is missing: apt-get install {package} (or your system's way)")
    return found


def _check(command: Sequence[str], failure: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BrokerError(f"{failure}:\n{done.stdout.strip()[-2000:]}")


@contextlib.contextmanager
def scratch_beside(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".new-") as name:
        yield Path(name)


def publish(made: Path, place: Path) -> None:
    """Puts something into the cache whole or not at all; two at once are no harm."""
    try:
        made.rename(place)
    except OSError:
        if not place.exists():
            raise
