"""The cognitive processes that labels and probes name, read from a TOML file that a user can replace.

The 18 indicators, 4 preconditions and 5 behaviours are those of arXiv 2606.24251, in this project's words.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from mechprobe.errors import DataError, LabelError

SHIPPED = Path(__file__).with_name("taxonomy.toml")
_Entry = TypeVar("_Entry", "Behavior", "Precondition", "Indicator")


@dataclass(frozen=True, kw_only=True, slots=True)
class Behavior:
    """A kind of misaligned behaviour; indicators are the thinking behind it."""

    name: str
    slug: str = ""
    definition: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Precondition:
    """A thought that often comes before misalignment and is none itself; never flagged."""

    name: str
    slug: str = ""
    definition: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Indicator:
    """One cognitive process of misaligned thinking, with what a labeller needs to know."""

    name: str
    slug: str = ""
    group: str
    behaviors: tuple[str, ...]
    """Slugs of the behaviours that it belongs to."""
    definition: str
    not_flagged: str
    """What looks like it and must not be flagged."""
    span_guidance: str
    """Which words to mark."""
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """Indicators, preconditions and behaviours, in the order of their file."""

    indicators: tuple[Indicator, ...]
    preconditions: tuple[Precondition, ...] = ()
    behaviors: tuple[Behavior, ...] = ()

    def __post_init__(self) -> None:
        for kind in (self.indicators, self.preconditions, self.behaviors):
            slugs = [entry.slug for entry in kind]
            if twice := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
                raise LabelError(f"the taxonomy has {twice[0]!r} twice; slugs must be unique.")
        if both := {entry.slug for entry in self.preconditions} & set(self.slugs):
            raise LabelError(f"{sorted(both)[0]!r} is both an indicator and a precondition.")
        known = [behavior.slug for behavior in self.behaviors]
        for indicator in self.indicators:
            for slug in indicator.behaviors:
                if slug not in known:
                    raise LabelError(
                        f"indicator {indicator.slug!r} names the behavior {slug!r}, which the "
                        f"taxonomy does not list; {_near(slug, known)}"
                    )

    @property
    def slugs(self) -> tuple[str, ...]:
        """Slugs of the indicators, in order."""
        return tuple(indicator.slug for indicator in self.indicators)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of the indicators, in the order of their first member."""
        return tuple(dict.fromkeys(indicator.group for indicator in self.indicators))

    def find(self, name: str) -> Indicator:
        """The indicator of a slug or a full name.

        Raises:
            LabelError: there is none; the message lists near names.
        """
        found = self._by_slug.get(name) or self._by_slug.get(slug_of(name))
        if slug_of(name) in {precondition.slug for precondition in self.preconditions}:
            raise LabelError(
                f"{name!r} is a precondition, which is no misalignment; leave out its labels."
            )
        if found is None:
            raise LabelError(f"unknown indicator {name!r}; {_near(slug_of(name), self.slugs)}")
        return found

    @cached_property
    def _by_slug(self) -> dict[str, Indicator]:
        return {indicator.slug: indicator for indicator in self.indicators}


def slug_of(name: str) -> str:
    """The name in lower case with one underscore for each run of other characters than letters and digits."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """Read a taxonomy file; without a path the one of the paper.

    Raises:
        DataError: the file is missing, is not TOML, or an entry lacks or misnames a key.
        LabelError: a slug stands twice, or an indicator names a behavior that the file does not list.
    """
    path = SHIPPED if path is None else path
    tables = _read_toml(path)
    try:
        return Taxonomy(
            indicators=_entries(Indicator, tables, "indicators"),
            preconditions=_entries(Precondition, tables, "preconditions"),
            behaviors=_entries(Behavior, tables, "behaviors"),
        )
    except (DataError, LabelError) as error:
        raise type(error)(f"{path}: {error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path} does not exist; name a TOML file with [[indicators]] tables.")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not TOML: {error}.") from error
    kinds = ("indicators", "preconditions", "behaviors")
    if unknown := [key for key in tables if key not in kinds]:
        raise DataError(f"{path} has a table {unknown[0]!r}; {_near(unknown[0], kinds)}")
    if not tables.get("indicators"):
        raise DataError(f"{path} has no [[indicators]]; a taxonomy needs at least one.")
    return tables


def _entries(kind: type[_Entry], tables: Mapping[str, Any], name: str) -> tuple[_Entry, ...]:
    entries = tables.get(name, [])
    if not isinstance(entries, list):
        raise DataError(f"{name!r} must be a list of tables, written [[{name}]].")
    return tuple(
        _entry(kind, entry, f"entry {number} of [[{name}]]")
        for number, entry in enumerate(cast(list[Any], entries), start=1)
    )


def _entry(kind: type[_Entry], entry: Any, where: str) -> _Entry:
    if not isinstance(entry, dict):
        raise DataError(f"{where} is {entry!r}; it must be a table.")
    table = cast(dict[str, Any], entry)
    known = {item.name: item for item in fields(kind)}
    if unknown := [key for key in table if key not in known]:
        raise DataError(f"{where} has a key {unknown[0]!r}; {_near(unknown[0], list(known))}")
    for name, item in known.items():
        if name not in table and item.default is MISSING:
            raise DataError(f"{where} ({table.get('name', 'no name')}) lacks the key {name!r}.")
    values: dict[str, Any] = {
        name: _value(known[name].type, value, where, name) for name, value in table.items()
    }
    return cast(Any, kind)(**{"slug": slug_of(values["name"]), **values})


def _value(kind: Any, value: Any, where: str, name: str) -> str | tuple[str, ...]:
    if kind is str:
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{where}: {name!r} is {value!r}; it must be text that is not empty.")
        return value
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: {name!r} is {value!r}; it must be a list that is not empty.")
    return tuple(cast(str, _value(str, item, where, name)) for item in cast(list[Any], value))


def _near(name: str, known: tuple[str, ...] | list[str]) -> str:
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"near names: {', '.join(near)}." if near else f"known: {', '.join(known)}."
