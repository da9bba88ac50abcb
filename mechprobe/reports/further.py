"""Two summaries over all indicators: free text under the verdicts' edits, and what nothing trained would show."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mechprobe.reports.rows import column_text, distinct, rows_where

NOT_AT_SITE = ("writing", "prompt")
"""Edits of free text that are made elsewhere than at the site of the verdicts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeTextRow:
    """Mean misbehaviour rate of texts that go on after the thought, for indicators with one verdict."""

    verdict: str
    operation: str
    n_indicators: int
    before: float
    after: float
    random: float
    """Under the same operation along random directions."""
    unreadable: float
    """Share of the edited texts that end in no answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UntrainedRow:
    """Means over indicators of a model or an SAE, trained or not."""

    name: str
    operation: str
    auroc: float
    moved: float
    """Mean size of the outcome's change, in natural gaps."""
    n_indicators: int


def free_text_rows(rates: pd.DataFrame | None, verdicts: pd.DataFrame) -> list[FreeTextRow]:
    """Free text by verdict of the first direction and by operation; empty without such texts."""
    if rates is None:
        return []
    first = rows_where(verdicts, direction=distinct(verdicts, "direction")[0])
    verdict_of = dict(
        zip(column_text(first, "indicator"), column_text(first, "verdict"), strict=True)
    )
    here = rates.query("where not in @NOT_AT_SITE")
    verdicts_here = [verdict_of.get(name, "") for name in column_text(here, "indicator")]
    here = here.assign(verdict=verdicts_here)
    return [
        _free_text_row(rows_where(here, verdict=verdict, operation=operation), verdict, operation)
        for verdict in dict.fromkeys(verdict_of.values())
        for operation in distinct(here, "operation")
        if len(rows_where(here, verdict=verdict, operation=operation))
    ]


def _free_text_row(rows: pd.DataFrame, verdict: str, operation: str) -> FreeTextRow:
    own, random = rows_where(rows, control="none"), rows.query("control != 'none'")
    return FreeTextRow(
        verdict=verdict,
        operation=operation,
        n_indicators=len(distinct(own, "indicator")),
        before=_mean(own, "rate_unedited"),
        after=_mean(own, "rate"),
        random=_mean(random, "rate"),
        unreadable=_mean(own, "unreadable"),
    )


def untrained_rows(tables: Sequence[pd.DataFrame | None]) -> list[UntrainedRow]:
    """A row for each model, and for each SAE and operation, of the tables that are there."""
    found: list[UntrainedRow] = []
    for table in tables:
        if table is None:
            continue
        key = "model" if "model" in table.columns else "sae"
        for name in distinct(table, key):
            mine = rows_where(table, **{key: name})
            for operation in distinct(mine, "operation") if key == "sae" else ["interchange"]:
                some = rows_where(mine, operation=operation) if key == "sae" else mine
                found.append(
                    UntrainedRow(
                        name=f"{key}: {name}",
                        operation=operation,
                        auroc=_mean(some, "auroc"),
                        moved=_mean(some, "moved"),
                        n_indicators=len(distinct(some, "indicator")),
                    )
                )
    return found


def _mean(rows: pd.DataFrame, column: str) -> float:
    """Mean without the rows that have no number; NaN where none has."""
    values = rows[column].to_numpy(dtype=np.float64)
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else np.nan
