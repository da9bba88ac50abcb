"""Probes in closed form: difference of means, linear discriminant, ridge, and a random direction."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.matrix import size_of
from mechprobe.probes.rows import LEFT_OUT, POSITIVE, LabelledRows
from mechprobe.probes.solving.logistic import check_positive
from mechprobe.probes.solving.moments import class_means
from mechprobe.probes.solving.standardise import Scaling, scaling_of
from mechprobe.probes.weights import ClassWeight, row_weights

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

    def discriminant(Z: np.ndarray, y: np.ndarray, _weights: np.ndarray) -> Solve:
        mean_pos, mean_neg = Z[y].mean(axis=0), Z[~y].mean(axis=0)
        within = Z - np.where(y[:, None], mean_pos, mean_neg)
        covariance = within.T @ within / len(Z)
        size = float(np.trace(covariance)) / len(covariance) or 1.0
        prior = np.log(y.sum() / (~y).sum())

        def at(shrinkage: float) -> tuple[np.ndarray, float]:
            shrunk = (1 - shrinkage) * covariance + shrinkage * size * np.eye(len(covariance))
            weight = np.linalg.solve(shrunk, mean_pos - mean_neg)
            return weight, float(prior - weight @ (mean_pos + mean_neg) / 2)

        return at

    return _one_by_one("lda", "shrinkage", rows, strengths, discriminant, None)


def fit_ridge(
    rows: LabelledRows,
    strengths: Sequence[float] = (1.0,),
    *,
    seed: int = 0,
    class_weight: ClassWeight = None,
) -> list[tuple[LinearProbe, ...]]:
    """Least squares on labels +1 and -1 with an L2 penalty, on standardised columns, offset unpenalised.

    Args:
        strengths: weights of the penalty relative to the summed squared error (alpha in scikit-learn).
        seed: unused.
        class_weight: "balanced" lets both classes count the same in sum.

    Raises:
        ConfigError: a strength is not positive.
        ShapeError: the rows are sparse.
    """
    del seed
    check_positive(strengths, "l2_strength")

    def least_squares(Z: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Solve:
        target = np.where(y, 1.0, -1.0)
        mean, mean_target = weights @ Z / weights.sum(), weights @ target / weights.sum()
        centred = (Z - mean) * np.sqrt(weights)[:, None]
        gram = centred.T @ centred
        towards = centred.T @ (np.sqrt(weights) * (target - mean_target))

        def at(l2_strength: float) -> tuple[np.ndarray, float]:
            weight = np.linalg.solve(gram + l2_strength * np.eye(len(gram)), towards)
            return weight, float(mean_target - mean @ weight)

        return at

    return _one_by_one("ridge", "l2_strength", rows, strengths, least_squares, class_weight)


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


Solve = Callable[[float], tuple[Float[np.ndarray, "d"], float]]
"""Weight and offset at one strength."""

Prepare = Callable[
    [Float[np.ndarray, "tok d"], Bool[np.ndarray, "tok"], Float[np.ndarray, "tok"]], Solve
]
"""From standardised rows, labels and weights of the rows to what one strength costs: a solve, not a pass."""


def _one_by_one(
    kind: str,
    setting: str,
    rows: LabelledRows,
    strengths: Sequence[float],
    prepare: Prepare,
    class_weight: ClassWeight,
) -> list[tuple[LinearProbe, ...]]:
    """Solve for each indicator and strength on the standardised rows that the indicator uses."""
    scaling = scaling_of(rows.dense())
    Z = np.asarray(scaling.apply(rows.dense()))
    found: list[list[LinearProbe]] = [[] for _ in strengths]
    weights = row_weights(rows.labels, class_weight)
    for labels, counts in zip(rows.labels.T, weights.T, strict=True):
        used = labels != LEFT_OUT
        solve = prepare(Z[used].astype(np.float64), labels[used] == POSITIVE, counts[used])
        for at, strength in enumerate(strengths):
            found[at].append(_folded(kind, scaling, *solve(strength), {setting: float(strength)}))
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
