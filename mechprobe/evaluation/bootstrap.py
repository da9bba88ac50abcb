"""Intervals for AUROCs by resampling whole transcripts.

Tokens and turns of one transcript are alike, so transcripts are drawn, and all units of one go together. A draw
takes transcript t c[t] times, so its AUROC is a bilinear form in c: the sum over positives p of c[p] times the
negatives below p, each counted c times, ties half, over the number of pairs. What a positive wins over the next
lower one depends on few transcripts, so that one sparse product and one running sum serve all draws. The numbers
are those of recomputing the AUROC of each resample.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.stats import beta

from mechprobe.errors import LabelError, ShapeError
from mechprobe.evaluation.metrics import auroc, check_scores
from mechprobe.evaluation.units import Units

_FEW_CLUSTERS = 10
_BLOCK = 1 << 23
"""Largest number of float64 entries held at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate and its two-sided percentile interval."""

    value: float
    low: float
    high: float
    n_degenerate: int = 0
    """Draws that were left out because no positive or no negative was in them."""


def auroc_interval(
    units: Units, *, n_boot: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """AUROC, over the pairs of one fold each, with its transcript-clustered bootstrap interval.

    Resampling shows no spread where the classes are separated perfectly, and too little where fewer than
    ten transcripts hold a class; there the interval is widened to the exact binomial one of as many
    independent pairs as the rarer class has transcripts.

    Raises:
        ShapeError, LabelError: the units cannot be ranked (see `auroc`).
    """
    return resampled_interval(
        pair_auroc(units),
        bootstrap_aurocs(units, n_boot=n_boot, seed=seed),
        min(n_clusters(units, positive=True), n_clusters(units, positive=False)),
        level,
    )


def pair_auroc(units: Units) -> float:
    """Share of the pairs within folds that are ranked right, ties counting half; NaN where there is no pair.

    Raises:
        ShapeError, LabelError: one fit scored all units, and they cannot be ranked (see `auroc`).
    """
    if units.fold is None:
        return auroc(units.scores, units.is_positive)
    parts = list(units.parts())
    if not parts:
        return float("nan")
    values = [auroc(part.scores, part.is_positive) for part in parts]
    return float(np.average(values, weights=[part.n_pairs for part in parts]))


def resampled_interval(
    value: float, draws: Float[np.ndarray, "draw"], n_independent: int, level: float = 0.95
) -> Interval:
    """Percentile interval of a share, widened to the exact binomial one where resampling shows too little.

    Args:
        n_independent: how many independent things the share is at best a mean over.
    """
    kept = draws[np.isfinite(draws)]
    low, high = _percentiles(kept, level) if len(kept) else (0.0, 1.0)
    if n_independent < _FEW_CLUSTERS or value in (0.0, 1.0):
        exact_low, exact_high = binomial_bounds(value * n_independent, n_independent, level)
        low, high = min(low, exact_low), max(high, exact_high)
    return Interval(value=value, low=low, high=high, n_degenerate=len(draws) - len(kept))


def n_clusters(units: Units, *, positive: bool) -> int:
    """How many transcripts hold a unit of that class."""
    return len(np.unique(units.clusters[units.is_positive == positive]))


def auroc_difference(
    first: Units, second: Units, *, n_boot: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """AUROC of `first` minus that of `second` on the same units, both resampled by the same draws.

    Raises:
        LabelError: the two do not have the same labels and transcripts.
        ShapeError: they differ in length.
    """
    draws = bootstrap_differences(first, second, n_boot=n_boot, seed=seed)
    kept = draws[np.isfinite(draws)]
    value = pair_auroc(first) - pair_auroc(second)
    low, high = _percentiles(kept, level) if len(kept) else (-1.0, 1.0)
    return Interval(value=value, low=low, high=high, n_degenerate=len(draws) - len(kept))


def check_paired(first: Units, second: Units) -> None:
    """Raise unless both scorers have the same units, in the same order and folds.

    Raises:
        LabelError: the two do not have the same labels, transcripts and folds.
        ShapeError: they differ in length.
    """
    if len(first.scores) != len(second.scores):
        raise ShapeError(
            f"the first scorer has {len(first.scores)} units, the second {len(second.scores)}; a paired "
            "difference needs both on the same units."
        )
    same = (first.is_positive == second.is_positive) & (first.clusters == second.clusters)
    if first.fold is not None and second.fold is not None:
        same &= first.fold == second.fold
    elif first.fold is not second.fold:
        same &= False
    if not same.all():
        raise LabelError(
            f"{int((~same).sum())} of {len(same)} units have another label, transcript or fold in the second "
            "scorer; bring both into the same order."
        )


def bootstrap_differences(
    first: Units, second: Units, *, n_boot: int, seed: int
) -> Float[np.ndarray, "draw"]:
    """AUROC of `first` minus that of `second` on each resample of the transcripts; NaN where it lacks a class.

    Raises:
        ShapeError, LabelError: the units are not the same, or cannot be ranked.
    """
    check_paired(first, second)
    draws = bootstrap_aurocs(first, n_boot=n_boot, seed=seed)
    return draws - bootstrap_aurocs(second, n_boot=n_boot, seed=seed)


def bootstrap_aurocs(units: Units, *, n_boot: int, seed: int) -> Float[np.ndarray, "draw"]:
    """AUROC of each resample of the transcripts; NaN where a draw lacks a class."""
    codes, cluster = np.unique(units.clusters, return_inverse=True)
    return resampled_aurocs(units, cluster, cluster_draws(len(codes), n_boot, seed))


def resampled_aurocs(
    units: Units, cluster: Int[np.ndarray, "unit"], counts: Float[np.ndarray, "draw cluster"]
) -> Float[np.ndarray, "draw"]:
    """AUROC of each resample, over the pairs of one fold each; `counts` says how often a draw takes each cluster."""
    if units.fold is None:
        wins, n_pairs = _resampled_wins(units, cluster, counts)
    else:
        numbers, of_unit = np.unique(units.fold, return_inverse=True)
        wins, n_pairs = np.zeros(len(counts)), np.zeros(len(counts))
        for number in range(len(numbers)):
            here = of_unit == number
            if not 0 < units.is_positive[here].sum() < here.sum():
                continue
            part = replace(
                units,
                scores=units.scores[here],
                is_positive=units.is_positive[here],
                clusters=units.clusters[here],
                fold=None,
            )
            of_part = _resampled_wins(part, cluster[here], counts)
            wins, n_pairs = wins + of_part[0], n_pairs + of_part[1]
    return np.divide(wins, n_pairs, out=np.full(len(counts), np.nan), where=n_pairs > 0)


def _resampled_wins(
    units: Units, cluster: Int[np.ndarray, "unit"], counts: Float[np.ndarray, "draw cluster"]
) -> tuple[Float[np.ndarray, "draw"], Float[np.ndarray, "draw"]]:
    """Pairs that are ranked right in each resample, and all its pairs."""
    check_scores(units.scores, units.is_positive)
    order = np.argsort(units.scores[units.is_positive], kind="stable")
    positives, pos = units.scores[units.is_positive][order], cluster[units.is_positive][order]
    negatives, neg = units.scores[~units.is_positive], cluster[~units.is_positive]
    gains = _gains(positives, negatives, neg, counts.shape[1])
    wins = np.empty(len(counts))
    step = max(1, _BLOCK // len(positives))
    for start in range(0, len(counts), step):
        drawn = np.ascontiguousarray(counts[start : start + step].T)
        beaten = np.cumsum(gains @ drawn, axis=0)
        wins[start : start + step] = np.einsum("pr,pr->r", beaten, drawn[pos])
    n_clusters = counts.shape[1]
    of_pos, of_neg = (np.bincount(side, minlength=n_clusters) for side in (pos, neg))
    return wins, (counts @ of_pos) * (counts @ of_neg)


def _gains(
    positives: np.ndarray, negatives: np.ndarray, neg: np.ndarray, n_clusters: int
) -> sp.csr_matrix:
    """Negatives of each cluster that each of the sorted positives beats and the one below it does not.

    A negative counts half from the first positive that reaches it and half from the first that exceeds it.
    """
    reached = np.searchsorted(positives, negatives, side="left")
    exceeded = np.searchsorted(positives, negatives, side="right")
    place = np.r_[reached, exceeded], np.r_[neg, neg]
    halves = np.full(2 * len(neg), 0.5)
    # Those above every positive stand in one row more, which is dropped.
    gains = sp.csr_matrix((halves, place), shape=(len(positives) + 1, n_clusters))
    return gains[:-1]


@lru_cache(maxsize=8)
def cluster_draws(n_clusters: int, n_boot: int, seed: int) -> Float[np.ndarray, "draw cluster"]:
    """How often each of `n_boot` draws of `n_clusters` with replacement takes each cluster."""
    drawn = np.random.default_rng(seed).integers(n_clusters, size=(n_boot, n_clusters))
    flat = drawn + n_clusters * np.arange(n_boot)[:, None]
    counts = np.bincount(flat.ravel(), minlength=n_boot * n_clusters).astype(np.float64)
    counts = counts.reshape(n_boot, n_clusters)
    counts.flags.writeable = False  # the cache hands the same array to every caller
    return counts


def binomial_bounds(n_wins: float, n_pairs: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson bounds of a proportion; `n_wins` may be fractional (ties count half)."""
    tail = (1 - level) / 2
    n_losses = n_pairs - n_wins
    low = float(beta.ppf(tail, n_wins, n_losses + 1)) if n_wins > 0 else 0.0
    high = float(beta.ppf(1 - tail, n_wins + 1, n_losses)) if n_losses > 0 else 1.0
    return low, high


def _percentiles(draws: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
