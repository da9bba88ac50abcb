"""Bring columns to a common scale before a penalty compares their weights, and fold the scale back."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from mechprobe.probes.matrix import Matrix, column_means, is_sparse, n_nonzero, size_of, square

_MIN_FIRINGS = 5
"""A feature that fires on fewer rows than this tells about single rows only."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scaling:
    """An affine map of the columns: (x - mean) * factor."""

    mean: Float[np.ndarray, "d"]
    factor: Float[np.ndarray, "d"]
    """One over the standard deviation; 0 for columns that are constant or fire too rarely."""

    def apply(self, X: Matrix) -> Matrix:
        """The scaled matrix in the dtype of X; a sparse matrix stays sparse, its mean being 0."""
        if is_sparse(X):
            return sp.csr_matrix(X @ sp.diags_array(self.factor.astype(X.dtype)))
        dense = np.asarray(X)
        return (dense - self.mean.astype(dense.dtype)) * self.factor.astype(dense.dtype)

    def fold(
        self, weight: Float[np.ndarray, "d column"], bias: Float[np.ndarray, "column"]
    ) -> tuple[Float[np.ndarray, "d column"], Float[np.ndarray, "column"]]:
        """Weights and offsets that give the same scores on unscaled columns."""
        raw = weight * self.factor[:, None]
        return raw, bias - self.mean @ raw


def scaling_of(X: Matrix) -> Scaling:
    """Standard scaling of dense columns; division by the standard deviation alone for sparse ones."""
    mean = column_means(X)
    if is_sparse(X):
        std = np.sqrt(np.maximum(column_means(square(X)) - mean**2, 0))
        std[n_nonzero(X) < _MIN_FIRINGS] = 0
        return Scaling(mean=np.zeros(len(mean)), factor=_inverse(std))
    centred = np.asarray(X) - mean.astype(X.dtype)
    std = np.sqrt(column_means(np.square(centred)))
    std[constant_columns(std, mean)] = 0
    return Scaling(mean=mean, factor=_inverse(std))


def constant_columns(
    std: Float[np.ndarray, "d"], mean: Float[np.ndarray, "d"]
) -> Bool[np.ndarray, "d"]:
    """Columns whose spread is rounding alone."""
    return std <= 1e-6 * np.abs(mean)


def no_scaling(X: Matrix) -> Scaling:
    """Columns as they are."""
    n_columns = size_of(X)[1]
    return Scaling(mean=np.zeros(n_columns), factor=np.ones(n_columns))


def _inverse(std: np.ndarray) -> np.ndarray:
    return np.divide(1.0, std, out=np.zeros_like(std), where=std > 0)
