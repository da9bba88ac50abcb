"""Trained on one domain, tested on others: a matrix for each scorer, and what its cells come to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mechprobe.reports.estimates import NAN, Estimate, estimate_of, to_float, to_text
from mechprobe.reports.overview import units_of
from mechprobe.reports.rows import column_text, distinct, records, rows_at, rows_where
from mechprobe.reports.tables import DetectorTables

ALL_OTHERS = "all_others"
CELL_WORDS = {
    "within": "its own (other scenarios)",
    "across": "one other",
    "left_out": "all others together",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DomainMap:
    """AUROC of one scorer: rows what it was trained on, columns what it was tested on."""

    key: str
    scorer: str
    unit: str
    auroc: pd.DataFrame
    note: pd.DataFrame
    """What a cell says when pointed at."""
    n_indicators: int
    """Indicators that a cell is the mean of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferRow:
    """Mean AUROC of a scorer over the cells of a kind, and its difference to words."""

    scorer: str
    means: tuple[Estimate | None, ...]
    """Within, across, left out."""
    gains: tuple[Estimate | None, ...]
    """The same minus the baseline's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """The rows of one key."""

    key: str
    unit: str
    baseline: str
    chances: tuple[float, ...]
    rows: tuple[TransferRow, ...]


def domain_maps(table: pd.DataFrame | None) -> list[DomainMap]:
    """A map for each key and scorer, at the unit that comes first; indicators are averaged where there are several."""
    if table is None or table.empty:
        return []
    return [
        _map(rows_where(of_unit, scorer=scorer), key, scorer, unit)
        for key in distinct(table, "key")
        for unit in units_of(rows_where(table, key=key))[:1]
        for of_unit in [rows_where(table, key=key, unit=unit)]
        for scorer in distinct(of_unit, "scorer")
    ]


def _map(rows: pd.DataFrame, key: str, scorer: str, unit: str) -> DomainMap:
    tested = distinct(rows, "tested_on")
    trained = [name for name in distinct(rows, "trained_on") if name != ALL_OTHERS]
    trained += [ALL_OTHERS] if ALL_OTHERS in column_text(rows, "trained_on") else []
    auroc = pd.DataFrame(NAN, index=trained, columns=tested)
    note = pd.DataFrame("", index=trained, columns=tested, dtype=object)
    for row in trained:
        for column in tested:
            cells = records(rows_where(rows, trained_on=row, tested_on=column))
            auroc.loc[row, column], note.loc[row, column] = _cell(cells)
    return DomainMap(
        key=key,
        scorer=scorer,
        unit=unit,
        auroc=auroc,
        note=note,
        n_indicators=len(distinct(rows, "indicator")),
    )


def _cell(cells: Sequence[dict[str, object]]) -> tuple[float, str]:
    known = [cell for cell in cells if not cell["too_few"]]
    if not known:
        n_pos = sum(int(to_float(cell["n_pos"])) for cell in cells)
        return NAN, f"too few: {n_pos} positive" if cells else "not tested"
    mean = float(np.mean([to_float(cell["auroc"]) for cell in known]))
    if len(cells) > 1:
        return mean, f"mean of {len(known)} of {len(cells)} indicators; the others have too few"
    (only,) = known
    low, high = to_float(only["low"]), to_float(only["high"])
    counts = f"{to_float(only['n_pos']):.0f} positive, {to_float(only['n_neg']):.0f} negative"
    return mean, f"95 %: {low:.2f} to {high:.2f}; {counts}; chance {to_float(only['chance']):.2f}"


def transfers(tables: DetectorTables) -> list[Transfer]:
    """The means of every key, at the unit that comes first, beside the strongest baseline that was compared with."""
    table = tables.transfer
    if table is None or table.empty:
        return []
    found: list[Transfer] = []
    for key in distinct(table, "key"):
        mine = rows_where(table, key=key)
        unit = units_of(mine)[0]
        found.append(_transfer(rows_where(mine, unit=unit), key, unit))
    return found


def _transfer(table: pd.DataFrame, key: str, unit: str) -> Transfer:
    baseline = next((name for name in reversed(distinct(table, "baseline")) if name), "")
    indicator = _asked(table)
    mine = rows_where(table, indicator=indicator)
    return Transfer(
        key=key,
        unit=unit,
        baseline=baseline,
        chances=tuple(_chance(rows_where(mine, cells=cells)) for cells in CELL_WORDS),
        rows=tuple(
            TransferRow(
                scorer=scorer,
                means=tuple(_estimate(mine, scorer, cells, "auroc", "") for cells in CELL_WORDS),
                gains=tuple(
                    _estimate(mine, scorer, cells, "difference", baseline) for cells in CELL_WORDS
                ),
            )
            for scorer in distinct(mine, "scorer")
        ),
    )


def _asked(table: pd.DataFrame) -> str:
    """The question over all indicators where it was asked, else the first indicator."""
    found = distinct(table, "indicator")
    return next((name for name in ("misaligned", "all") if name in found), found[0])


def _estimate(
    table: pd.DataFrame, scorer: str, cells: str, name: str, baseline: str
) -> Estimate | None:
    rows = rows_where(table, scorer=scorer, cells=cells)
    if baseline:
        rows = rows_at(rows, np.array(column_text(rows, "baseline")) == baseline)
    found = records(rows)
    if not found or np.isnan(to_float(found[0][name])):
        return None
    if name == "auroc":
        row = {
            "auroc": found[0]["auroc"],
            "auroc_low": found[0]["low"],
            "auroc_high": found[0]["high"],
        }
        return estimate_of(row, "auroc")
    return Estimate(
        value=to_float(found[0]["difference"]),
        low=to_float(found[0]["difference_low"]),
        high=to_float(found[0]["difference_high"]),
    )


def _chance(rows: pd.DataFrame) -> float:
    found = records(rows)
    return to_float(found[0]["chance"]) if found else NAN


def domain_words(name: str) -> str:
    """A domain's name for a person."""
    return "All others" if name == ALL_OTHERS else to_text(name).replace("_", " ").replace("-", " ")
