"""Intervals for true-positive rates at a false-positive rate, by resampling whole transcripts.

Each draw sets its own threshold on its own negatives, so that the interval holds the doubt in the threshold too.
"""

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

_BLOCK = 1 << 22
"""Largest number of float64 entries held at once."""


def tpr_interval(
    units: Units, fpr_target: float, *, n_boot: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """`tpr_at_fpr` with its transcript-clustered bootstrap interval.

    Where fewer than ten transcripts hold a positive, or the rate is 0 or 1, the interval is widened to the
    exact binomial one of as many independent positives as there are such transcripts.

    Raises:
        ShapeError, LabelError: the units cannot be ranked (see `auroc`).
    """
    codes, cluster = np.unique(units.clusters, return_inverse=True)
    draws = resampled_tprs(units, cluster, cluster_draws(len(codes), n_boot, seed), fpr_target)
    value = tpr_at_fpr(units.scores, units.is_positive, fpr_target).tpr
    return resampled_interval(value, draws, n_clusters(units, positive=True), level)


def resampled_tprs(
    units: Units,
    cluster: Int[np.ndarray, "unit"],
    counts: Float[np.ndarray, "draw cluster"],
    fpr_target: float,
) -> Float[np.ndarray, "draw"]:
    """`tpr_at_fpr` of each resample; NaN where a draw lacks a class.

    Args:
        counts: how often a draw takes each cluster.
    """
    check_scores(units.scores, units.is_positive)
    order = np.argsort(-units.scores, kind="stable")
    positive = units.is_positive[order]
    scores, cluster = units.scores[order], cluster[order]
    pos, neg = scores[positive], scores[~positive]
    # How many positives lie above each negative, were it the threshold.
    n_above = np.searchsorted(-pos, -neg, side="left")
    rates = np.full(len(counts), np.nan)
    step = max(1, _BLOCK // len(scores))
    for start in range(0, len(counts), step):
        drawn = counts[start : start + step]
        fired_neg = np.cumsum(drawn[:, cluster[~positive]], axis=1)
        fired_pos = np.cumsum(drawn[:, cluster[positive]], axis=1)
        n_neg, n_pos = fired_neg[:, -1], fired_pos[:, -1]
        allowed = np.floor(fpr_target * n_neg * (1 + 1e-12))
        allowed = np.minimum(allowed, n_neg - 1)
        threshold = (fired_neg > allowed[:, None]).argmax(axis=1)
        fired = np.take_along_axis(
            np.pad(fired_pos, ((0, 0), (1, 0))), n_above[threshold][:, None], axis=1
        )[:, 0]
        whole = (n_pos > 0) & (n_neg > 0)
        rates[start : start + step][whole] = fired[whole] / n_pos[whole]
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
