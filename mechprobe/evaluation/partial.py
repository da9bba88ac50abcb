"""The part of the ROC curve that a monitor is used in: low false-positive rates."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Num

from mechprobe.errors import ConfigError
from mechprobe.evaluation.metrics import roc_curve


@dataclass(frozen=True, kw_only=True, slots=True)
class PartialAuroc:
    """Area under the ROC curve up to a false-positive rate."""

    max_fpr: float
    area: float
    """Between 0 and max_fpr; a detector that knows nothing has max_fpr ** 2 / 2."""
    standardised: float
    """McClish's: 0.5 for a diagonal curve, 1 for a perfect one, whatever max_fpr is."""


def partial_auroc(
    scores: Num[np.ndarray, "unit"], is_positive: Bool[np.ndarray, "unit"], max_fpr: float
) -> PartialAuroc:
    """Area under the ROC curve up to `max_fpr`; within a tie the curve is straight, as in the AUROC.

    Source: McClish, Medical Decision Making 9 (1989); scikit-learn's `roc_auc_score(max_fpr=...)` gives the
    standardised area.

    Raises:
        ConfigError: max_fpr is not in (0, 1].
        ShapeError, LabelError: as `auroc`.
    """
    if not 0 < max_fpr <= 1:
        raise ConfigError(f"max_fpr is {max_fpr}; it must be > 0 and at most 1, for instance 0.1.")
    curve = roc_curve(scores, is_positive)
    inside = int(np.searchsorted(curve.fpr, max_fpr, side="right"))
    height = np.interp(
        max_fpr, curve.fpr[inside - 1 : inside + 1], curve.tpr[inside - 1 : inside + 1]
    )
    fpr = np.r_[curve.fpr[:inside], max_fpr]
    tpr = np.r_[curve.tpr[:inside], height]
    area = float(np.trapezoid(tpr, fpr))
    diagonal = max_fpr**2 / 2
    return PartialAuroc(
        max_fpr=max_fpr,
        area=area,
        standardised=(1 + (area - diagonal) / (max_fpr - diagonal)) / 2,
    )
