"""`outlast` with one fault planted in it, such as death between a record's ack and its mark.

    python -m tests.kafka.chaos.failing --at acked --after 5 -- run work --provider deepseek

What a fault patches must exist: else it says so at once, and a test that relies on it fails.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetCommitRequest

from outlast.edges.kafka import private
from outlast.edges.kafka.moves import Moves
from outlast.edges.kafka.outbox import Outbox
from outlast.edges.kafka.records import Records
from outlast.edges.kafka.runs import Runs
from outlast.edges.providers.probe import ProbedCall

POINTS: Final = (
    "read",  # admitted, nothing done
    "before_call",
    "during_call",  # the request is at the provider
    "after_call",  # answered, nothing decided
    "before_send",
    "sent",  # handed to the Kafka client, on no wire yet
    "acked",  # acknowledged, and we have not heard of it
    "after_ack",  # we have heard of it
    "before_mark",
    "after_mark",
    "before_commit",
    "during_commit",  # the request is sent, the answer not there
    "after_commit",
)
OUR_TALK: Final = (".vitals", ".health", ".lent", ".control")
"""Topics that hold no jobs: a write to them is no step of one."""
WITHIN_A_CALL_SECONDS: Final = 0.05

Async = Callable[..., Awaitable[Any]]


class Ledger:
    """The jobs a kill may repeat: called, and no acknowledged commit knows them done."""

    def __init__(self) -> None:
        self.at_risk: set[str] = set()
        self._marked: set[str] = set()
        self._calling: dict[asyncio.Task[Any] | None, str] = {}

    def called(self, text: str) -> None:
        self.at_risk.add(text)
        self._calling[asyncio.current_task()] = text

    def marks(self) -> None:
        """Its task marks it; those of others were handed on without a call."""
        if (text := self._calling.pop(asyncio.current_task(), None)) is not None:
            self._marked.add(text)

    @property
    def marked(self) -> frozenset[str]:
        return frozenset(self._marked)

    def committed(self, known: frozenset[str]) -> None:
        self.at_risk -= known
        self._marked -= known


class Fuse:
    """Kills this process as a power cut would, when one point is passed for the nth time."""

    def __init__(self, point: str | None, after: int, ledger: Ledger) -> None:
        self._point, self._left, self._ledger = point, after, ledger

    def passed(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                die(point, self._ledger)


def die(why: str, ledger: Ledger) -> None:
    """Say what is at risk, by a way that needs nobody to flush it, and die."""
    last = {"event": "failing.killed", "point": why, "at_risk": sorted(ledger.at_risk)}
    os.write(2, f"{json.dumps(last)}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def last_text(body: Mapping[str, Any]) -> str:
    """By which the simulated providers tell jobs apart, and the tests too."""
    return str(body["messages"][-1]["content"])


def patch(owner: Any, name: str, around: Callable[[Any], Any]) -> None:
    """Replace what the fault is planted in; raises when it is not there any more."""
    original = getattr(owner, name, None)
    if not callable(original):
        raise RuntimeError(f"stale fault: {owner.__name__} has no {name}")
    setattr(owner, name, around(original))


def plant_points(fuse: Fuse, ledger: Ledger) -> None:
    patch(Runs, "carry", lambda original: reading(original, fuse))
    patch(Moves, "takes", lambda original: taking(original, fuse))
    patch(ProbedCall, "__call__", lambda original: calling(original, fuse, ledger))
    patch(Outbox, "write", lambda original: writing(original, fuse))
    patch(Outbox, "send_all", lambda original: writing_all(original, fuse))
    patch(AIOKafkaProducer, "send", lambda original: sending(original, fuse))
    patch(private, "append", lambda original: appending(original, fuse))
    patch(Records, "done", lambda original: marking(original, fuse, ledger))
    patch(private, "commit", lambda original: committing(original, fuse, ledger))


def reading(original: Async, fuse: Fuse) -> Async:
    async def read(*given: Any, **named: Any) -> Any:
        fuse.passed("read")
        return await original(*given, **named)

    return read


def taking(original: Callable[..., bool], fuse: Fuse) -> Callable[..., bool]:
    def taken(*given: Any, **named: Any) -> bool:
        takes = original(*given, **named)
        if takes:  # else it is about to be read by its own task
            fuse.passed("read")
        return takes

    return taken


def calling(original: Async, fuse: Fuse, ledger: Ledger) -> Async:
    async def called(self: Any, body: Mapping[str, Any], *rest: Any, **named: Any) -> Any:
        fuse.passed("before_call")
        ledger.called(last_text(body))
        loop = asyncio.get_running_loop()
        loop.call_later(WITHIN_A_CALL_SECONDS, fuse.passed, "during_call")
        verdict = await original(self, body, *rest, **named)
        fuse.passed("after_call")
        return verdict

    return called


def writing(original: Async, fuse: Fuse) -> Async:
    async def written(self: Outbox, record: Any, *rest: Any) -> Any:
        if record.topic.endswith(OUR_TALK):
            return await original(self, record, *rest)
        fuse.passed("before_send")
        outcome = await original(self, record, *rest)
        fuse.passed("after_ack")
        return outcome

    return written


def writing_all(original: Async, fuse: Fuse) -> Async:
    async def written(self: Outbox, hops: Any, acked: Callable[[int], None]) -> Any:
        def heard(n: int) -> None:
            fuse.passed("after_ack")
            acked(n)

        for _ in hops:
            fuse.passed("before_send")
        return await original(self, hops, heard)

    return written


def appending(original: Async, fuse: Fuse) -> Async:
    async def appended(*given: Any) -> Any:
        ack = await original(*given)
        fuse.passed("sent")
        return asyncio.ensure_future(acknowledged(ack, fuse))

    return appended


async def acknowledged(ack: Awaitable[Any], fuse: Fuse) -> Any:
    meta = await ack
    fuse.passed("acked")
    return meta


def sending(original: Async, fuse: Fuse) -> Async:
    async def sent(self: AIOKafkaProducer, topic: str, *given: Any, **named: Any) -> Any:
        ack = await original(self, topic, *given, **named)
        if topic.endswith(OUR_TALK):
            return ack
        fuse.passed("sent")
        return asyncio.ensure_future(acknowledged(ack, fuse))

    return sent


def marking(original: Callable[..., Any], fuse: Fuse, ledger: Ledger) -> Callable[..., Any]:
    def marked(*given: Any, **named: Any) -> Any:
        fuse.passed("before_mark")
        outcome = original(*given, **named)
        ledger.marks()
        fuse.passed("after_mark")
        return outcome

    return marked


def committing(original: Async, fuse: Fuse, ledger: Ledger) -> Async:
    async def committed(*given: Any, **named: Any) -> Any:
        fuse.passed("before_commit")
        knows = ledger.marked
        # Runs once the original has written its request and waits for the answer.
        asyncio.get_running_loop().call_soon(fuse.passed, "during_commit")
        outcome = await original(*given, **named)
        ledger.committed(knows)
        fuse.passed("after_commit")
        return outcome

    return committed


def plant_poison(text: str, ledger: Ledger) -> None:
    """The call of a job with this text in its last message kills the process."""

    def around(original: Async) -> Async:
        async def called(self: Any, body: Mapping[str, Any], *rest: Any, **named: Any) -> Any:
            if text in last_text(body):
                die("poison", ledger)
            return await original(self, body, *rest, **named)

        return called

    patch(ProbedCall, "__call__", around)


def plant_hanging_commit(when: str, at: int, seconds: float) -> None:
    """The nth commit request hangs on its way to the coordinator, or its answer on the way back."""
    begun = 0

    def around(original: Async) -> Async:
        async def requested(self: GroupCoordinator, request: Any) -> Any:
            nonlocal begun
            begun += isinstance(request, OffsetCommitRequest)
            hangs = begun == at and isinstance(request, OffsetCommitRequest)
            if hangs:
                os.write(2, b'{"event": "failing.hangs"}\n')
            if hangs and when == "before":
                await asyncio.sleep(seconds)
            answer = await original(self, request)
            if hangs and when == "after":
                await asyncio.sleep(seconds)
            return answer

        return requested

    patch(GroupCoordinator, "_send_req", around)


def plant_bug(where: str) -> None:
    """A function of the product's raises for every job: `outlast.work.before_call`, say."""
    module, _, name = where.rpartition(".")
    __import__(module)

    def around(_: Callable[..., Any]) -> Callable[..., Any]:
        def broken(*_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("planted")

        return broken

    patch(sys.modules[module], name, around)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="failing", description=__doc__)
    parser.add_argument("--at", choices=POINTS)
    parser.add_argument("--after", type=int, default=1)
    parser.add_argument("--poison", metavar="TEXT")
    parser.add_argument("--hang-commit", choices=("before", "after"))
    parser.add_argument("--hang-at", type=int, default=1)
    parser.add_argument("--hang-seconds", type=float, default=8.0)
    parser.add_argument("--bug", metavar="FUNCTION")
    parser.add_argument("command", nargs="+", help="after --, what `outlast` is given")
    return parser.parse_args(given)


def main() -> None:
    chosen = arguments(sys.argv[1:])
    ledger = Ledger()
    plant_points(Fuse(chosen.at, chosen.after, ledger), ledger)
    if chosen.poison:
        plant_poison(chosen.poison, ledger)
    if chosen.hang_commit:
        plant_hanging_commit(chosen.hang_commit, chosen.hang_at, chosen.hang_seconds)
    if chosen.bug:
        plant_bug(chosen.bug)
    sys.argv = ["outlast", *chosen.command]
    from outlast.cli import main as outlast

    outlast()


if __name__ == "__main__":
    main()
