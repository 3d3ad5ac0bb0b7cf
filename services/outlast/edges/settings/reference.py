"""Every setting there is, with its meaning and its default: what README's table is held against."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from outlast.edges.settings.scalars import Table
from outlast.edges.settings.shape import Shape

__all__ = ["Key", "every_key", "literal", "rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One setting. A provider, route or model that the user names is ``<name>`` or ``<model>``.

    ``default`` is ``None`` for what has none; ``example`` stands in the place of a default.
    """

    name: str
    meaning: str
    is_required: bool
    default: object = None
    example: object = None


def every_key() -> tuple[Key, ...]:
    """All settings, in the order of the file."""
    return tuple(_keys("", Shape))


def rows() -> list[tuple[str, str, str]]:
    """Key, meaning and default of every setting, as Markdown cells."""
    return [(f"`{key.name}`", _cell(key.meaning), _default(key)) for key in every_key()]


def literal(value: object) -> str:
    """The value as TOML has it, with the thousands of a number set apart."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{int(value):_}" if value == int(value) else str(value)
        case list():
            return f"[{', '.join(map(literal, value))}]"
        case Mapping():
            inside = ", ".join(f"{literal(key)} = {literal(each)}" for key, each in value.items())
            return f"{{ {inside} }}"
        case _:
            return json.dumps(value)


def _keys(path: str, model: type[BaseModel]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        below = _table(field)
        if below is None:
            yield _key(f"{path}{name}", field)
        else:
            place = {"providers": ".<name>", "routes": ".<name>", "prices": ".<model>"}.get(name)
            yield from _keys(f"{path}{name}{place or ''}.", below)


def _table(field: FieldInfo) -> type[BaseModel] | None:
    """The table that a key leads to, if it is no single value."""
    kind = field.annotation
    inner = get_args(kind)[1] if get_origin(kind) is dict else kind
    return inner if isinstance(inner, type) and issubclass(inner, Table) else None


def _key(name: str, field: FieldInfo) -> Key:
    required = field.is_required()
    return Key(
        name=name,
        meaning=field.description or "",
        is_required=required,
        default=None if required or field.default == {} else field.default,
        example=next(iter(field.examples or ()), None),
    )


def _default(key: Key) -> str:
    if key.is_required:
        return "required"
    if key.default is None:
        return "none"
    return f"`{key.default if isinstance(key.default, str) else literal(key.default)}`"


def _cell(text: str) -> str:
    return text.removesuffix(".").replace("|", "\\|").replace("<", "&lt;")
