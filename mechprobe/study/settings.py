"""TOML and `--set key.path=value` to frozen dataclasses: unknown keys and wrong types are refused by name."""

import difflib
import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mechprobe.errors import ConfigError, DataError

Config = TypeVar("Config")


def read_settings(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file and lay `key.path=value` overrides over it.

    Raises:
        DataError: the file is missing or is not TOML.
        ConfigError: an override is not of the form key.path=value.
    """
    if not path.is_file():
        raise DataError(f"study file {path} does not exist.")
    try:
        settings = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from error
    for override in overrides:
        _override(settings, override)
    return settings


def write_settings(settings: Mapping[str, Any]) -> str:
    """Settings as TOML text that `read_settings` reads back: plain values first, then each table."""
    return "\n".join(_toml_lines(settings, "")) + "\n"


def _toml_lines(table: Mapping[str, Any], name: str) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = ["", f"[{name}]"] if name and plain else []
    # JSON's strings, numbers, booleans and lists are TOML's as well.
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _toml_lines(value, f"{name}.{key}" if name else key)
    return lines


def build_config(kind: type[Config], settings: Mapping[str, Any], where: str = "") -> Config:
    """Make a config dataclass from nested settings.

    Raises:
        ConfigError: a key is unknown (near names are listed), missing, or of the wrong type.
    """
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind) if item.init}  # pyright: ignore[reportArgumentType]
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3) or sorted(known)
            raise ConfigError(f"unknown setting {where + key!r}; did you mean {', '.join(near)}?")
    for name, item in known.items():
        required = item.default is MISSING and item.default_factory is MISSING
        if required and name not in settings:
            raise ConfigError(f"setting {where + name!r} is missing; add it to the study file.")
    values = {key: convert(hints[key], value, where + key) for key, value in settings.items()}
    return kind(**values)


def convert(hint: Any, value: Any, where: str) -> Any:
    """Turn a TOML value into the type that a field is annotated with."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise _wrong(where, value, f"a table with the settings of {hint.__name__}")
        return build_config(hint, value, where + ".")
    if origin is Literal:
        if value not in arguments:
            raise _wrong(where, value, f"one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        items = [value] if isinstance(value, str | int | float) else list(value)
        return tuple(convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(items))
    return _convert_scalar(hint, value, where)


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    for option in options:
        if option is type(None):
            continue
        try:
            return convert(option, value, where)
        except ConfigError:
            continue
    names = " or ".join(getattr(option, "__name__", str(option)) for option in options)
    raise _wrong(where, value, names)


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise _wrong(where, value, f"a value of type {hint.__name__}")


def _wrong(where: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError(f"setting {where!r} is {value!r}; it must be {wanted}.")


def _override(settings: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"--set takes key.path=value, for instance --set seed=1; got {override!r}."
        )
    table = settings
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {key!r} is a value, not a table.")
    table[keys[-1]] = _parse(text.strip())


def _parse(text: str) -> Any:
    """A TOML literal where it is one (numbers, booleans, lists, quoted strings), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
