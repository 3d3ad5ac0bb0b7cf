"""Starts and stops a real Apache Kafka (KRaft) from its Maven jars, for trying and for testing.

    python deploy/kafka/broker.py start --dir DIR [--port 19092] [--nodes 1|3]
    python deploy/kafka/broker.py stop --dir DIR
    python deploy/kafka/broker.py run --dir DIR        # until Ctrl-C or SIGTERM

The data stays in DIR. It listens on the loopback interface only, without authentication; tests
may have secured listeners beside it (``Secured``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deploy.kafka.jars import JVM, LOGGING, Jars, new_cluster_id, publish, scratch_beside
from deploy.kafka.node import (
    DEFAULT_PORT,
    HOST,
    BrokerError,
    Secured,
    cluster_seen_by,
    command_line,
    free_port,
    is_taken,
    properties,
)

__all__ = ["Broker", "BrokerError", "Secured", "free_port"]

START_SECONDS = 90.0
STOP_SECONDS = 30.0


class Broker:
    """One broker, or three, with their data in one directory; use as a context manager or not."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int = DEFAULT_PORT,
        nodes: int = 1,
        secured: Secured | None = None,
    ) -> None:
        if secured is not None and nodes != 1:
            raise BrokerError("secured listeners are for one broker: nodes=1")
        self.directory = directory.resolve()
        self.secured = secured
        self.ports = [port + index for index in range(nodes)]
        self.controllers = [port + nodes + index for index in range(nodes)]
        self.nodes = range(1, nodes + 1)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._log_starts: dict[int, int] = {}

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    @property
    def pids(self) -> dict[int, int]:
        """The process of each node that is running."""
        found = {node: self._pid(node) for node in self.nodes}
        return {node: pid for node, pid in found.items() if pid is not None}

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the nodes that are not running and returns when all of them answer."""
        jars = Jars()
        jars.prepare()
        self.directory.mkdir(parents=True, exist_ok=True)
        running = self.pids
        if any(self._settings(node).read_text() != self._wanted(node) for node in running):
            raise BrokerError(
                f"a broker with another port or number of nodes runs in {self.directory}: "
                "stop it first (broker.py stop --dir ...)"
            )
        missing = [node for node in self.nodes if node not in running]
        self._require_ports(missing)
        try:
            for node in missing:
                self._spawn(jars, node)
            self._wait_until_answering()
        except BaseException:
            for node in missing:
                self.kill(node)
            raise

    def stop(self) -> None:
        """Ends what runs in the directory, whoever started it: SIGTERM, then SIGKILL."""
        pids = self.pids
        for pid in pids.values():
            _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.pids and time.monotonic() < deadline:
            time.sleep(0.02)  # the nodes may be another process's children: only polling tells
        if self.pids:
            for node in self.pids:
                self.kill(node)
        elif pids:
            self._keep_archive()
        for node in pids:
            self._children.pop(node, None)
            self._pid_file(node).unlink(missing_ok=True)

    def kill(self, node: int = 1) -> None:
        """SIGKILL, as a power cut would; `start()` brings the node back with its data."""
        while (pid := self._pid(node)) is not None:
            _signal(pid, signal.SIGKILL)
            time.sleep(0.02)  # as in stop(); a killed process is gone in milliseconds
        self._children.pop(node, None)
        self._pid_file(node).unlink(missing_ok=True)

    def log(self, node: int = 1) -> Path:
        return self.directory / f"node-{node}.log"

    def _pid_file(self, node: int) -> Path:
        return self.directory / f"node-{node}.pid"

    def _settings(self, node: int) -> Path:
        return self.directory / f"node-{node}.properties"

    def _data(self, node: int) -> Path:
        return self.directory / f"node-{node}"

    def _wanted(self, node: int) -> str:
        return properties(node, self.ports, self.controllers, self._data(node), self.secured)

    def _pid(self, node: int) -> int | None:
        """The node's process if it is alive and really ours: pids are used again."""
        child = self._children.get(node)
        if child is not None:  # asking it also clears away what is left of it when it has ended
            return child.pid if child.poll() is None else None
        try:
            pid = int(self._pid_file(node).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if str(self._settings(node)) in command_line(pid) else None

    def _require_ports(self, nodes: Sequence[int]) -> None:
        for node in nodes:
            secured = self.secured.ports.values() if self.secured else ()
            for port in (self.ports[node - 1], self.controllers[node - 1], *secured):
                if is_taken(port):
                    raise BrokerError(
                        f"port {port} is taken: choose another with --port, "
                        "or stop what listens there"
                    )

    def _spawn(self, jars: Jars, node: int) -> None:
        self._lay_out(jars, node)
        options = [*JVM, *LOGGING, *self._class_sharing(jars, node)]
        command = jars.command(*options, "kafka.Kafka", str(self._settings(node)))
        with self.log(node).open("ab") as log:
            self._log_starts[node] = log.tell()
            # its own session: a Ctrl-C in the terminal is for whoever started the broker
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._children[node] = child
        self._pid_file(node).write_text(str(child.pid))

    def _lay_out(self, jars: Jars, node: int) -> None:
        self._settings(node).write_text(self._wanted(node))
        data = self._data(node)
        if (data / "meta.properties").is_file():
            return
        cluster = self.directory / "cluster.id"
        if not cluster.is_file():
            cluster.write_text(new_cluster_id())
        data.mkdir(exist_ok=True)
        if self.secured is None:
            shutil.copy(jars.checkpoint, data / jars.checkpoint.name)
        else:
            jars.format_with(self.secured.scram, data / jars.checkpoint.name)
        identity = f"version=1\ncluster.id={cluster.read_text()}\nnode.id={node}\n"
        (data / "meta.properties").write_text(identity)

    def _class_sharing(self, jars: Jars, node: int) -> list[str]:
        if jars.archive.is_file():
            return [f"-XX:SharedArchiveFile={jars.archive}", "-Xshare:auto"]
        if node != 1:
            return []
        self._fresh_archive.unlink(missing_ok=True)
        return [f"-XX:ArchiveClassesAtExit={self._fresh_archive}"]

    @property
    def _fresh_archive(self) -> Path:
        return self.directory / "classes.jsa"

    def _keep_archive(self) -> None:
        """The first clean stop leaves the archive that speeds up every later start."""
        if not self._fresh_archive.is_file():
            return
        archive = Jars().archive
        with scratch_beside(archive.parent) as scratch:
            publish(Path(shutil.move(self._fresh_archive, scratch / archive.name)), archive)

    def _wait_until_answering(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        # The id tells ours from another broker that took the port in the same moment.
        ours = ((self.directory / "cluster.id").read_text(), len(self.nodes))
        while any(cluster_seen_by(port) != ours for port in self.ports):
            for node in self.nodes:
                if self._pid(node) is None:
                    raise BrokerError(f"Kafka did not start: {self._reason(node)}")
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Kafka did not answer within {START_SECONDS:.0f} s: see {self.log()}"
                )
            time.sleep(0.03)  # a broker announces nothing: it is asked until it answers

    def _reason(self, node: int) -> str:
        with self.log(node).open("rb") as log:
            log.seek(self._log_starts.get(node, 0))
            lines = log.read().decode(errors="replace").splitlines()
        wrong = [line for line in lines if "ERROR" in line or "rror:" in line]
        return f"{wrong[-1] if wrong else 'it ended at once'} (all of it: {self.log(node)})"


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A real Kafka from its Maven jars, on loopback.")
    parser.add_argument("command", choices=["start", "stop", "run"])
    parser.add_argument("--dir", type=Path, required=True, help="where data, logs and pids lie")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="of the first broker")
    parser.add_argument("--nodes", type=int, choices=[1, 3], default=1)
    return parser.parse_args(argv)


def _report(broker: Broker) -> None:
    told = {"bootstrap_servers": broker.bootstrap_servers, "pids": list(broker.pids.values())}
    print(json.dumps(told), flush=True)


def _run(broker: Broker) -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with broker:
        _report(broker)
        ended.wait()


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    nodes = 3 if arguments.command == "stop" else arguments.nodes
    broker = Broker(arguments.dir, port=arguments.port, nodes=nodes)
    try:
        if arguments.command == "stop":
            broker.stop()
        elif arguments.command == "run":
            _run(broker)
        else:
            broker.start()
            _report(broker)
    except BrokerError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
