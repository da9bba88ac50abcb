"""CSV, XLSX and Parquet tables: one answer a row, with its label.

A label column holds words for misaligned or not, or names of indicators ("; " between several, "none" for none).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from mechprobe.errors import DataError, MechprobeError
from mechprobe.transcripts.labels import LabelReader, is_truth, parse_truth
from mechprobe.transcripts.lines import check_file
from mechprobe.transcripts.readers.content import join_texts, split_thinking
from mechprobe.transcripts.transcript import Message, Role, Transcript, number_turns

if TYPE_CHECKING:
    from pandas import DataFrame

SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet")
_BETWEEN_NAMES = re.compile(r"\s*[;|,]\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class TableColumns:
    """Which column holds what; a column that is None is read if the table has one of its field's name."""

    text: str = "text"
    """The assistant's answer; may have inline <think> tags."""
    label: str = "label"
    """Misaligned or not, or the indicators present."""
    reasoning: str | None = None
    """The assistant's reasoning."""
    prompt: str | None = None
    """The user's message before it."""
    system: str | None = None
    """The system message."""
    id: str | None = None
    """The transcript's name; "row-N" without it."""
    group: str | None = None
    """The scenario."""
    behavior: str | None = None
    """The kind of behaviour."""
    split: str | None = None
    """fit, select or test."""


def read_table(
    path: Path, labels: LabelReader, columns: TableColumns | None = None
) -> Iterator[Transcript]:
    """One transcript for each row; other columns go to `meta`. Row 1 is the first below the header.

    Raises:
        DataError: the file cannot be read, has no rows, lacks a named column, or repeats an id.
        LabelError: a label is no truth word and names no indicator. Messages name the row.
    """
    table = _load(path)
    used = _used_columns(path, list(table.columns), columns or TableColumns())
    if table.empty:
        raise DataError(f"{path} has a header and no rows.")
    holds_truth = all(map(is_truth, table[used["label"]]))
    seen: set[str] = set()
    for number, row in enumerate(table.to_dict("records"), start=1):
        cells = {str(name): str(cell) for name, cell in row.items()}
        if not any(cell.strip() for cell in cells.values()):
            labels.left_out["empty row"] += 1
            continue
        try:
            transcript = _transcript(cells, used, labels, holds_truth, f"row-{number}")
        except MechprobeError as error:
            raise type(error)(f"{path}, row {number}: {error}") from error
        if transcript.id in seen:
            raise DataError(f"{path}, row {number} repeats the id {transcript.id!r}.")
        seen.add(transcript.id)
        yield transcript


def _load(path: Path) -> "DataFrame":
    import pandas as pd

    if not check_file(path).stat().st_size:
        raise DataError(f"{path} is empty; it should hold a table with a header.")
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            table = pd.read_parquet(path)
        elif suffix == ".xlsx":
            table = pd.read_excel(path, dtype=str, keep_default_na=False)
        else:
            separator = "\t" if suffix == ".tsv" else ","
            table = pd.read_csv(path, dtype=str, keep_default_na=False, sep=separator)
    except Exception as error:  # each vendor's reader has its own classes for a damaged file
        raise DataError(f"{path} cannot be read as {suffix[1:]}: {error}.") from error
    table = table.astype(object)
    return table.where(table.notna(), "").astype(str)


def _used_columns(path: Path, found: list[str], columns: TableColumns) -> dict[str, str]:
    used: dict[str, str] = {}
    for item in fields(columns):
        name = getattr(columns, item.name)
        if name is None and item.name in found:
            name = item.name
        if name is None:
            continue
        if name not in found:
            near = get_close_matches(name, found, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise DataError(
                f"{path} has no column {name!r} for the {item.name}; {hint}its columns: "
                f"{', '.join(map(str, found))}. Name the right one with columns.{item.name}."
            )
        used[item.name] = name
    return used


def _transcript(
    cells: dict[str, str],
    used: dict[str, str],
    labels: LabelReader,
    holds_truth: bool,
    default_id: str,
) -> Transcript:
    cell = {kind: cells[name] for kind, name in used.items()}
    content = split_thinking(cell["text"])
    reasoning = join_texts(*dict.fromkeys([cell.get("reasoning", ""), content.reasoning]))
    if not (content.text.strip() or reasoning.strip()):
        raise DataError(f"the column {used['text']!r} is empty; remove the row or fill it in.")
    before: tuple[tuple[Role, str], ...] = (
        ("system", cell.get("system", "")),
        ("user", cell.get("prompt", "")),
    )
    messages = number_turns(
        [
            *(Message(role=role, content=text) for role, text in before if text.strip()),
            Message(role="assistant", content=content.text, reasoning=reasoning),
        ]
    )
    label = cell["label"]
    return Transcript(
        id=cell.get("id") or default_id,
        messages=messages,
        turn_indicators={} if holds_truth else {messages[-1].turn: _indicators(label, labels)},
        is_misaligned=parse_truth(label) if holds_truth else None,
        group=cell.get("group", ""),
        behavior=cell.get("behavior", ""),
        split=cell.get("split", ""),
        meta={name: text for name, text in cells.items() if name not in used.values() and text},
    )


def _indicators(label: str, labels: LabelReader) -> frozenset[str]:
    names = [name for name in _BETWEEN_NAMES.split(label.strip()) if not is_truth(name)]
    return frozenset(labels.slug(name) for name in names)
