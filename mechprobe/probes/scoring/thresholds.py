"""Thresholds that hold a false-positive rate, with a bound on the rate that they really have.

Three rules, from hopeful to strict. "empirical": at most the target share of the given negatives fires.
"conformal": a new negative, exchangeable with them, fires with at most the target probability, averaged over draws
of the negatives (split conformal prediction; Vovk et al. 2005, Angelopoulos and Bates, arXiv 2107.07511,
section 1). "certified": the rate of this very threshold is within the target with confidence `level` (the
tolerance limit of Wilks 1941, in machine learning "probably approximately correct").
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Integer, Num
from scipy.stats import beta

from mechprobe.errors import ConfigError, LabelError, ShapeError

ThresholdRule = Literal["empirical", "conformal", "certified"]


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
    n_effective: float
    """Independent negatives that tell as much; fewer than given where they come in clusters."""
    rule: ThresholdRule = "empirical"

    @property
    def holds(self) -> bool:
        """Whether even the upper bound is within the target."""
        return self.fpr_upper <= self.fpr_target


def threshold_at(
    negatives: Num[np.ndarray, "unit"],
    fpr_target: float,
    *,
    rule: ThresholdRule = "empirical",
    level: float = 0.95,
    clusters: Integer[np.ndarray, "_"] | None = None,
) -> Threshold:
    """The smallest threshold among the negatives that the rule allows; ties fire together.

    Args:
        negatives: scores of units without the indicator, from other transcripts than those the detector is
            tested on.
        level: confidence of the upper bound.
        clusters: transcript of each unit, where there are several units in one: the bound then counts as
            many units as are independent. Without it, every unit counts.

    Raises:
        ConfigError: the target is not between 0 and 1.
        LabelError: there are too few negatives for the target by the rule, or a score is not finite.
        ShapeError: there is not one cluster for each unit.
    """
    n_needed = negatives_needed(fpr_target, rule, level)
    if len(negatives) < n_needed:
        raise LabelError(
            f"{len(negatives)} negatives cannot resolve a false-positive rate of {fpr_target:g}; give at "
            f"least {n_needed} ({negatives_to_certify(fpr_target, level)} to certify it with none firing)."
        )
    if not np.isfinite(negatives).all():
        raise LabelError("a negative has no finite score; leave out units that were not scored.")
    if clusters is not None and len(clusters) != len(negatives):
        raise ShapeError(
            f"{len(clusters)} clusters for {len(negatives)} negatives; give one for each."
        )
    ordered = np.sort(negatives)[::-1]
    allowed = n_allowed(len(negatives), fpr_target, rule)
    while True:
        found = _at(float(ordered[allowed]), negatives, fpr_target, rule, level, clusters)
        if rule != "certified" or found.holds:
            return found
        if allowed == 0:
            raise LabelError(
                f"{len(negatives)} negatives from few transcripts tell as much as "
                f"{found.n_effective:.0f} and cannot certify a false-positive rate of {fpr_target:g}; "
                f"it takes {n_needed} independent ones."
            )
        allowed -= 1


def n_allowed(n_negatives: int, fpr_target: float, rule: ThresholdRule = "empirical") -> int:
    """Of the given negatives, how many may fire; a start from above for "certified"."""
    if rule == "conformal":
        return math.floor(fpr_target * (n_negatives + 1) + 1e-9) - 1
    return min(math.floor(fpr_target * n_negatives + 1e-9), n_negatives - 1)


def negatives_needed(
    fpr_target: float, rule: ThresholdRule = "empirical", level: float = 0.95
) -> int:
    """The least number of negatives with which the rule can hold the target.

    Raises:
        ConfigError: the target is not between 0 and 1.
    """
    if not 0 < fpr_target < 1:
        raise ConfigError(f"fpr_target is {fpr_target}; it must be > 0 and < 1, for instance 0.01.")
    if rule == "certified":
        return negatives_to_certify(fpr_target, level)
    return math.ceil(1 / fpr_target - 1e-9) - (rule == "conformal")


def negatives_to_certify(fpr_target: float, level: float = 0.95) -> int:
    """How many negatives, none firing, bound the rate by the target."""
    return math.ceil(math.log(1 - level) / math.log(1 - fpr_target))


def upper_bound(n_fired: float, n_negatives: float, level: float = 0.95) -> float:
    """One-sided Clopper-Pearson upper bound of a rate; counts may be effective ones, not whole."""
    if n_fired >= n_negatives:
        return 1.0
    return float(beta.ppf(level, n_fired + 1, n_negatives - n_fired))


def effective_units(
    fired: Bool[np.ndarray, "unit"], clusters: Integer[np.ndarray, "unit"] | None
) -> float:
    """Independent units that would estimate the share that fires as well as these clustered ones.

    Their number is divided by the design effect (Korn and Graubard 1998), which is kept between 1 and that of
    clusters whose units all do the same; where none or all fire it is the latter.
    """
    n_units = len(fired)
    if clusters is None:
        return float(n_units)
    _, of_unit, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    worst = n_units**2 / float((sizes**2).sum())
    rate = fired.mean()
    if rate in (0.0, 1.0) or len(sizes) < 2:
        return worst
    deviations = np.bincount(of_unit, weights=fired - rate)
    m = len(sizes)
    variance = m / (m - 1) * float((deviations**2).sum()) / n_units**2
    return float(np.clip(rate * (1 - rate) / max(variance, 1e-300), worst, n_units))


def _at(
    value: float,
    negatives: np.ndarray,
    fpr_target: float,
    rule: ThresholdRule,
    level: float,
    clusters: np.ndarray | None,
) -> Threshold:
    fired = negatives > value
    n_effective = effective_units(fired, clusters)
    fpr = float(fired.mean())
    return Threshold(
        value=value,
        fpr_target=fpr_target,
        fpr=fpr,
        fpr_upper=upper_bound(fpr * n_effective, n_effective, level),
        n_negatives=len(negatives),
        n_effective=n_effective,
        rule=rule,
    )
