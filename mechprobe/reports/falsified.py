"""What is left of a scorer when the words of an indicator are injected, masked or reworded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mechprobe.reports.estimates import Estimate, to_float, to_text
from mechprobe.reports.names import IndicatorName
from mechprobe.reports.rows import distinct, records, rows_where
from mechprobe.reports.wording import DASH

READING_SIGNS: Mapping[str, str] = {
    "survives": "✓",
    "fails": "✕",
    "unclear": "≈",
    "no signal": "○",
    "too few": DASH,
    "not judged": "·",
}
"""A sign for each reading of `falsifiers.parquet`, the good one first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FalsifierCell:
    """One falsifier's reading of one indicator."""

    reading: str
    figure: Estimate
    control: float
    n_pos: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FalsifierTable:
    """One scorer under all falsifiers: a row an indicator, a column a falsifier and variant."""

    scorer: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, tuple[FalsifierCell | None, ...]], ...]
    counts: tuple[Mapping[str, int], ...]
    """For each column how many indicators got each reading."""


def falsifier_tables(
    table: pd.DataFrame | None, names: Sequence[IndicatorName]
) -> list[FalsifierTable]:
    """A table for each scorer that was tested; empty where none was."""
    if table is None or table.empty:
        return []
    return [
        _of_scorer(rows_where(table, scorer=scorer), scorer, names)
        for scorer in distinct(table, "scorer")
    ]


def _of_scorer(table: pd.DataFrame, scorer: str, names: Sequence[IndicatorName]) -> FalsifierTable:
    cells: dict[tuple[str, tuple[str, str]], FalsifierCell] = {}
    for row in records(table):
        column = to_text(row["falsifier"]), to_text(row["variant"])
        cells.setdefault((to_text(row["indicator"]), column), _cell(row))
    columns = tuple(dict.fromkeys(column for _, column in cells))
    known = {name.slug: name.name for name in names}
    slugs = [slug for slug in known if slug in distinct(table, "indicator")]
    slugs += [slug for slug in distinct(table, "indicator") if slug not in known]
    return FalsifierTable(
        scorer=scorer,
        columns=columns,
        rows=tuple(
            (known.get(slug, slug), tuple(cells.get((slug, column)) for column in columns))
            for slug in slugs
        ),
        counts=tuple(
            Counter(cell.reading for (_, at), cell in cells.items() if at == column)
            for column in columns
        ),
    )


def _cell(row: Mapping[str, object]) -> FalsifierCell:
    return FalsifierCell(
        reading=to_text(row["reading"]),
        figure=Estimate(
            value=to_float(row["figure"]), low=to_float(row["low"]), high=to_float(row["high"])
        ),
        control=to_float(row["control"]),
        n_pos=to_float(row["n_pos"]),
    )
