"""Flat dataclasses to JSON objects and back: every field checked, defaults left out."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from mechprobe.errors import DataError

_Record = TypeVar("_Record")
_WORDS = {str: "text", int: "a whole number", bool: "true or false", NoneType: "null"}


def record_to_json(record: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, in order."""
    return {
        item.name: value
        for item in fields(record)
        if (value := getattr(record, item.name)) != _default(item)
    }


def record_from_json(kind: type[_Record], value: Mapping[str, Any]) -> _Record:
    """Build a dataclass from a JSON object; fields that are not plain must have been built before.

    Raises:
        DataError: a field is unknown, missing, or not of its type.
    """
    known: dict[str, Field[Any]] = {item.name: item for item in fields(cast(Any, kind))}
    what = kind.__name__
    for name, content in value.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}."
            raise DataError(f"{what} has no field {name!r}; {hint}")
        if not _fits(content, known[name].type):
            raise DataError(
                f"{name!r} of {what} is {_short(content)}; it must be {_wanted(known[name].type)}."
            )
    for name, item in known.items():
        if name not in value and _default(item) is MISSING:
            raise DataError(f"{what} lacks the field {name!r}: {_short(value)}.")
    return kind(**value)


def as_object(value: Any, name: str) -> Mapping[str, Any]:
    """Return a JSON object, or raise DataError if it is something else."""
    if not isinstance(value, dict):
        raise DataError(f"{name!r} is {_short(value)}; it must be an object {{...}}.")
    return cast(dict[str, Any], value)


def as_list(value: Any, name: str) -> list[Any]:
    """Return a JSON list, or raise DataError if it is something else."""
    if not isinstance(value, list):
        raise DataError(f"{name!r} is {_short(value)}; it must be a list [...].")
    return cast(list[Any], value)


def as_text(value: Any, name: str) -> str:
    """Return a JSON string, or raise DataError if it is something else."""
    if not isinstance(value, str):
        raise DataError(f"{name!r} is {_short(value)}; it must be text.")
    return value


def as_turn(value: Any) -> int:
    """Return a turn number, which as a JSON key comes as text, or raise DataError."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise DataError(f"a turn is given as {_short(value)}; it must be a whole number.") from None


def as_score(value: Any) -> float:
    """Return a score, or raise DataError if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"a score is {_short(value)}; it must be a number.")
    return float(value)


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if isinstance(kind, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) if kind in _WORDS else True


def _wanted(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {list(get_args(kind))}"
    parts = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return " or ".join(_WORDS.get(part, str(part)) for part in parts)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
