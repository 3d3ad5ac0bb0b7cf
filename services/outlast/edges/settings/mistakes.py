"""Every mistake in the configuration, in words for the one who wrote it."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from outlast.core.errors import SettingsError
from outlast.edges.settings import shape as s
from outlast.edges.settings.references import faults_in_references
from outlast.edges.settings.security import SECRETS

__all__ = ["checked"]

Raw = Mapping[str, Any]
Place = tuple[str | int, ...]

TABLES: Final[Mapping[tuple[str, ...], type[BaseModel]]] = {
    (): s.Shape,
    ("kafka",): s.KafkaShape,
    ("defaults",): s.DefaultsShape,
    ("monitoring",): s.MonitoringShape,
    ("providers", "*"): s.ProviderShape,
    ("providers", "*", "limits"): s.LimitsShape,
    ("providers", "*", "clocks"): s.ClocksShape,
    ("providers", "*", "prices", "*"): s.PriceShape,
    ("routes", "*"): s.RouteShape,
}
KEYS: Final = ("api_key", "key", "token", "secret", "password")
JAVA: Final[Mapping[str, str]] = {
    "password": "sasl_password",
    "sasl_plain_password": "sasl_password",
    "sasl_jaas_config": "sasl_password",
    "client_secret": "sasl_oauth_client_secret",
    "ssl_password": "ssl_key_password",
    "ssl_keystore_password": "ssl_key_password",
}
"""Secrets by the names that other clients have for them, and ours."""
SHOWN: Final = ("int", "float", "greater", "less", "literal", "finite", "bool")
"""Kinds of errors whose input may be repeated: numbers and choices, never free text."""
WORDS: Final[Mapping[str, str]] = {
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "list_type": "must be a list",
    "missing": "is required",
    "string_pattern_mismatch": "may hold a-z, 0-9 and - and begins with a letter or digit",
    "too_short": "must not be empty",
}


def checked(raw: Raw, environ: Mapping[str, str], more: Sequence[str] = ()) -> s.Shape:
    """The shape, when nothing is wrong.

    Raises ``SettingsError`` with all that is, and with the mistakes that are known already.
    """
    mistakes = [*faults_in_references(raw), *more, *_unknown_variables(environ)]
    try:
        shape = s.Shape.model_validate(raw)
    except ValidationError as error:
        found = [_mistake(each, environ) for each in error.errors(include_url=False)]
        raise SettingsError([*found, *mistakes]) from None
    if mistakes:
        raise SettingsError(mistakes)
    return shape


def _mistake(error: ErrorDetails, environ: Mapping[str, str]) -> str:
    place = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        return f"{_dotted(place)}{_source(place, environ)} {_unknown(place)}"
    return f"{_dotted(place)}{_source(place, environ)} {_wrong(error)}"


def _wrong(error: ErrorDetails) -> str:
    kind = error["type"]
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, ")
    words = WORDS.get(kind) or error["msg"].replace("Input should be", "must be", 1)
    shown = f", not {error['input']!r:.40}" if kind.startswith(SHOWN) else ""
    return words.split(", unable to parse")[0] + shown


def _unknown(place: Place) -> str:
    name = str(place[-1])
    if place[0] == "kafka" and (secret := JAVA.get(name, name)) in SECRETS:
        where = f"{secret}_env or {secret}_file"
        return f"is refused: a secret never stands in the file; name where it is with {where}"
    if name in KEYS:
        return "is refused: a key never stands in the file; name where it is with api_key_env"
    known = _known(place[:-1])
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"is an unknown key; {hint}"


def _known(table: Place) -> Sequence[str]:
    for pattern, model in TABLES.items():
        if len(pattern) == len(table) and all(
            part in ("*", at) for part, at in zip(pattern, table, strict=True)
        ):
            return tuple(model.model_fields)
    return ()


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _source(place: Place, environ: Mapping[str, str]) -> str:
    """Which variable the value came from, if it did."""
    name = s.ENVIRONMENT_PREFIX + s.NESTED.join(map(str, place)).upper()
    found = next((key for key in environ if key.upper() == name), None)
    return f" (from {found})" if found else ""


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Variables that were meant for us and say nothing; a single _ in the place of __ included."""
    tables = tuple(s.Shape.model_fields)
    for name in environ:
        rest = name.upper().removeprefix(s.ENVIRONMENT_PREFIX)
        if rest == name.upper():
            continue
        first, nested, _ = rest.lower().partition(s.NESTED)
        if nested and first not in tables:
            near = get_close_matches(first, tables, n=1, cutoff=0.5)
            hint = f"did you mean {near[0].upper()}?" if near else f"known: {', '.join(tables)}"
            yield f"{name} names an unknown table; {hint}"
        elif not nested and (meant := _meant(rest.lower())) is not None:
            yield f"{name} says nothing; did you mean {meant}?"


def _meant(rest: str) -> str | None:
    for table in ("kafka", "defaults", "monitoring"):
        key = rest.removeprefix(f"{table}_")
        if key != rest and key in TABLES[(table,)].model_fields:
            return f"{s.ENVIRONMENT_PREFIX}{table}{s.NESTED}{key}".upper()
    return None
