"""Rows of `detection.parquet`: a detector's AUROC with its interval, its chance level and its counts."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from mechprobe.evaluation.bootstrap import Interval, auroc_interval
from mechprobe.evaluation.metrics import roc_curve, tpr_at_fpr
from mechprobe.evaluation.units import Units

DETECTION_COLUMNS = (
    "indicator",
    "scorer",
    "unit",
    "split",
    "hook_name",
    "auroc",
    "auroc_low",
    "auroc_high",
    "chance",
    "tpr_at_1pct",
    "tpr_at_5pct",
    "n_pos",
    "n_neg",
    "n_clusters",
)
ROC_COLUMNS = ("indicator", "scorer", "unit", "hook_name", "fpr", "tpr")
MIN_POSITIVES = 5
"""Fewer positives are too few for a figure."""
_ROC_POINTS = 200


def detection_row(
    units: Units,
    *,
    indicator: str,
    scorer: str,
    unit: str,
    split: str = "test",
    hook_name: str = "",
    n_boot: int = 1000,
    seed: int = 0,
) -> dict[str, object]:
    """One row: what a scorer is worth on these units; no figure (NaN) with fewer than five positives or no negative.

    The AUROC is over the pairs within folds; the rates take the scores as they are, on one scale.

    Args:
        unit: what is ranked, for instance "span", "hard_negative", "turn", "transcript", "mixed".
        hook_name: where the scorer reads; empty for scorers that read text.
    """
    n_pos = int(units.is_positive.sum())
    n_neg = len(units.is_positive) - n_pos
    interval = (
        auroc_interval(units, n_boot=n_boot, seed=seed)
        if n_pos >= MIN_POSITIVES and units.n_pairs
        else Interval(value=np.nan, low=np.nan, high=np.nan)
    )
    return {
        "indicator": indicator,
        "scorer": scorer,
        "unit": unit,
        "split": split,
        "hook_name": hook_name,
        "auroc": interval.value,
        "auroc_low": interval.low,
        "auroc_high": interval.high,
        "chance": units.chance,
        "tpr_at_1pct": resolved_tpr(units, 0.01),
        "tpr_at_5pct": resolved_tpr(units, 0.05),
        "n_pos": n_pos,
        "n_neg": n_neg,
        "n_clusters": len(np.unique(units.clusters)),
    }


def resolved_tpr(units: Units, fpr_target: float) -> float:
    """True-positive rate at a false-positive rate; NaN where one negative is already more, or positives are too few."""
    n_neg = int((~units.is_positive).sum())
    if n_neg * fpr_target < 1 or len(units.is_positive) - n_neg < MIN_POSITIVES:
        return float("nan")
    return tpr_at_fpr(units.scores, units.is_positive, fpr_target).tpr


def roc_rows(
    units: Units, *, indicator: str, scorer: str, unit: str, hook_name: str = ""
) -> pd.DataFrame:
    """The ROC curve as rows of `roc.parquet`, thinned to at most 200 points; empty without both classes."""
    if not 0 < units.is_positive.sum() < len(units.is_positive):
        return pd.DataFrame(columns=list(ROC_COLUMNS))
    curve = roc_curve(units.scores, units.is_positive)
    kept = np.unique(np.linspace(0, len(curve.fpr) - 1, _ROC_POINTS).round().astype(np.int64))
    return pd.DataFrame(
        {
            "indicator": indicator,
            "scorer": scorer,
            "unit": unit,
            "hook_name": hook_name,
            "fpr": curve.fpr[kept],
            "tpr": curve.tpr[kept],
        }
    )


def detection_table(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    """The rows as a table with exactly `DETECTION_COLUMNS`."""
    return pd.DataFrame(list(rows), columns=list(DETECTION_COLUMNS))
