"""What drives scorers: their words or features by indicator, and the best single features beside luck."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mechprobe.reports.estimates import to_float, to_text
from mechprobe.reports.names import IndicatorName
from mechprobe.reports.rows import distinct, records, rows_where

N_SHOWN = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """One word or feature."""

    name: str
    raises: bool
    """Whether more of it raises the score."""
    share: float
    """Of all that moves the score."""
    auroc: float
    """Of it alone."""
    fits: bool | None
    """Whether it pushes to the side on which it stands by itself; None: not to be told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverRow:
    """One scorer of one indicator."""

    indicator: str
    drivers: tuple[Driver, ...]
    n_effective: float
    agreement: float
    same_direction: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DriverTable:
    """One scorer."""

    scorer: str
    reads_text: bool
    rows: tuple[DriverRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BestFeatureRow:
    """The best single feature of an indicator."""

    indicator: str
    feature: float
    auroc: float
    by_luck: float
    """The AUROC as far from a half as the best feature of permuted labels, on the same side."""
    p_value: float
    p_holm: float
    n_pos: float


def driver_tables(
    drivers: pd.DataFrame | None, checks: pd.DataFrame | None, names: Sequence[IndicatorName]
) -> list[DriverTable]:
    """A table for each scorer that was explained; empty where none was."""
    if drivers is None or checks is None or drivers.empty:
        return []
    known = {name.slug: name.name for name in names}
    tables: list[DriverTable] = []
    for scorer in distinct(drivers, "scorer"):
        mine = rows_where(drivers, scorer=scorer)
        slugs = sorted(
            distinct(mine, "indicator"), key=[*known].index if _all(mine, known) else None
        )
        tables.append(
            DriverTable(
                scorer=scorer,
                reads_text=not any(distinct(mine, "hook_name")),
                rows=tuple(
                    _row(
                        known.get(slug, slug),
                        rows_where(mine, indicator=slug),
                        rows_where(checks, scorer=scorer, indicator=slug),
                    )
                    for slug in slugs
                ),
            )
        )
    return tables


def best_feature_rows(
    best: pd.DataFrame | None, names: Sequence[IndicatorName]
) -> list[BestFeatureRow]:
    """The best features, in the order of the table."""
    known = {name.slug: name.name for name in names}
    found: list[BestFeatureRow] = []
    for row in records(best) if best is not None else []:
        auroc, by_luck = to_float(row["auroc"]), to_float(row["by_luck"])
        slug = to_text(row["indicator"])
        found.append(
            BestFeatureRow(
                indicator=known.get(slug, slug),
                feature=to_float(row["feature"]),
                auroc=auroc,
                by_luck=by_luck if auroc >= 0.5 else 1 - by_luck,
                p_value=to_float(row["p_value"]),
                p_holm=to_float(row["p_holm"]),
                n_pos=to_float(row["n_pos"]),
            )
        )
    return found


def _all(table: pd.DataFrame, known: dict[str, str]) -> bool:
    return set(distinct(table, "indicator")) <= set(known)


def _row(name: str, drivers: pd.DataFrame, checks: pd.DataFrame) -> DriverRow:
    [check] = records(checks) or [{}]
    listed = records(drivers.sort_values(by="rank"))[:N_SHOWN]
    return DriverRow(
        indicator=name,
        drivers=tuple(_driver(row) for row in listed),
        n_effective=to_float(check.get("n_effective", math.nan)),
        agreement=to_float(check.get("agreement", math.nan)),
        same_direction=to_float(check.get("same_direction", math.nan)),
    )


def _driver(row: dict[str, object]) -> Driver:
    auroc, raises = to_float(row["auroc"]), to_float(row["direction"]) > 0
    fits = None if math.isnan(auroc) or auroc == 0.5 else (auroc > 0.5) == raises
    return Driver(
        name=to_text(row["name"]),
        raises=raises,
        share=to_float(row["share"]),
        auroc=auroc,
        fits=fits,
    )
