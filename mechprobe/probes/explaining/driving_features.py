"""Which features drive a probe's scores, and whether they make sense: each beside what it tells by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Int8
from scipy.stats import rankdata

from mechprobe.errors import ShapeError
from mechprobe.probes.estimators import auroc_by_column
from mechprobe.probes.explaining.explanations import Attribution, additivity_error, attribute, top_k
from mechprobe.probes.matrix import Matrix, n_nonzero, size_of, take_columns, take_rows
from mechprobe.probes.probe import Probe
from mechprobe.probes.rows import LEFT_OUT, POSITIVE

FEATURE_COLUMNS = (
    "rank",
    "feature",
    "name",
    "shap",
    "share",
    "direction",
    "auroc",
    "n_positive",
    "n_negative",
)
CHECK_COLUMNS = (
    "n_features",
    "n_effective",
    "additivity",
    "n_compared",
    "agreement",
    "same_direction",
    "n_positive",
    "n_negative",
)
MIN_ROWS = 5
"""Rows of each class that a single feature's AUROC needs; below, it is NaN."""
_BLOCK = 512
"""Columns that are made dense at once."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DrivingFeatures:
    """The features that move a probe's scores most, and the checks of the explanation."""

    table: pd.DataFrame
    """Columns FEATURE_COLUMNS. `shap`: mean size of the feature's SHAP values, in units of the score. `share`: of
    the total of all features. `direction`: 1 if a higher value raises the score, -1 if it lowers it. `auroc`: of
    the feature alone, among the labelled rows. `n_positive`, `n_negative`: rows where it is not 0."""
    n_features: int
    """Features with any SHAP value that is not 0."""
    n_effective: float
    """How many features of equal share would be as concentrated: 1 / sum of squared shares."""
    additivity: float
    """Largest difference between a score and the sum of its SHAP values."""
    n_compared: int
    """Features of highest importance whose AUROC was computed."""
    agreement: float
    """Spearman correlation, among those, of importance with distance of AUROC from 0.5; NaN: not to be told."""
    same_direction: float
    """Share of their importance held by features that push to the side on which they stand by themselves."""
    n_positive: int
    n_negative: int

    @property
    def checks(self) -> dict[str, float]:
        """The figures other than the table, by CHECK_COLUMNS."""
        return {name: float(getattr(self, name)) for name in CHECK_COLUMNS}


def driving_features(
    probe: Probe,
    X: Matrix,
    labels: Int8[np.ndarray, "tok"],
    *,
    names: Sequence[str] | None = None,
    background: Matrix | None = None,
    k: int = 20,
    n_compared: int = 500,
) -> DrivingFeatures:
    """Explain a probe's scores of labelled rows.

    Args:
        labels: 1 positive, 0 negative, -1 left out: its score is explained, and it counts in no AUROC.
        names: of the columns; None: their numbers.
        background: see `attribute`.
        k: features that the table lists.
        n_compared: features, the most important first, that are compared with their AUROC.

    Raises:
        ConfigError: the probe has no exact SHAP values.
        ShapeError: there is not one label a row or one name a column.
    """
    n_rows, width = size_of(X)
    if len(labels) != n_rows or (names is not None and len(names) != width):
        raise ShapeError(
            f"{n_rows} rows of width {width} come with {len(labels)} labels and "
            f"{width if names is None else len(names)} names; give one label a row and one name a column."
        )
    attribution = attribute(probe, X, background)
    importance = attribution.mean_abs
    share = importance / (importance.sum() or 1.0)
    compared = top_k(importance, n_compared)
    direction = _directions(attribution, X, compared)
    auroc = _single_aurocs(X, labels, compared)
    listed = compared[:k]
    table = pd.DataFrame(
        {
            "rank": np.arange(1, len(listed) + 1),
            "feature": listed,
            "name": [str(at) if names is None else names[at] for at in listed],
            "shap": importance[listed],
            "share": share[listed],
            "direction": direction[:k],
            "auroc": auroc[:k],
            "n_positive": n_nonzero(take_rows(X, labels == POSITIVE))[listed],
            "n_negative": n_nonzero(take_rows(X, (labels != POSITIVE) & (labels != LEFT_OUT)))[
                listed
            ],
        },
        columns=list(FEATURE_COLUMNS),
    )
    return DrivingFeatures(
        table=table,
        n_features=int((importance > 0).sum()),
        n_effective=float(1 / np.square(share).sum()) if share.any() else 0.0,
        additivity=additivity_error(attribution, probe.score(X)),
        n_compared=len(compared),
        agreement=_spearman(importance[compared], np.abs(auroc - 0.5)),
        same_direction=_same_direction(importance[compared], direction, auroc),
        n_positive=int((labels == POSITIVE).sum()),
        n_negative=int(((labels != POSITIVE) & (labels != LEFT_OUT)).sum()),
    )


def _directions(
    attribution: Attribution, X: Matrix, columns: Int[np.ndarray, "k"]
) -> Int[np.ndarray, "k"]:
    """Sign of the covariance of each column's values with its SHAP values."""
    found: list[np.ndarray] = []
    for part in _blocks(columns):
        x = take_columns(X, part).astype(np.float64)
        values = attribution.columns(part)
        found.append(np.sign(((x - x.mean(axis=0)) * (values - values.mean(axis=0))).sum(axis=0)))
    return np.concatenate([*found, np.zeros(0)]).astype(np.int64)


def _single_aurocs(
    X: Matrix, labels: Int8[np.ndarray, "tok"], columns: Int[np.ndarray, "k"]
) -> Float[np.ndarray, "k"]:
    used = np.flatnonzero(labels != LEFT_OUT)
    is_positive: Bool[np.ndarray, "tok"] = labels[used] == POSITIVE
    if min(is_positive.sum(), (~is_positive).sum()) < MIN_ROWS:
        return np.full(len(columns), np.nan)
    rows = take_rows(X, used)
    found = [auroc_by_column(take_columns(rows, part), is_positive) for part in _blocks(columns)]
    return np.concatenate([*found, np.zeros(0)])


def _blocks(columns: Int[np.ndarray, "k"]) -> list[np.ndarray]:
    return [columns[start : start + _BLOCK] for start in range(0, len(columns), _BLOCK)]


def _spearman(first: Float[np.ndarray, "k"], second: Float[np.ndarray, "k"]) -> float:
    """NaN with fewer than three features, without an AUROC, or where one side has no order."""
    if len(first) < 3 or not np.isfinite(second).all():
        return float("nan")
    ranks = np.stack([rankdata(first), rankdata(second)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def _same_direction(
    importance: Float[np.ndarray, "k"],
    direction: Int[np.ndarray, "k"],
    auroc: Float[np.ndarray, "k"],
) -> float:
    """Features that stand on neither side (AUROC 0.5, or no direction) count half."""
    if not len(auroc) or not np.isfinite(auroc).all():
        return float("nan")
    agrees = (1 + direction * np.sign(auroc - 0.5)) / 2
    return float(np.average(agrees, weights=importance))
