"""Standard errors of AUROCs and of their differences without resampling, for units that come in transcripts.

A positive's placement is the share of negatives below it, a negative's the share of positives above it, ties
half; their means are the AUROC, and their spread is its variance (DeLong et al. 1988). Midranks give all
placements in n log n steps (Sun & Xu, IEEE Signal Processing Letters 21, 2014). Where units share transcripts, the
sums of whole transcripts take the place of the single placements, and the product of a transcript's two sums
enters too (Obuchowski, Biometrics 53, 1997); with one unit a transcript this is DeLong's variance.

Of units with folds a placement is among the fold's own, and weighs as the pairs that it is a mean of: the figure is a
ratio of sums over folds, and so is its linearised variance.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, rankdata

from mechprobe.evaluation.bootstrap import check_paired
from mechprobe.evaluation.metrics import check_scores
from mechprobe.evaluation.units import Units


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Placements:
    """Where each unit stands among those of the other class."""

    of_positives: Float[np.ndarray, "positive"]
    """Share of the negatives below, ties half."""
    of_negatives: Float[np.ndarray, "negative"]
    """Share of the positives above, ties half."""
    weights: tuple[Float[np.ndarray, "positive"], Float[np.ndarray, "negative"]]
    """How much each counts, of mean 1; units of another fold's size count more or less."""

    @property
    def value(self) -> float:
        """The AUROC: the weighted mean of the positives' placements."""
        return float((self.weights[0] * self.of_positives).mean())


@dataclass(frozen=True, kw_only=True, slots=True)
class NormalEstimate:
    """An estimate with its standard error; interval and p-value rest on the normal distribution."""

    value: float
    standard_error: float
    """NaN where fewer than two transcripts hold a class."""
    low: float
    high: float
    p_value: float
    """Two-sided, against the value of the null hypothesis; NaN where the standard error is 0 but the value is not."""


def placements(units: Units) -> Placements:
    """The placements of all units.

    Raises:
        ShapeError, LabelError: the units cannot be ranked (see `auroc`).
    """
    check_scores(units.scores, units.is_positive)
    positive = units.is_positive
    fold = np.zeros(len(positive), np.int64) if units.fold is None else units.fold
    below, above, weight = np.zeros((3, len(positive)))
    n_pairs = units.n_pairs
    for number in np.unique(fold):
        pos, neg = (np.flatnonzero((fold == number) & side) for side in (positive, ~positive))
        if not len(pos) or not len(neg):
            continue  # nothing to compare with: their weight is 0
        ranks = rankdata(units.scores[np.r_[pos, neg]])
        below[pos] = (ranks[: len(pos)] - rankdata(units.scores[pos])) / len(neg)
        above[neg] = 1 - (ranks[len(pos) :] - rankdata(units.scores[neg])) / len(pos)
        weight[pos] = len(neg) * int(positive.sum()) / n_pairs
        weight[neg] = len(pos) * int((~positive).sum()) / n_pairs
    return Placements(
        of_positives=below[positive],
        of_negatives=above[~positive],
        weights=(weight[positive], weight[~positive]),
    )


def delong_auroc(
    units: Units, *, clustered: bool = True, level: float = 0.95, null: float = 0.5
) -> NormalEstimate:
    """AUROC with its standard error, and the p-value of its being `null`.

    Args:
        clustered: whether units of one transcript may be alike; False gives DeLong's own variance.

    Raises:
        ShapeError, LabelError: the units cannot be ranked (see `auroc`).
    """
    found = placements(units)
    return _normal(found.value, _variance(found, units, clustered=clustered), level, null)


def delong_difference(
    first: Units, second: Units, *, clustered: bool = True, level: float = 0.95
) -> NormalEstimate:
    """AUROC of `first` minus that of `second` on the same units, with the p-value of there being no difference.

    Raises:
        ShapeError, LabelError: the units are not the same, or cannot be ranked.
    """
    check_paired(first, second)
    one, other = placements(first), placements(second)
    apart = Placements(
        of_positives=one.of_positives - other.of_positives,
        of_negatives=one.of_negatives - other.of_negatives,
        weights=one.weights,
    )
    return _normal(apart.value, _variance(apart, first, clustered=clustered), level, 0.0)


def _variance(found: Placements, units: Units, *, clustered: bool) -> float:
    """Obuchowski's variance of the mean placement; also of a difference, since placements are linear in it."""
    n_units = len(units.scores)
    cluster = np.unique(units.clusters, return_inverse=True)[1] if clustered else np.arange(n_units)
    n_clusters = int(cluster.max()) + 1
    sums: list[np.ndarray] = []
    for values, weight, side in (
        (found.of_positives, found.weights[0], units.is_positive),
        (found.of_negatives, found.weights[1], ~units.is_positive),
    ):
        influence = weight * (values - found.value)
        centred = np.bincount(cluster[side], weights=influence, minlength=n_clusters)
        sums.append(centred / len(values))
    held = [len(np.unique(cluster[side])) for side in (units.is_positive, ~units.is_positive)]
    if min(held) < 2:
        return math.nan
    own = sum(n / (n - 1) * float(total @ total) for n, total in zip(held, sums, strict=True))
    return own + 2 * n_clusters / (n_clusters - 1) * float(sums[0] @ sums[1])


def _normal(value: float, variance: float, level: float, null: float) -> NormalEstimate:
    # The product term can push a variance of few transcripts below zero.
    error = math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
    reach = float(norm.ppf((1 + level) / 2)) * error
    if error == 0:
        p_value = 1.0 if value == null else math.nan
    else:
        p_value = 2 * float(norm.sf(abs(value - null) / error))
    return NormalEstimate(
        value=value,
        standard_error=error,
        low=value - reach,
        high=value + reach,
        p_value=p_value,
    )
