"""Ranking metrics: AUROC, the ROC curve, and the true-positive rate at a false-positive rate.

A detector fires when its score is **above** its threshold. Ties count half in the AUROC.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy.stats import rankdata

from mechprobe.errors import LabelError, ShapeError


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """What a detector does at one threshold."""

    threshold: float
    fpr: float
    """Share of the negatives that fire."""
    tpr: float
    """Share of the positives that fire."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RocCurve:
    """The operating points of all thresholds, from the strictest to the most lenient."""

    fpr: Float[np.ndarray, "point"]
    tpr: Float[np.ndarray, "point"]
    threshold: Float[np.ndarray, "point"]
    """A point's detector fires at scores above this; -inf for the last, which always fires."""


def auroc(scores: Num[np.ndarray, "unit"], is_positive: Bool[np.ndarray, "unit"]) -> float:
    """Probability that a positive scores above a negative, ties counting half (Mann-Whitney U).

    Raises:
        ShapeError: the two arrays differ in length.
        LabelError: one of the classes is empty, or a score is not finite.
    """
    check_scores(scores, is_positive)
    n_pos = int(is_positive.sum())
    n_neg = len(is_positive) - n_pos
    rank_sum = float(rankdata(scores)[is_positive].sum())
    return (rank_sum - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)


def roc_curve(scores: Num[np.ndarray, "unit"], is_positive: Bool[np.ndarray, "unit"]) -> RocCurve:
    """All operating points, without those on a straight line between two others.

    Raises:
        ShapeError, LabelError: as `auroc`.
    """
    check_scores(scores, is_positive)
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].astype(np.float64)
    is_last_of_tie = np.r_[ordered[1:] != ordered[:-1], True]
    positives = np.cumsum(is_positive[order])[is_last_of_tie]
    negatives = np.cumsum(~is_positive[order])[is_last_of_tie]
    fired_pos = np.r_[0, positives]
    fired_neg = np.r_[0, negatives]
    threshold = np.r_[ordered[is_last_of_tie], -np.inf]
    kept = _is_corner(fired_neg, fired_pos)
    return RocCurve(
        fpr=fired_neg[kept] / fired_neg[-1],
        tpr=fired_pos[kept] / fired_pos[-1],
        threshold=threshold[kept],
    )


def tpr_at_fpr(
    scores: Num[np.ndarray, "unit"], is_positive: Bool[np.ndarray, "unit"], fpr_target: float
) -> OperatingPoint:
    """The most lenient threshold whose measured false-positive rate is at most `fpr_target`.

    The threshold is itself the score of a negative (or the highest score), since a detector fires above
    it; tied negatives fire together or not at all.

    Raises:
        ShapeError, LabelError: as `auroc`.
    """
    check_scores(scores, is_positive)
    threshold = threshold_at_fpr(scores[~is_positive], fpr_target)
    return OperatingPoint(
        threshold=threshold,
        fpr=float((scores[~is_positive] > threshold).mean()),
        tpr=float((scores[is_positive] > threshold).mean()),
    )


def threshold_at_fpr(negatives: Num[np.ndarray, "unit"], fpr_target: float) -> float:
    """The smallest score of a negative above which at most `fpr_target` of the negatives lie."""
    allowed = int(np.floor(fpr_target * len(negatives) * (1 + 1e-12)))
    return float(np.sort(negatives)[::-1][min(allowed, len(negatives) - 1)])


def quantile_point(
    scores: Num[np.ndarray, "unit"], is_positive: Bool[np.ndarray, "unit"], fpr_target: float
) -> OperatingPoint:
    """The operating point as the paper's authors tabulate it: an interpolated quantile, fired at and above.

    Its false-positive rate can exceed the target, by much where scores are tied (a 1-10 judge: 2.9 % at a
    target of 1 %); for comparison with published numbers only. Source: arXiv 2606.24251, authors' code.

    Raises:
        ShapeError, LabelError: as `auroc`.
    """
    check_scores(scores, is_positive)
    threshold = float(np.quantile(scores[~is_positive], 1 - fpr_target))
    return OperatingPoint(
        threshold=threshold,
        fpr=float((scores[~is_positive] >= threshold).mean()),
        tpr=float((scores[is_positive] >= threshold).mean()),
    )


def check_scores(scores: np.ndarray, is_positive: np.ndarray) -> None:
    """Raise unless every unit has a finite score and both classes occur."""
    if len(scores) != len(is_positive):
        raise ShapeError(
            f"{len(scores)} scores for {len(is_positive)} labels; give one score for each label."
        )
    n_pos = int(is_positive.sum())
    if n_pos in (0, len(is_positive)):
        raise LabelError(
            f"{n_pos} of {len(is_positive)} units are positive; a ranking metric needs at least one "
            "positive and one negative."
        )
    if not np.isfinite(scores).all():
        raise LabelError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite; leave out "
            "units that were not scored."
        )


def _is_corner(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether a point of a monotone line is an end or bends it; counts, so the test is exact."""
    before = (np.diff(x)[:-1], np.diff(y)[:-1])
    after = (np.diff(x)[1:], np.diff(y)[1:])
    return np.r_[True, before[0] * after[1] != before[1] * after[0], True]
