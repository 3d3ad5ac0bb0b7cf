"""The bodies that ``outlast submit`` publishes: from a message, a file, or standard input."""

import sys
from collections.abc import Iterable
from pathlib import Path

import orjson
import typer

__all__ = ["bodies_of"]


def bodies_of(text: str | None, file: str | None, model: str | None) -> list[bytes]:
    """The bodies, all looked at before the first is published. Raises usage errors."""
    if (text is None) == (file is None):
        raise typer.BadParameter("give a message, or --file PATH, or - for standard input")
    if file is not None:
        return _json(_stdin() if file == "-" else _file(file), model)
    if text != "-":
        return [_chat(text or "", model)]
    raw = _stdin()
    return _json(raw, model) if raw.lstrip()[:1] == b"{" else [_chat(_decoded(raw), model)]


def _stdin() -> bytes:
    return sys.stdin.buffer.read()


def _file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise typer.BadParameter(
            f"{path} cannot be read: {error.strerror}", param_hint="--file"
        ) from None


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("standard input is not UTF-8") from None


def _chat(text: str, model: str | None) -> bytes:
    if not text.strip():
        raise typer.BadParameter("the message is empty")
    if not text.isprintable() and any("\ud800" <= each <= "\udfff" for each in text):
        raise typer.BadParameter("the message is not UTF-8")
    body: dict[str, object] = {} if model is None else {"model": model}
    return orjson.dumps({**body, "messages": [{"role": "user", "content": text}]})


def _json(raw: bytes, model: str | None) -> list[bytes]:
    """Lines with a JSON object each, or one object over several lines."""
    if model is not None:
        raise typer.BadParameter(
            "it is for a message; a JSON body says its own model (or use --route)",
            param_hint="--model",
        )
    if _is_object(raw):
        return [raw.strip()]
    bodies = list(_lines(raw.split(b"\n")))
    if not bodies:
        raise typer.BadParameter("there is no body in it")
    return bodies


def _lines(lines: Iterable[bytes]) -> Iterable[bytes]:
    for number, each in enumerate(lines, start=1):
        if not each.strip():
            continue
        if not _is_object(each):
            raise typer.BadParameter(f"line {number} is not a JSON object; nothing was published")
        yield each.strip()


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(orjson.loads(raw), dict)
    except orjson.JSONDecodeError:
        return False
