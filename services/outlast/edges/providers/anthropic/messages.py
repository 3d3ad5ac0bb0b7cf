"""From OpenAI's messages to Anthropic's: system text apart, strict turns, blocks of content."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import orjson

__all__ = ["system_of", "turns_of"]

SYSTEM_ROLES: Final = ("system", "developer")
DATA_URL: Final = re.compile(r"data:(?P<type>[\w.+/-]+);base64,(?P<data>.+)", re.DOTALL)

Block = dict[str, object]


def system_of(messages: Sequence[object]) -> str | None:
    """All system and developer texts, joined by an empty line: Anthropic has one place for them."""
    texts = [
        block["text"]
        for message in messages
        if isinstance(message, Mapping) and message.get("role") in SYSTEM_ROLES
        for block in _blocks(message.get("content"))
        if isinstance(block.get("text"), str)
    ]
    return "\n\n".join(map(str, texts)) or None


def turns_of(messages: Sequence[object]) -> list[Block]:
    """The conversation as user and assistant turns.

    Neighbours of one role become one turn: the results of several tools must all stand in the
    turn that follows their calls. A message with nothing in it is left out, as Anthropic refuses
    empty text.
    """
    turns: list[Block] = []
    for role, blocks in _said(messages):
        last = turns[-1] if turns else None
        content = last["content"] if last is not None and last["role"] == role else None
        if isinstance(content, list):
            content.extend(blocks)
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _said(messages: Sequence[object]) -> Iterator[tuple[str, list[Block]]]:
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") in SYSTEM_ROLES:
            continue
        role = "assistant" if message.get("role") == "assistant" else "user"
        if blocks := _blocks_of(message):
            yield role, blocks


def _blocks_of(message: Mapping[str, object]) -> list[Block]:
    if message.get("role") == "tool":
        return [_tool_result(message)]
    return [
        *_blocks(message.get("content")),
        *_blocks(message.get("refusal")),
        *_tool_uses(message.get("tool_calls")),
    ]


def _blocks(content: object) -> list[Block]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        return []
    blocks = [_block(part) for part in parts if isinstance(part, Mapping)]
    return [block for block in blocks if block.get("text") != ""]


def _block(part: Mapping[str, object]) -> Block:
    match part:
        case {"type": "text" | "refusal"}:
            return {"type": "text", "text": part.get("text", part.get("refusal"))}
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return {"type": "image", "source": _image(url)}
        case _:
            return dict(part)  # it may know more than we do; if not, it says so


def _image(url: str) -> Block:
    if inline := DATA_URL.fullmatch(url):
        return {"type": "base64", "media_type": inline["type"], "data": inline["data"]}
    return {"type": "url", "url": url}


def _tool_result(message: Mapping[str, object]) -> Block:
    content = message.get("content")
    return {
        "type": "tool_result",
        "tool_use_id": message.get("tool_call_id"),
        "content": content if isinstance(content, str) else _blocks(content),
    }


def _tool_uses(calls: object) -> list[Block]:
    return [
        {
            "type": "tool_use",
            "id": call.get("id"),
            "name": function.get("name"),
            "input": _arguments(function.get("arguments")),
        }
        for call in (calls if isinstance(calls, list) else ())
        if isinstance(call, Mapping) and isinstance(function := call.get("function"), Mapping)
    ]


def _arguments(text: object) -> object:
    """A JSON string at OpenAI, an object at Anthropic; what a model spoilt is kept as text."""
    if not isinstance(text, str) or not text.strip():
        return {}
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"arguments": text}
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}
