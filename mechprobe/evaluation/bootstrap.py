"""Intervals for AUROCs by resampling whole transcripts.

Tokens and turns of one transcript are alike, so transcripts are drawn, and all units of one go together
(PEERS: "token-level n is never used as sample size"). One pass over the scores gives the kernel
M[a, b] = wins of the positives of transcript a over the negatives of transcript b, ties counting half; a draw
that takes transcript a c[a] times then has AUROC = c' M c / ((c' n_pos) (c' n_neg)): two matrix products for
all draws, and the same numbers as recomputing the AUROC of each resample.
"""

from dataclasses import dataclass
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
    """AUROC with its transcript-clustered bootstrap interval.

    Resampling shows no spread where the classes are separated perfectly, and too little where fewer than
    ten transcripts hold a class; there the interval is widened to the exact binomial one of as many
    independent pairs as the rarer class has transcripts.

    Raises:
        ShapeError, LabelError: the units cannot be ranked (see `auroc`).
    """
    value = auroc(units.scores, units.is_positive)
    draws = bootstrap_aurocs(units, n_boot=n_boot, seed=seed)
    kept = draws[np.isfinite(draws)]
    low, high = _percentiles(kept, level) if len(kept) else (0.0, 1.0)
    n_pairs = min(
        len(np.unique(units.clusters[units.is_positive])),
        len(np.unique(units.clusters[~units.is_positive])),
    )
    if n_pairs < _FEW_CLUSTERS or value in (0.0, 1.0):
        exact_low, exact_high = binomial_bounds(value * n_pairs, n_pairs, level)
        low, high = min(low, exact_low), max(high, exact_high)
    return Interval(value=value, low=low, high=high, n_degenerate=len(draws) - len(kept))


def auroc_difference(
    first: Units, second: Units, *, n_boot: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """AUROC of `first` minus that of `second` on the same units, both resampled by the same draws.

    Raises:
        LabelError: the two do not have the same labels and transcripts.
        ShapeError: they differ in length.
    """
    if len(first.scores) != len(second.scores):
        raise ShapeError(
            f"the first scorer has {len(first.scores)} units, the second {len(second.scores)}; a paired "
            "difference needs both on the same units."
        )
    same = (first.is_positive == second.is_positive) & (first.clusters == second.clusters)
    if not same.all():
        raise LabelError(
            f"{int((~same).sum())} of {len(same)} units have another label or transcript in the second "
            "scorer; bring both into the same order."
        )
    draws = bootstrap_aurocs(first, n_boot=n_boot, seed=seed)
    draws = draws - bootstrap_aurocs(second, n_boot=n_boot, seed=seed)
    kept = draws[np.isfinite(draws)]
    value = auroc(first.scores, first.is_positive) - auroc(second.scores, second.is_positive)
    low, high = _percentiles(kept, level) if len(kept) else (-1.0, 1.0)
    return Interval(value=value, low=low, high=high, n_degenerate=len(draws) - len(kept))


def bootstrap_aurocs(units: Units, *, n_boot: int, seed: int) -> Float[np.ndarray, "draw"]:
    """AUROC of each resample of the transcripts; NaN where a draw lacks a class."""
    codes, cluster = np.unique(units.clusters, return_inverse=True)
    return resampled_aurocs(units, cluster, cluster_draws(len(codes), n_boot, seed))


def resampled_aurocs(
    units: Units, cluster: Int[np.ndarray, "unit"], counts: Float[np.ndarray, "draw cluster"]
) -> Float[np.ndarray, "draw"]:
    """AUROC of each resample; `counts` says how often a draw takes each cluster."""
    check_scores(units.scores, units.is_positive)
    with_pos, pos = np.unique(cluster[units.is_positive], return_inverse=True)
    with_neg, neg = np.unique(cluster[~units.is_positive], return_inverse=True)
    kernel = _win_kernel(
        units.scores[units.is_positive], pos, units.scores[~units.is_positive], neg
    )
    of_pos, of_neg = counts[:, with_pos], counts[:, with_neg]
    wins = ((of_pos @ kernel) * of_neg).sum(axis=1)
    n_pairs = (of_pos @ np.bincount(pos)) * (of_neg @ np.bincount(neg))
    return np.divide(wins, n_pairs, out=np.full(len(counts), np.nan), where=n_pairs > 0)


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


def _win_kernel(
    pos_scores: np.ndarray, pos: np.ndarray, neg_scores: np.ndarray, neg: np.ndarray
) -> np.ndarray:
    """Wins of the positives of each cluster over the negatives of each, ties counting half."""
    order = np.argsort(pos_scores, kind="stable")
    ordered = pos_scores[order]
    n_neg_clusters = int(neg.max()) + 1
    # Every positive from place `beaten` on is above the negative; from place `reached` on, at least equal.
    beaten = np.searchsorted(ordered, neg_scores, side="right")
    reached = np.searchsorted(ordered, neg_scores, side="left")
    kernel = np.zeros((int(pos.max()) + 1, n_neg_clusters))
    below = np.zeros(n_neg_clusters)
    step = max(1, _BLOCK // n_neg_clusters)
    for start in range(0, len(ordered), step):
        stop = min(start + step, len(ordered))
        newly_beaten = _counts(beaten, neg, start, stop, n_neg_clusters)
        newly_reached = _counts(reached, neg, start, stop, n_neg_clusters)
        running = np.cumsum((newly_beaten + newly_reached) / 2, axis=0) + below
        below = running[-1]
        members = sp.csr_matrix(
            (np.ones(stop - start), (pos[order[start:stop]], np.arange(stop - start))),
            shape=(len(kernel), stop - start),
        )
        kernel += members @ running
    return kernel


def _counts(
    place: np.ndarray, neg: np.ndarray, start: int, stop: int, n_neg_clusters: int
) -> np.ndarray:
    """Negatives of each cluster that come in at each of the positives `start` to `stop`."""
    inside = (place >= start) & (place < stop)
    flat = (place[inside] - start) * n_neg_clusters + neg[inside]
    counts = np.bincount(flat, minlength=(stop - start) * n_neg_clusters)
    return counts.reshape(stop - start, n_neg_clusters)
