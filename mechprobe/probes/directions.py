"""Probes in closed form: difference of means, linear discriminant, ridge, and a random direction."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.logistic import check_positive
from mechprobe.probes.matrix import size_of
from mechprobe.probes.moments import class_means
from mechprobe.probes.rows import LEFT_OUT, POSITIVE, LabelledRows
from mechprobe.probes.standardise import Scaling, scaling_of

SHRINKAGES = (0.5, 0.1, 0.01, 0.001)
"""Candidates for `fit_lda`, strongest first."""


def fit_difference_of_means(
    rows: LabelledRows, strengths: Sequence[float] = (0.0,), *, seed: int = 0
) -> list[tuple[LinearProbe, ...]]:
    """Direction from the mean negative to the mean positive; zero halfway between them.

    Args:
        strengths: unused; there is nothing to choose.
        seed: unused.

    Source: "DiffMean" of arXiv 2501.17148, the strongest unsupervised-threshold detector there.
    """
    del strengths, seed
    means = class_means(rows)
    middle = (means.mean_positive + means.mean_negative) / 2
    bias = -(middle * means.difference).sum(axis=0)
    return [_probes("difference_of_means", means.difference, bias)]


def fit_lda(
    rows: LabelledRows, strengths: Sequence[float] = (0.1,), *, seed: int = 0
) -> list[tuple[LinearProbe, ...]]:
    """Linear discriminant analysis; the score is the log-odds under Gaussian classes of equal covariance.

    Args:
        strengths: shrinkages of the within-class covariance towards its mean variance, in (0, 1], on
            standardised columns.
        seed: unused.

    Raises:
        ConfigError: a shrinkage is not positive.
        ShapeError: the rows are sparse.
    """
    del seed
    check_positive(strengths, "shrinkage")

    def discriminant(
        Z: Float[np.ndarray, "tok d"], y: Bool[np.ndarray, "tok"], shrinkage: float
    ) -> tuple[np.ndarray, float]:
        mean_pos, mean_neg = Z[y].mean(axis=0), Z[~y].mean(axis=0)
        within = Z - np.where(y[:, None], mean_pos, mean_neg)
        covariance = within.T @ within / len(Z)
        size = float(np.trace(covariance)) / len(covariance) or 1.0
        shrunk = (1 - shrinkage) * covariance + shrinkage * size * np.eye(len(covariance))
        weight = np.linalg.solve(shrunk, mean_pos - mean_neg)
        prior = np.log(y.sum() / (~y).sum())
        return weight, float(prior - weight @ (mean_pos + mean_neg) / 2)

    return _one_by_one("lda", "shrinkage", rows, strengths, discriminant)


def fit_ridge(
    rows: LabelledRows, strengths: Sequence[float] = (1.0,), *, seed: int = 0
) -> list[tuple[LinearProbe, ...]]:
    """Least squares on labels +1 and -1 with an L2 penalty, on standardised columns, offset unpenalised.

    Args:
        strengths: weights of the penalty relative to the summed squared error (alpha in scikit-learn).
        seed: unused.

    Raises:
        ConfigError: a strength is not positive.
        ShapeError: the rows are sparse.
    """
    del seed
    check_positive(strengths, "l2_strength")

    def least_squares(
        Z: Float[np.ndarray, "tok d"], y: Bool[np.ndarray, "tok"], l2_strength: float
    ) -> tuple[np.ndarray, float]:
        target = np.where(y, 1.0, -1.0)
        mean, mean_target = Z.mean(axis=0), target.mean()
        centred = Z - mean
        gram = centred.T @ centred + l2_strength * np.eye(Z.shape[1])
        weight = np.linalg.solve(gram, centred.T @ (target - mean_target))
        return weight, float(mean_target - mean @ weight)

    return _one_by_one("ridge", "l2_strength", rows, strengths, least_squares)


def fit_random_direction(
    rows: LabelledRows, strengths: Sequence[float] = (0.0,), *, seed: int = 0
) -> list[tuple[LinearProbe, ...]]:
    """A random direction in standardised coordinates, turned to the side of the positives.

    What luck alone gives a direction whose sign is known; every probe must beat it.

    Args:
        strengths: unused.
        seed: of the directions.
    """
    del strengths
    scaling = scaling_of(rows.X)
    drawn = np.random.default_rng(seed).normal(size=(size_of(rows.X)[1], len(rows.indicators)))
    weight, bias = scaling.fold(drawn, np.zeros(len(rows.indicators)))
    side = np.where((weight * class_means(rows).difference).sum(axis=0) < 0, -1.0, 1.0)
    return [_probes("random_direction", weight * side, bias * side)]


def _one_by_one(
    kind: str,
    setting: str,
    rows: LabelledRows,
    strengths: Sequence[float],
    solve: Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, float]],
) -> list[tuple[LinearProbe, ...]]:
    """Solve for each indicator and strength on the standardised rows that the indicator uses."""
    scaling = scaling_of(rows.dense())
    Z = np.asarray(scaling.apply(rows.dense()))
    found: list[list[LinearProbe]] = [[] for _ in strengths]
    for labels in rows.labels.T:
        used = labels != LEFT_OUT
        part = Z[used].astype(np.float64)
        for at, strength in enumerate(strengths):
            weight, bias = solve(part, labels[used] == POSITIVE, strength)
            found[at].append(_folded(kind, scaling, weight, bias, {setting: float(strength)}))
    return [tuple(probes) for probes in found]


def _folded(
    kind: str, scaling: Scaling, weight: np.ndarray, bias: float, settings: dict[str, float]
) -> LinearProbe:
    raw, raw_bias = scaling.fold(weight[:, None], np.array([bias]))
    return LinearProbe(
        kind=kind, weight=raw[:, 0].astype(np.float32), bias=float(raw_bias[0]), settings=settings
    )


def _probes(kind: str, weight: np.ndarray, bias: np.ndarray) -> tuple[LinearProbe, ...]:
    return tuple(
        LinearProbe(
            kind=kind,
            weight=np.ascontiguousarray(weight[:, at], dtype=np.float32),
            bias=float(bias[at]),
        )
        for at in range(len(bias))
    )
