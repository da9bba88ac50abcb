"""Thresholds that hold a false-positive rate, with a bound on the rate that they really have."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num
from scipy.stats import beta

from mechprobe.errors import ConfigError, LabelError


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """Fire above `value`."""

    value: float
    fpr_target: float
    fpr: float
    """Share of the given negatives that fire; at most the target."""
    fpr_upper: float
    """One-sided upper confidence bound (Clopper-Pearson) on the rate for new negatives."""
    n_negatives: int

    @property
    def holds(self) -> bool:
        """Whether even the upper bound is within the target."""
        return self.fpr_upper <= self.fpr_target


def threshold_at(
    negatives: Num[np.ndarray, "unit"], fpr_target: float, *, level: float = 0.95
) -> Threshold:
    """The smallest threshold that at most a share `fpr_target` of the negatives exceeds; ties fire together.

    Args:
        negatives: one score for each independent unit: the highest of a transcript rather than its tokens,
            since the bound counts units.
        level: confidence of the upper bound.

    Raises:
        ConfigError: the target is not between 0 and 1.
        LabelError: there are fewer than 1 / fpr_target negatives, so that one false positive already
            exceeds the target, or a score is not finite.
    """
    if not 0 < fpr_target < 1:
        raise ConfigError(f"fpr_target is {fpr_target}; it must be > 0 and < 1, for instance 0.01.")
    n_needed = math.ceil(1 / fpr_target - 1e-9)
    if len(negatives) < n_needed:
        raise LabelError(
            f"{len(negatives)} negatives cannot resolve a false-positive rate of {fpr_target:g}; give at "
            f"least {n_needed} ({negatives_to_certify(fpr_target, level)} to certify it with none firing)."
        )
    if not np.isfinite(negatives).all():
        raise LabelError("a negative has no finite score; leave out units that were not scored.")
    n_allowed = math.floor(fpr_target * len(negatives) + 1e-9)
    value = float(np.sort(negatives)[::-1][n_allowed])
    n_fired = int((negatives > value).sum())
    return Threshold(
        value=value,
        fpr_target=fpr_target,
        fpr=n_fired / len(negatives),
        fpr_upper=upper_bound(n_fired, len(negatives), level),
        n_negatives=len(negatives),
    )


def upper_bound(n_fired: int, n_negatives: int, level: float = 0.95) -> float:
    """One-sided Clopper-Pearson upper bound of a rate."""
    if n_fired == n_negatives:
        return 1.0
    return float(beta.ppf(level, n_fired + 1, n_negatives - n_fired))


def negatives_to_certify(fpr_target: float, level: float = 0.95) -> int:
    """How many negatives, none firing, bound the rate by the target."""
    return math.ceil(math.log(1 - level) / math.log(1 - fpr_target))
