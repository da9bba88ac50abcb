"""Directions of greatest variance that are only turned by the labels: LAT and plain PCA.

LAT is the linear artificial tomography of "Representation Engineering" (arXiv 2310.01405, section 3.1): the first
principal component of differences within random pairs of a positive and a negative row. There the order within a
pair is shuffled, so that the mean difference does not show; here both orders count, which is the average over all
shuffles. PCA takes the first component of all rows that an indicator uses.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int8
from scipy.sparse.linalg import eigsh

from mechprobe.errors import ConfigError
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import NEGATIVE, POSITIVE, LabelledRows
from mechprobe.probes.solving.standardise import no_scaling, scaling_of

STANDARDISED = (0.0, 1.0)
"""Candidates: the columns as they are (as published), or at equal spread, where no single coordinate can lead."""


def fit_lat(
    rows: LabelledRows, strengths: Sequence[float] = (0.0,), *, seed: int = 0
) -> list[tuple[LinearProbe, ...]]:
    """First principal component of the differences of randomly paired positives and negatives.

    Args:
        strengths: 0 for columns as they are, 1 for standardised columns.
        seed: of the pairing; each row of the rarer class is in one pair.

    Raises:
        ConfigError: a strength is neither 0 nor 1.
        ShapeError: the rows are sparse.
    """

    def differences(Z: np.ndarray, labels: Int8[np.ndarray, "tok"]) -> np.ndarray:
        rng = np.random.default_rng(seed)
        positive, negative = (
            rng.permutation(np.flatnonzero(labels == label)) for label in (POSITIVE, NEGATIVE)
        )
        n_pairs = min(len(positive), len(negative))
        return Z[positive[:n_pairs]] - Z[negative[:n_pairs]]

    return _fit("lat", rows, strengths, differences)


def fit_pca(
    rows: LabelledRows, strengths: Sequence[float] = (0.0,), *, seed: int = 0
) -> list[tuple[LinearProbe, ...]]:
    """First principal component of the rows; the labels only say which way it points.

    Args:
        strengths: 0 for columns as they are, 1 for standardised columns.
        seed: unused.

    Raises:
        ConfigError: a strength is neither 0 nor 1.
        ShapeError: the rows are sparse.
    """
    del seed

    def centred(Z: np.ndarray, labels: Int8[np.ndarray, "tok"]) -> np.ndarray:
        used = Z[(labels == POSITIVE) | (labels == NEGATIVE)]
        return used - used.mean(axis=0)

    return _fit("pca", rows, strengths, centred)


def _fit(
    kind: str,
    rows: LabelledRows,
    strengths: Sequence[float],
    spread: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> list[tuple[LinearProbe, ...]]:
    """For each candidate and indicator, the direction in which the rows of `spread` are longest."""
    if not len(strengths) or not set(strengths) <= {0.0, 1.0}:
        raise ConfigError(
            f"candidates are {tuple(strengths)}; give 0 (columns as they are) or 1 (standardised columns)."
        )
    X = rows.dense()
    found: list[tuple[LinearProbe, ...]] = []
    for standardised in strengths:
        scaling = scaling_of(X) if standardised else no_scaling(X)
        Z = np.asarray(scaling.apply(X), dtype=np.float64)
        probes: list[LinearProbe] = []
        for labels in rows.labels.T:
            along = _first_component(spread(Z, labels))
            ends = [Z[labels == label].mean(axis=0) @ along for label in (POSITIVE, NEGATIVE)]
            side = -1.0 if ends[0] < ends[1] else 1.0
            weight, bias = scaling.fold(side * along[:, None], np.array([-side * sum(ends) / 2]))
            probes.append(
                LinearProbe(
                    kind=kind,
                    weight=weight[:, 0].astype(np.float32),
                    bias=float(bias[0]),
                    settings={"standardised": float(standardised)},
                )
            )
        found.append(tuple(probes))
    return found


def _first_component(differences: Float[np.ndarray, "row d"]) -> Float[np.ndarray, "d"]:
    """Unit vector in which the rows are longest, around zero; of either sign."""
    n_columns = differences.shape[1]
    gram = differences.T @ differences
    if n_columns < 3 or not gram.any():
        return np.linalg.eigh(gram)[1][:, -1]
    # A start that no column is preferred in, so that the order of columns does not matter.
    return eigsh(gram, k=1, v0=np.ones(n_columns))[1][:, 0]
