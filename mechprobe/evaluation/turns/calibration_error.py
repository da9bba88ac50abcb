"""How far probabilities are from what happens: ECE in bins of equal mass, without the bias of small samples."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from mechprobe.errors import LabelError, ShapeError
from mechprobe.evaluation.bootstrap import cluster_draws

N_BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationError:
    """Distance of stated probabilities from observed shares."""

    ece: float
    """Mean over units of |mean probability - share of positives| of the unit's bin."""
    ece_by_chance: float
    """What perfect probabilities would be expected to show: the ECE is above 0 by chance alone. Normal
    approximation for independent units (Broecker and Smith 2007 draw it)."""
    low: float
    high: float
    """Two-sided 95 % interval of the ECE by the basic bootstrap over transcripts: reflected, so that what
    chance adds to a resample is taken off again. Too high near 0; there, compare with `ece_by_chance`."""
    rms_debiased: float
    """Root of the squared error with its expected noise taken off; 0 where nothing is left.
    Source: Kumar, Liang and Ma, arXiv 1909.10155, section 4."""
    brier: float
    """Mean squared error of the probabilities."""
    brier_of_rate: float
    """The same of a detector that always states the share of positives."""
    n_bins: int


def calibration_error(
    probabilities: Float[np.ndarray, "unit"],
    is_positive: Bool[np.ndarray, "unit"],
    clusters: Integer[np.ndarray, "_"] | None = None,
    *,
    n_bins: int = N_BINS,
    n_boot: int = 1000,
    seed: int = 0,
) -> CalibrationError:
    """The errors of probabilities that were stated for units with known labels.

    Bins hold equally many units; equal probabilities are never parted, so there may be fewer bins.

    Args:
        clusters: transcript of each unit, resampled whole; None: units are independent.

    Raises:
        ShapeError: there is not one cluster for each unit.
        LabelError: there is no unit, or a probability is not between 0 and 1.
    """
    if clusters is not None and len(clusters) != len(probabilities):
        raise ShapeError(
            f"{len(clusters)} clusters for {len(probabilities)} units; give one for each."
        )
    if not len(probabilities) or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise LabelError(
            f"{len(probabilities)} units have probabilities that are not all between 0 and 1; calibrate "
            "scores first, and leave out units without one."
        )
    bins = _equal_mass(probabilities, n_bins)
    positive = is_positive.astype(np.float64)
    gaps = probabilities - positive
    cluster = (
        np.arange(len(bins)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    )
    ece = _ece(_sums(gaps, bins, np.zeros_like(bins)))
    draws = _resampled(gaps, bins, cluster, n_boot, seed)
    low, high = 2 * ece - np.quantile(draws, [0.975, 0.025])
    return CalibrationError(
        ece=float(ece.item()),
        ece_by_chance=_by_chance(probabilities, bins),
        low=float(np.clip(low.item(), 0, 1)),
        high=float(np.clip(high.item(), 0, 1)),
        rms_debiased=_rms_debiased(probabilities, positive, bins),
        brier=float((gaps**2).mean()),
        brier_of_rate=float(positive.mean() * (1 - positive.mean())),
        n_bins=int(bins.max()) + 1,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReliabilityCurve:
    """What was stated and what happened, bin by bin."""

    stated: Float[np.ndarray, "bin"]
    """Mean probability."""
    observed: Float[np.ndarray, "bin"]
    """Share of positives."""
    low: Float[np.ndarray, "bin"]
    high: Float[np.ndarray, "bin"]
    """Two-sided 95 % percentile interval of the share, by the bootstrap over transcripts; NaN where no draw has the bin."""
    n_units: Int[np.ndarray, "bin"]


def reliability_curve(
    probabilities: Float[np.ndarray, "unit"],
    is_positive: Bool[np.ndarray, "unit"],
    clusters: Integer[np.ndarray, "unit"],
    *,
    n_bins: int = N_BINS,
    n_boot: int = 1000,
    seed: int = 0,
) -> ReliabilityCurve:
    """The bins of `calibration_error` as a curve, from low to high probabilities."""
    bins = _equal_mass(probabilities, n_bins)
    n_units = np.bincount(bins)
    cluster = np.unique(clusters, return_inverse=True)[1]
    shape = (int(cluster.max()) + 1, len(n_units))
    positives, units = np.zeros(shape), np.zeros(shape)
    np.add.at(positives, (cluster, bins), is_positive.astype(np.float64))
    np.add.at(units, (cluster, bins), 1.0)
    counts = cluster_draws(len(units), n_boot, seed)
    drawn = counts @ units
    share = np.divide(counts @ positives, drawn, out=np.full(drawn.shape, np.nan), where=drawn > 0)
    low, high = np.full((2, len(n_units)), np.nan)
    is_known = np.isfinite(share).any(axis=0)
    low[is_known], high[is_known] = np.nanquantile(share[:, is_known], [0.025, 0.975], axis=0)
    return ReliabilityCurve(
        stated=np.bincount(bins, weights=probabilities) / n_units,
        observed=np.bincount(bins, weights=is_positive) / n_units,
        low=low,
        high=high,
        n_units=n_units,
    )


def _equal_mass(probabilities: np.ndarray, n_bins: int) -> Int[np.ndarray, "unit"]:
    """The bin of each unit, numbered from 0 without gaps."""
    edges = np.quantile(probabilities, np.arange(1, n_bins) / n_bins, method="lower")
    return np.unique(np.searchsorted(edges, probabilities, side="left"), return_inverse=True)[1]


def _sums(gaps: np.ndarray, bins: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Sum of the gaps of each cluster in each bin; the number of units last."""
    n_bins = int(bins.max()) + 1
    table = np.zeros((int(cluster.max()) + 1, n_bins + 1))
    np.add.at(table, (cluster, bins), gaps)
    np.add.at(table, (cluster, np.full_like(bins, n_bins)), 1.0)
    return table


def _ece(sums: np.ndarray) -> np.ndarray:
    return np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]


def _resampled(
    gaps: np.ndarray, bins: np.ndarray, cluster: np.ndarray, n_boot: int, seed: int
) -> np.ndarray:
    """ECE of each resample of the clusters, in the same bins."""
    table = _sums(gaps, bins, cluster)
    drawn = cluster_draws(len(table), n_boot, seed) @ table
    return _ece(drawn[drawn[:, -1] > 0])


def _by_chance(probabilities: np.ndarray, bins: np.ndarray) -> float:
    """Each bin's gap is about normal with the variance of its Bernoulli draws; this is its mean size."""
    variance = np.bincount(bins, weights=probabilities * (1 - probabilities))
    return float(np.sqrt(2 / np.pi * variance).sum()) / len(bins)


def _rms_debiased(probabilities: np.ndarray, positive: np.ndarray, bins: np.ndarray) -> float:
    n = np.bincount(bins)
    stated = np.bincount(bins, weights=probabilities) / n
    observed = np.bincount(bins, weights=positive) / n
    noise = np.divide(observed * (1 - observed), n - 1, out=np.zeros(len(n)), where=n > 1)
    squared = float((n / n.sum()) @ ((stated - observed) ** 2 - noise))
    return max(squared, 0.0) ** 0.5
