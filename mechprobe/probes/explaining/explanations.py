"""Why a probe scores a row as it does: exact Shapley values (SHAP), and a check that they make sense.

A linear probe's values are closed: weight * (x - mean), the interventional SHAP of arXiv 1705.07874 for features that are
changed one by one. Those of trees are TreeSHAP's (arXiv 1802.03888). Both add up to the score, which is checked; whether
the features that drive the score also tell the classes apart by themselves is measured beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int, Num

from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.linear import LinearProbe, check_width
from mechprobe.probes.matrix import Matrix, column_means, is_sparse, size_of, take_columns
from mechprobe.probes.probe import Probe


@runtime_checkable
class Explainable(Probe, Protocol):
    """A probe that knows its own Shapley values, as trees do."""

    def contributions(self, X: Matrix) -> Matrix:
        """What each column adds to each row's score; the last column holds what all rows have in common."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attribution:
    """SHAP values of some rows: `base` plus the sum of a row's values is its score.

    The value of row i and column j is `varying[i, j] + constant[j]`: a linear probe on sparse rows moves every score by
    what a word's absence means, and only the differences from that are stored.
    """

    varying: Matrix
    constant: Float[np.ndarray, "d"]
    base: float
    """The expected score: of a linear probe over the background, of trees over the rows that they were fitted on."""

    @property
    def total(self) -> Float[np.ndarray, "tok"]:
        """Base and values together: the scores that were explained."""
        rows = np.asarray(self.varying.sum(axis=1), dtype=np.float64).ravel()
        return rows + self.constant.sum() + self.base

    @property
    def mean_abs(self) -> Float[np.ndarray, "d"]:
        """Mean size of each column's values: its importance, in units of the score."""
        n_rows = max(1, size_of(self.varying)[0])
        if not is_sparse(self.varying):
            return np.abs(np.asarray(self.varying) + self.constant).sum(axis=0) / n_rows
        stored = sp.csr_matrix(self.varying)
        width = size_of(stored)[1]
        moved = np.abs(stored.data + self.constant[stored.indices])
        n_stored = np.bincount(stored.indices, minlength=width)
        sizes = np.bincount(stored.indices, weights=moved, minlength=width)
        return (sizes + (n_rows - n_stored) * np.abs(self.constant)) / n_rows

    def columns(self, columns: Int[np.ndarray, "k"]) -> Float[np.ndarray, "tok k"]:
        """The values of some columns."""
        return take_columns(self.varying, columns) + self.constant[columns]


def attribute(probe: Probe, X: Matrix, background: Matrix | None = None) -> Attribution:
    """Exact SHAP values of a linear probe or of trees.

    Args:
        X: the rows to explain.
        background: rows that say what is usual for a linear probe, such as those it was fitted on; None: the
            rows themselves. Trees keep their own.

    Raises:
        ConfigError: the probe is neither linear nor one of trees.
        ShapeError: the rows, or those of the background, are not of the probe's width.
    """
    if isinstance(probe, LinearProbe):
        return _linear(probe, X, X if background is None else background)
    if isinstance(probe, Explainable):
        return _of_trees(probe.contributions(X))
    raise ConfigError(
        f"a {probe.kind} probe ({type(probe).__name__}) has no exact SHAP values here; explain a linear probe, "
        "boosted trees or a forest (and of a calibrated probe, the one inside)."
    )


def additivity_error(attribution: Attribution, scores: Num[np.ndarray, "tok"]) -> float:
    """Largest difference between a score and the sum of its values; rounding alone if all is well.

    Raises:
        ShapeError: the scores are not of the rows that were explained.
    """
    total = attribution.total
    if total.shape != scores.shape:
        raise ShapeError(
            f"{len(scores)} scores for {len(total)} explained rows; score the same rows."
        )
    return float(np.abs(total - scores).max(initial=0.0))


def top_k(importance: Float[np.ndarray, "d"], k: int) -> Int[np.ndarray, "k"]:
    """The k columns of highest importance, highest first; fewer where fewer matter at all."""
    order = np.argsort(-importance, kind="stable")[:k]
    return order[importance[order] > 0]


def mean_jaccard(sets: Sequence[Int[np.ndarray, "_"]]) -> float:
    """Mean overlap (size of the intersection over that of the union) of all pairs of sets; 1 for two empty ones.

    Raises:
        ConfigError: there are fewer than two sets.
    """
    if len(sets) < 2:
        raise ConfigError(f"{len(sets)} set of features has no overlap; fit at least twice.")
    found: list[float] = []
    for at, first in enumerate(sets):
        for second in sets[:at]:
            n_union = len(np.union1d(first, second))
            found.append(len(np.intersect1d(first, second)) / n_union if n_union else 1.0)
    return float(np.mean(found))


def chance_jaccard(k: int, n_features: int) -> float:
    """Expected overlap of two sets of k features drawn at random.

    Raises:
        ConfigError: k is not between 1 and the number of features.
    """
    from scipy.stats import hypergeom

    if not 1 <= k <= n_features:
        raise ConfigError(f"k is {k}; it must be at least 1 and at most the {n_features} features.")
    n_shared = np.arange(k + 1)
    chance = hypergeom.pmf(n_shared, n_features, k, k)
    return float((chance * n_shared / (2 * k - n_shared)).sum())


def _linear(probe: LinearProbe, X: Matrix, background: Matrix) -> Attribution:
    for rows in (X, background):
        check_width(rows, len(probe.weight), f"a {probe.kind} probe")
    weight = probe.weight.astype(np.float64)
    mean = column_means(background)
    if is_sparse(X):
        varying: Matrix = sp.csr_matrix(X.astype(np.float64) @ sp.diags_array(weight))
        constant = -weight * mean
    else:
        varying, constant = (np.asarray(X, dtype=np.float64) - mean) * weight, np.zeros(len(weight))
    return Attribution(varying=varying, constant=constant, base=float(weight @ mean + probe.bias))


def _of_trees(found: Matrix) -> Attribution:
    width = size_of(found)[1] - 1
    base = take_columns(found, np.array([width]))[:, 0]
    values: Matrix = sp.csr_matrix(found[:, :width]) if is_sparse(found) else found[:, :width]
    return Attribution(
        varying=values, constant=np.zeros(width), base=float(base[0]) if len(base) else 0.0
    )
