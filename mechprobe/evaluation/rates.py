"""Intervals for true-positive rates at a false-positive rate, by resampling whole transcripts.

Each draw sets its own threshold on its own negatives, so that the interval holds the doubt in the threshold too.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from mechprobe.evaluation.bootstrap import (
    Interval,
    cluster_draws,
    n_clusters,
    resampled_interval,
)
from mechprobe.evaluation.metrics import check_scores, tpr_at_fpr
from mechprobe.evaluation.units import Turns, Units

_BLOCK = 1 << 20
"""Largest number of float64 entries held at once."""


def tpr_intervals(
    units: Units,
    fpr_targets: Sequence[float],
    *,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """`tpr_at_fpr` at each target with its transcript-clustered bootstrap interval.

    Where fewer than ten transcripts hold a positive, or the rate is 0 or 1, the interval is widened to the
    exact binomial one of as many independent positives as there are such transcripts.

    Raises:
        ShapeError, LabelError: the units cannot be ranked (see `auroc`).
    """
    codes, cluster = np.unique(units.clusters, return_inverse=True)
    draws = resampled_tprs(units, cluster, cluster_draws(len(codes), n_boot, seed), fpr_targets)
    n_independent = n_clusters(units, positive=True)
    values = [tpr_at_fpr(units.scores, units.is_positive, target).tpr for target in fpr_targets]
    return [
        resampled_interval(value, drawn, n_independent, level)
        for value, drawn in zip(values, draws, strict=True)
    ]


def resampled_tprs(
    units: Units,
    cluster: Int[np.ndarray, "unit"],
    counts: Float[np.ndarray, "draw cluster"],
    fpr_targets: Sequence[float],
) -> Float[np.ndarray, "target draw"]:
    """`tpr_at_fpr` of each resample; NaN where a draw lacks a class.

    Args:
        counts: how often a draw takes each cluster.
    """
    check_scores(units.scores, units.is_positive)
    order = np.argsort(-units.scores, kind="stable")
    positive = units.is_positive[order]
    pos, neg = units.scores[order][positive], units.scores[order][~positive]
    of_pos, of_neg = cluster[order][positive], cluster[order][~positive]
    # How many positives lie above each negative, were it the threshold.
    n_above = np.searchsorted(-pos, -neg, side="left")
    rates = np.full((len(fpr_targets), len(counts)), np.nan)
    step = max(1, _BLOCK // len(order))
    for start in range(0, len(counts), step):
        drawn = np.ascontiguousarray(counts[start : start + step].T)
        fired_neg = np.cumsum(drawn[of_neg], axis=0)
        fired_pos = np.cumsum(np.r_[np.zeros((1, drawn.shape[1])), drawn[of_pos]], axis=0)
        n_neg, n_pos = fired_neg[-1], fired_pos[-1]
        whole = np.flatnonzero((n_pos > 0) & (n_neg > 0))
        for row, target in enumerate(fpr_targets):
            allowed = np.minimum(np.floor(target * n_neg * (1 + 1e-12)), n_neg - 1)
            threshold = (fired_neg <= allowed).sum(axis=0)
            fired = fired_pos[n_above[threshold[whole]], whole]
            rates[row, start + whole] = fired / n_pos[whole]
    return rates


def mixed_tpr_chance(turns: Turns, fpr: float) -> float:
    """Expected share of positive transcripts of which a turn fires, where every turn fires with probability `fpr`.

    The paper sets a transcript's highest turn against single turns, so a detector that knows nothing finds more
    than a share `fpr` of the positive transcripts: 1 - (1 - fpr) ** n of those with n turns.
    """
    _, first, n_turns = np.unique(turns.transcript, return_index=True, return_counts=True)
    positive = turns.in_positive[first]
    if not positive.any():
        return float("nan")
    return float((1 - (1 - fpr) ** n_turns[positive]).mean())
