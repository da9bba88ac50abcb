"""Probes that read only k features: how few does an indicator need? (arXiv 2305.01610, sections 3 and 4.)

The features are those whose classes lie furthest apart on the fit rows; a logistic probe on them is fitted for
every k at once, since the smaller sets are prefixes of the largest.
"""

from collections.abc import Sequence

import numpy as np

from mechprobe.errors import ConfigError
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.matrix import size_of, take_columns
from mechprobe.probes.rows import LEFT_OUT, POSITIVE, LabelledRows
from mechprobe.probes.solving.design import Design
from mechprobe.probes.solving.lbfgs import minimise
from mechprobe.probes.solving.loss import Columns
from mechprobe.probes.solving.moments import class_separation
from mechprobe.probes.solving.standardise import scaling_of
from mechprobe.probes.weights import ClassWeight, row_weights

KS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Candidates for k, fewest first, so that ties choose the simplest probe."""

_L2_STRENGTH = 1.0


def fit_k_sparse(
    rows: LabelledRows,
    strengths: Sequence[float] = KS,
    *,
    seed: int = 0,
    class_weight: ClassWeight = None,
) -> list[tuple[LinearProbe, ...]]:
    """For each k, one probe for each indicator that reads the k features of largest class separation.

    Args:
        strengths: the numbers of features, whole and at least 1; more than there are means all.
        seed: unused.
        class_weight: "balanced" lets both classes count the same in sum; features are ranked as without.

    Raises:
        ConfigError: a k is not a whole number of at least 1.
    """
    del seed
    if not len(strengths) or min(strengths) < 1 or any(k != int(k) for k in strengths):
        raise ConfigError(
            f"k candidates are {tuple(strengths)}; give whole numbers of at least 1, such as {KS}."
        )
    ks = [min(int(k), size_of(rows.X)[1]) for k in strengths]
    separation = np.abs(class_separation(rows))
    ranked = np.argsort(-separation, axis=0, kind="stable")[: max(ks)]
    # A sparse matrix is turned to columns once, for what any indicator reads.
    union = np.unique(ranked)
    X = take_columns(rows.X, union)
    weights = row_weights(rows.labels, class_weight)
    found: list[list[LinearProbe]] = [[] for _ in ks]
    for at, own in enumerate(ranked.T):
        used = rows.labels[:, at] != LEFT_OUT
        y = rows.labels[used, at] == POSITIVE
        part = X[np.ix_(used, np.searchsorted(union, own))]
        probes = _fit_prefixes(part, y, weights[used, at], own, ks, size_of(rows.X)[1])
        for of_k, probe in zip(found, probes, strict=True):
            of_k.append(probe)
    return [tuple(probes) for probes in found]


def _fit_prefixes(
    X: np.ndarray,
    y: np.ndarray,
    weights: np.ndarray,
    ranked: np.ndarray,
    ks: Sequence[int],
    width: int,
) -> list[LinearProbe]:
    """Logistic probes on the first k columns, for each k."""
    scaling = scaling_of(X)
    # Each k is a column of one solve: the same labels, with the weights beyond k held at zero.
    columns = Columns(
        sign=np.repeat(np.where(y, 1.0, -1.0)[:, None], len(ks), axis=1),
        strengths=np.array([_L2_STRENGTH]),
        row_weight=weights,
        free=(np.arange(X.shape[1])[:, None] < np.asarray(ks)).astype(np.float64),
    )
    solution = minimise(Design(scaling.apply(X)), columns, tol=1e-4)
    weight, bias = scaling.fold(solution.weight, solution.bias)
    full = np.zeros((len(ks), width), dtype=np.float32)
    full[:, ranked] = weight.T
    return [
        LinearProbe(kind="k_sparse", weight=row, bias=float(at), settings={"k": float(k)})
        for row, at, k in zip(full, bias, ks, strict=True)
    ]
