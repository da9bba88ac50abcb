"""The few statistics a verdict rests on; the unit that is resampled is always the transcript.

Items of one transcript are not independent, so intervals, signs and equivalence all work on clusters (CAUSAL.md
section 5). scipy and statsmodels do the work where they have the method.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, stats
from statsmodels.stats.weightstats import DescrStatsW

MONOTONE_R2 = 0.8
"""Share of a dose curve's variance that a rising curve must explain. Not a rank correlation: a curve that
saturates has ties, and the noise on its plateau would decide."""
REVERSAL = 0.1
"""Fall below the best effect, in units of the outcome's natural gap, that counts as an inverted U."""
POWER = 0.9
"""Chance of success for which the numbers of items needed are given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean with its confidence bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Equivalence:
    """Two one-sided tests that a mean lies inside +-margin."""

    p_value: float
    low: float
    """Lower end of the 90 % interval, which lies inside the margin just when p < .05."""
    high: float
    n_needed: int
    """Transcripts that would show equivalence with power .9 if the spread stays as it is; 0: unknown."""
    detectable: float = math.nan
    """The least mean that a one-sided test at .05 would find with power .9 (minimum detectable effect)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DoseTrend:
    """How an effect follows the strength of steering."""

    spearman: float
    isotonic_r2: float
    reverses: bool
    """The strongest dose does clearly less than the best one; common far off the data (2511.18284)."""
    is_monotone: bool


def cluster_bootstrap(
    values: Float[np.ndarray, "case"],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of a mean, resampling whole clusters.

    With fewer than two clusters, or no spread, there is nothing to resample: the bounds are NaN, or the mean.
    """
    sums, counts = cluster_totals(values, clusters)
    if len(sums) < 2:
        mean = float(np.mean(values)) if len(values) else math.nan
        return Interval(value=mean, low=math.nan, high=math.nan)
    mean = float(sums.sum() / counts.sum())
    if np.ptp(sums / counts) < 1e-12:
        return Interval(value=mean, low=mean, high=mean)
    found = stats.bootstrap(
        (sums, counts),
        lambda total, count, axis=-1: total.sum(axis) / count.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=n_boot,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value=mean, low=float(found.low), high=float(found.high))


def bootstrap_many(
    values: Float[np.ndarray, "case draw"],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int = 0,
) -> Float[np.ndarray, "draw 2"]:
    """Percentile intervals of many means over the same items with one set of resamples (for null draws)."""
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return np.full((values.shape[1], 2), np.nan)
    member = np.zeros((len(names), len(index)))
    member[index, np.arange(len(index))] = 1.0
    sums, counts = member @ values, member.sum(1)
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=n_boot
    )
    means = (draws @ sums) / (draws @ counts)[:, None]
    tail = (1 - level) / 2
    return np.quantile(means, [tail, 1 - tail], axis=0).T


def sign_flip_p(
    values: Float[np.ndarray, "case"],
    clusters: Sequence[str],
    *,
    n_permutations: int = 5000,
    seed: int = 0,
) -> float:
    """One-sided p that the mean is above 0, from flipping the sign of whole clusters; exact when few."""
    sums, _counts = cluster_totals(values, clusters)
    if len(sums) == 0:
        return math.nan
    if len(sums) == 1:
        return 0.5 if sums[0] > 0 else 1.0
    found = stats.permutation_test(
        (sums,),
        lambda total, axis=-1: total.sum(axis),
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        n_resamples=n_permutations,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def empirical_p(effect: float, null: Float[np.ndarray, "draw"]) -> float:
    """(1 + draws at least as large) / (1 + draws): where an effect stands in its operation-matched null."""
    kept = null[np.isfinite(null)]
    if not math.isfinite(effect) or len(kept) == 0:
        return math.nan
    return (1 + int((kept >= effect).sum())) / (1 + len(kept))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg q-values of an exploratory map; a NaN was not tested and does not count."""
    p = np.asarray(p_values, dtype=float)
    tested = np.isfinite(p)
    adjusted = np.full(len(p), np.nan)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p[tested], method="bh")
    return adjusted.tolist()


def equivalence(
    values: Float[np.ndarray, "case"], clusters: Sequence[str], *, margin: float
) -> Equivalence:
    """Whether the mean is zero for practical purposes: TOST over the means of clusters (2410.13032)."""
    sums, counts = cluster_totals(values, clusters)
    means = sums / counts
    if len(means) < 2:
        return Equivalence(p_value=math.nan, low=math.nan, high=math.nan, n_needed=0)
    spread = float(means.std(ddof=1))
    if spread < 1e-9:
        inside = abs(float(means.mean())) < margin
        mean = float(means.mean())
        return Equivalence(
            p_value=0.0 if inside else 1.0, low=mean, high=mean, n_needed=2, detectable=0.0
        )
    described = DescrStatsW(means)
    p_value = float(described.ttost_mean(-margin, margin)[0])
    low, high = described.tconfint_mean(alpha=0.10)
    return Equivalence(
        p_value=p_value,
        low=float(low),
        high=float(high),
        n_needed=needed_for_equivalence(float(means.mean()), spread, margin=margin),
        detectable=float(stats.norm.ppf(0.95) + stats.norm.ppf(POWER)) * spread / len(means) ** 0.5,
    )


def needed_for_equivalence(mean: float, spread: float, *, margin: float) -> int:
    """Transcripts that TOST at .05 needs with power .9; 0 where the mean itself is outside the margin."""
    room = margin - abs(mean)
    if room <= 0:
        return 0
    normal = stats.norm.ppf(0.95) + stats.norm.ppf(POWER)
    return max(2, math.ceil((normal * spread / room) ** 2))


def needed_for_sign_flip(family_size: int, *, alpha: float = 0.05) -> int:
    """Fewest transcripts whose sign flips (2^n patterns) can reach alpha after Holm over the family."""
    return math.ceil(math.log2(family_size / alpha))


def dose_trend(
    strengths: Float[np.ndarray, "dose"],
    effects: Float[np.ndarray, "dose"],
    *,
    low: float = -1.0,
    high: float = 1.0,
) -> DoseTrend:
    """Whether the effect rises with the strength from `low` to `high`, where activations still look natural."""
    order = np.argsort(strengths)
    strengths, effects = strengths[order], effects[order]
    near = (strengths >= low - 1e-9) & (strengths <= high + 1e-9)
    x, y = strengths[near], effects[near]
    if len(x) < 3 or not np.isfinite(y).all() or np.ptp(y) < 1e-9:
        return DoseTrend(spearman=math.nan, isotonic_r2=math.nan, reverses=False, is_monotone=False)
    spearman = float(np.asarray(stats.spearmanr(x, y))[0])
    fitted = optimize.isotonic_regression(y).x
    r2 = 1.0 - float(((y - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    return DoseTrend(
        spearman=spearman,
        isotonic_r2=r2,
        reverses=bool(effects[-1] < effects.max() - REVERSAL),
        is_monotone=bool(y[-1] > y[0]) and r2 >= MONOTONE_R2,
    )


def cluster_totals(
    values: Float[np.ndarray, "case"], clusters: Sequence[str]
) -> tuple[Float[np.ndarray, "cluster"], Int[np.ndarray, "cluster"]]:
    """Sum and number of the values of each cluster, in the order of their names."""
    _names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    counts = np.bincount(index) if len(index) else np.zeros(0, dtype=np.int64)
    sums = np.bincount(index, weights=values) if len(index) else np.zeros(0)
    return sums, counts
