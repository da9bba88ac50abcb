"""The effect of each indicator's direction on each indicator's text: is a direction specific?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mechprobe.reports.effects import NO_CONTROL, OTHER_PREFIX, with_defaults
from mechprobe.reports.estimates import NAN, to_float, to_text
from mechprobe.reports.rows import column_text, records, rows_at, rows_where

POOLED_STRATA = ("all", "pooled", "")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EffectMatrix:
    """Effect of each indicator's direction (column) on each indicator's pairs (row) under one operation."""

    operation: str
    outcome: str
    indicators: tuple[str, ...]
    effect: np.ndarray
    """[indicator of the pairs, indicator of the direction]; NaN where not run."""

    @property
    def specificity(self) -> float:
        """Mean of the diagonal minus the mean of the rest."""
        own = np.eye(len(self.indicators), dtype=bool)
        if np.isnan(self.effect[own]).all() or np.isnan(self.effect[~own]).all():
            return NAN
        return float(np.nanmean(self.effect[own]) - np.nanmean(self.effect[~own]))


def effect_matrices(effects: pd.DataFrame, order: Sequence[str]) -> list[EffectMatrix]:
    """One matrix for each operation and outcome that was run with other indicators' directions."""
    table = with_defaults(effects)
    pooled = rows_at(table, np.isin(column_text(table, "stratum"), POOLED_STRATA))
    is_other = [name.startswith(OTHER_PREFIX) for name in column_text(pooled, "control")]
    others = rows_at(pooled, np.array(is_other, dtype=bool))
    keys = zip(column_text(others, "operation"), column_text(others, "outcome"), strict=True)
    own = rows_where(pooled, control=NO_CONTROL)
    return [
        EffectMatrix(
            operation=operation,
            outcome=outcome,
            indicators=tuple(order),
            effect=_filled_matrix(
                [
                    rows_where(table, operation=operation, outcome=outcome)
                    for table in (own, others)
                ],
                order,
            ),
        )
        for operation, outcome in dict.fromkeys(keys)
    ]


def _filled_matrix(tables: Sequence[pd.DataFrame], order: Sequence[str]) -> np.ndarray:
    """The first effect found for each pair of indicators."""
    place = {indicator: index for index, indicator in enumerate(order)}
    effect = np.full((len(order), len(order)), NAN)
    for row in (row for table in tables for row in records(table)):
        control = to_text(row["control"])
        of = row["indicator"] if control == NO_CONTROL else control.removeprefix(OTHER_PREFIX)
        if row["indicator"] in place and of in place:
            here = place[row["indicator"]], place[of]
            if math.isnan(effect[here]):
                effect[here] = to_float(row["effect"])
    return effect
