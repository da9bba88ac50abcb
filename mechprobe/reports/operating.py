"""What a scorer does at a fixed false-positive rate, how far its probabilities can be trusted, and how fine to split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mechprobe.reports.estimates import Estimate, estimate_of, to_float, to_text
from mechprobe.reports.overview import units_of
from mechprobe.reports.rows import column_floats, distinct, records, rows_where
from mechprobe.reports.scorers import MISALIGNED

FULL = "full"
SHOWN_TARGETS = 2
"""False-positive rates that get columns: the strictest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingCell:
    """A scorer at one target."""

    tpr: Estimate
    fpr: float
    """Share of held-out neutral units that fire."""
    fpr_upper: float
    refused: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingTable:
    """All scorers of `misaligned` at some targets, for one unit."""

    unit: str
    rule: str
    targets: tuple[float, ...]
    n_neutral: float
    rows: tuple[tuple[str, tuple[OperatingCell | None, ...]], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationRow:
    """How far a scorer's probabilities are from what happens."""

    scorer: str
    method: str
    ece: Estimate
    brier: float
    brier_of_rate: float
    refused: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GrainRow:
    """Probes of one grain, fused to one score of `misaligned`."""

    scorer: str
    fusion: str
    grain: str
    n_probes: float
    auroc: Estimate
    minus_fine: Estimate
    tpr: float


def operating_tables(thresholds: pd.DataFrame | None) -> list[OperatingTable]:
    """A table for each unit, the scorers in the order of the run."""
    mine = _full(thresholds)
    if mine is None:
        return []
    targets = sorted({float(value) for value in column_floats(mine, "fpr_target")})
    return [
        _operating(rows_where(mine, unit=unit), unit, targets[:SHOWN_TARGETS])
        for unit in units_of(mine)
    ]


def _operating(table: pd.DataFrame, unit: str, targets: Sequence[float]) -> OperatingTable:
    found: dict[str, dict[float, OperatingCell]] = {}
    for row in records(table):
        cells = found.setdefault(to_text(row["scorer"]), {})
        cells.setdefault(to_float(row["fpr_target"]), _operating_cell(row))
    return OperatingTable(
        unit=unit,
        rule=", ".join(distinct(table, "rule")),
        targets=tuple(targets),
        n_neutral=float(pd.Series(column_floats(table, "n_neutral")).min()),
        rows=tuple(
            (scorer, tuple(cells.get(target) for target in targets))
            for scorer, cells in found.items()
        ),
    )


def _operating_cell(row: Mapping[str, object]) -> OperatingCell:
    return OperatingCell(
        tpr=estimate_of(row, "tpr"),
        fpr=to_float(row["fpr_test_neutral"]),
        fpr_upper=to_float(row["fpr_test_neutral_upper"]),
        refused=to_text(row["refused"]),
    )


def calibration_rows(calibration: pd.DataFrame | None) -> list[CalibrationRow]:
    """Rows for `misaligned`, of the full text."""
    mine = _full(calibration)
    return [
        CalibrationRow(
            scorer=to_text(row["scorer"]),
            method=to_text(row["method"]),
            ece=Estimate(
                value=to_float(row["ece"]), low=to_float(row["low"]), high=to_float(row["high"])
            ),
            brier=to_float(row["brier"]),
            brier_of_rate=to_float(row["brier_of_rate"]),
            refused=to_text(row["refused"]),
        )
        for row in (records(mine) if mine is not None else [])
    ]


def grain_rows(decomposition: pd.DataFrame | None) -> list[GrainRow]:
    """Fine, coarse and single probes at the first unit and the strictest target, of the full text."""
    if decomposition is None or decomposition.empty:
        return []
    mine = rows_where(decomposition, view=FULL, unit=units_of(decomposition)[0])
    strictest = min(column_floats(mine, "fpr_target"), default=0.0)
    return [
        GrainRow(
            scorer=to_text(row["scorer"]),
            fusion=to_text(row["fusion"]),
            grain=to_text(row["grain"]),
            n_probes=to_float(row["n_probes"]),
            auroc=estimate_of(row, "auroc"),
            minus_fine=estimate_of(row, "minus_fine"),
            tpr=to_float(row["tpr"]),
        )
        for row in records(rows_where(mine, fpr_target=strictest))
    ]


def _full(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows that ask whether full turns are misaligned; None where there are none."""
    if table is None:
        return None
    mine = rows_where(table, indicator=MISALIGNED, view=FULL)
    return mine if len(mine) else None
