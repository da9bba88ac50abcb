"""AUROC over the pairs of units that one and the same fit has scored.

Out-of-fold scores come from several fits, whose scales differ: a regression that chose a weaker penalty scores larger
numbers. Pooled, such scores rank folds as well as units, and a scorer whose fits happen to agree in scale looks better
than one whose fits do not. So a positive is compared with the negatives of its own fold only.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from mechprobe.evaluation.bootstrap import resampled_aurocs
from mechprobe.evaluation.metrics import auroc
from mechprobe.evaluation.units import Units


def stratified_auroc(parts: Sequence[Units]) -> float:
    """Share of the pairs within parts that are ranked right, ties counting half; NaN where there is no pair.

    Raises:
        LabelError: a score is not finite.
    """
    known = [part for part in parts if _n_pairs(part)]
    if not known:
        return float("nan")
    values = [auroc(part.scores, part.is_positive) for part in known]
    return float(np.average(values, weights=[_n_pairs(part) for part in known]))


def stratified_chance(parts: Sequence[Units]) -> float:
    """The chance level of `stratified_auroc`; NaN where there is no pair."""
    known = [part for part in parts if _n_pairs(part)]
    if not known:
        return float("nan")
    weights = [_n_pairs(part) for part in known]
    return float(np.average([part.chance for part in known], weights=weights))


def stratified_draws(
    parts: Sequence[Units],
    codes: Int[np.ndarray, "cluster"],
    counts: Float[np.ndarray, "draw cluster"],
) -> Float[np.ndarray, "draw"]:
    """`stratified_auroc` of each resample of the transcripts; NaN where a draw has no pair.

    Args:
        codes: every cluster of the units, sorted.
        counts: how often a draw takes each of them.
    """
    wins, n_pairs = np.zeros(len(counts)), np.zeros(len(counts))
    for part in parts:
        if not _n_pairs(part):
            continue
        cluster = np.searchsorted(codes, part.clusters)
        of_pos, of_neg = (
            counts @ np.bincount(cluster[side], minlength=len(codes))
            for side in (part.is_positive, ~part.is_positive)
        )
        found = resampled_aurocs(part, cluster, counts)
        wins += np.where(of_pos * of_neg > 0, np.nan_to_num(found), 0.0) * of_pos * of_neg
        n_pairs += of_pos * of_neg
    return np.divide(wins, n_pairs, out=np.full(len(counts), np.nan), where=n_pairs > 0)


def clusters_of(parts: Sequence[Units]) -> Int[np.ndarray, "cluster"]:
    """Every cluster of the units, sorted."""
    return np.unique(np.concatenate([part.clusters for part in parts]))


def _n_pairs(part: Units) -> int:
    n_pos = int(part.is_positive.sum())
    return n_pos * (len(part.is_positive) - n_pos)
