"""The bodies that ``outlast submit`` publishes: a message, a file, or standard input.

A file is looked at as a whole before the first of it is published; standard input is not held
back: what is wrong in it stops it there.
"""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import orjson
import typer

from outlast.core.capability import EMBEDDINGS, Operation

__all__ = ["Bodies", "from_file", "from_message", "from_stdin"]

Reader = Callable[[int], bytes]
"""From a number of bytes to at most so many, as soon as there are any; none at the end."""

CHUNK_BYTES: Final = 1024 * 1024
CHUNKS_AHEAD: Final = 4


class Bodies:
    """JSON bodies one by one; ``fault`` says, once it has ended, what it stopped at."""

    def __init__(
        self,
        lines: AsyncIterator[bytes] | Iterable[bytes],
        limit: int,
        total: int | None = None,
    ) -> None:
        """``limit`` is what a body may have in bytes; ``total`` how many there are, if known."""
        self._lines = lines
        self._limit = limit
        self.total = total
        self.fault: str | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Each body; ends at the first line that is none."""
        number = 0
        async for line in _each(self._lines):
            number += 1
            if body := line.strip():
                self.fault = _fault(number, body, self._limit)
                if self.fault is not None:
                    return
                yield body


def from_message(text: str, model: str | None, operation: Operation | None) -> bytes:
    """A request that asks what the message says. Raises usage errors."""
    if not text.strip():
        raise typer.BadParameter("the message is empty")
    if not text.isprintable() and any("\ud800" <= each <= "\udfff" for each in text):
        raise typer.BadParameter("the message is not UTF-8")
    body: dict[str, object] = {} if model is None else {"model": model}
    if operation == EMBEDDINGS:
        return orjson.dumps({**body, "input": text})
    return orjson.dumps({**body, "messages": [{"role": "user", "content": text}]})


def from_file(path: str, limit: int) -> Bodies:
    """All of a file, which is checked here. Raises usage errors: nothing is published then."""
    try:
        with Path(path).open("rb") as file:
            whole = _whole(file, limit)
            if whole is not None:
                return Bodies(list(_checked([whole], limit)), limit, total=1)
            file.seek(0)
            total = sum(1 for _ in _checked(file, limit))
    except OSError as error:
        raise typer.BadParameter(
            f"{path} cannot be read: {error.strerror}", param_hint="--file"
        ) from None
    if not total:
        raise typer.BadParameter("there is no body in it", param_hint="--file")
    return Bodies(_lines_of(path), limit, total)


def from_stdin(limit: int, *, or_message: bool) -> Bodies | str:
    """What comes by standard input; with ``or_message``, text that is no JSON is a message.

    What lies there already is checked at once. Raises usage errors.
    """
    read = _reader()
    first = read(CHUNK_BYTES)
    while not first.strip() and (more := read(CHUNK_BYTES)):
        first += more
    if or_message and first.lstrip()[:1] != b"{":
        return _decoded(first + _rest(read))
    if not first.strip():
        raise typer.BadParameter("there is no body in it")
    if not _is_object(_first_line(first)):
        whole = first + _rest(read, limit)
        if _is_object(whole):
            return Bodies(list(_checked([whole], limit)), limit, total=1)
        first = whole
    for _ in _checked(first.split(b"\n")[:-1] or [first], limit):
        pass
    return Bodies(_streamed(read, first), limit)


def _reader() -> Reader:
    """Reads what is there, without Python's buffer.

    Whose lock a thread that waits for more would hold until the end of the process.
    """
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError):  # no real file, as in a test
        return sys.stdin.buffer.read
    return lambda size: os.read(number, size)


def _rest(read: Reader, limit: int | None = None) -> bytes:
    pieces, size = [], 0
    while (piece := read(CHUNK_BYTES)) and (limit is None or size <= limit):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _checked(lines: Iterable[bytes], limit: int) -> Iterator[bytes]:
    for number, line in enumerate(lines, start=1):
        if body := line.strip():
            fault = _fault(number, body, limit)
            if fault is not None:
                raise typer.BadParameter(f"{fault}; nothing was published")
            yield body


def _fault(number: int, body: bytes, limit: int) -> str | None:
    if len(body) > limit:
        size = f"{len(body):,} bytes; the limit is {limit:,} (kafka.max_body_bytes)"
        return f"line {number} has {size}"
    return None if _is_object(body) else f"line {number} is not a JSON object"


def _whole(file: BinaryIO, limit: int) -> bytes | None:
    """The file's content when it is one object over several lines."""
    if _is_object(_first_line(file.read(CHUNK_BYTES))):
        return None
    file.seek(0)
    raw = file.read(limit + CHUNK_BYTES).strip()
    return raw if _is_object(raw) else None


def _first_line(raw: bytes) -> bytes:
    return raw.lstrip().partition(b"\n")[0]


def _lines_of(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as file:
        yield from file


async def _streamed(read: Reader, first: bytes) -> AsyncIterator[bytes]:
    """Lines as they come. The reading thread is a daemon's: Ctrl-C need not wait for a line."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue(CHUNKS_AHEAD)

    def pump() -> None:
        more = b" "
        while more:
            more = read(CHUNK_BYTES)
            asyncio.run_coroutine_threadsafe(chunks.put(more), loop).result()

    threading.Thread(target=pump, daemon=True).start()
    rest, chunk = b"", first
    while chunk:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        chunk = await chunks.get()
    yield rest


async def _each(lines: AsyncIterator[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(lines, AsyncIterator):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("standard input is not UTF-8") from None


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(orjson.loads(raw), dict)
    except orjson.JSONDecodeError:
        return False
