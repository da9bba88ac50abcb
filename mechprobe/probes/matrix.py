"""The one place that knows that a matrix is dense (activations) or sparse (feature activations)."""

from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Integer

Matrix: TypeAlias = Float[np.ndarray, "_ _"] | sp.csr_matrix
"""One row a token; the axes have no names, since a function may take one matrix and return another."""


def is_sparse(X: Matrix) -> TypeGuard[Any]:
    """Whether the matrix is in compressed sparse rows."""
    return isinstance(X, sp.csr_matrix)


def size_of(X: Matrix) -> tuple[int, int]:
    """Rows and columns."""
    return cast(tuple[int, int], X.shape)


def stored_values(X: Matrix) -> Float[np.ndarray, "..."]:
    """Every value that is held in memory: all of a dense matrix, those of a sparse one that are not zero."""
    return X.data if is_sparse(X) else np.asarray(X)


def square(X: Matrix) -> Matrix:
    """Each value squared."""
    return sp.csr_matrix(X.multiply(X)) if is_sparse(X) else np.square(np.asarray(X))


def column_means(X: Matrix) -> Float[np.ndarray, "d"]:
    """Mean of each column, in float64."""
    n_rows = max(1, size_of(X)[0])
    if is_sparse(X):
        return np.asarray(X.sum(axis=0), dtype=np.float64).ravel() / n_rows
    return np.asarray(X).sum(axis=0, dtype=np.float64) / n_rows


def n_nonzero(X: Matrix) -> Integer[np.ndarray, "d"]:
    """In how many rows each column is not zero."""
    if is_sparse(X):
        return np.bincount(X.indices[X.data != 0], minlength=size_of(X)[1])
    return np.count_nonzero(np.asarray(X), axis=0)


def take_rows(X: Matrix, rows: np.ndarray) -> Matrix:
    """Some rows, by index or mask."""
    return cast(Any, X)[rows]


def stack_rows(first: Matrix, second: Matrix) -> Matrix:
    """The rows of both, those of the first before those of the second."""
    if is_sparse(first):
        return sp.csr_matrix(sp.vstack([first, second]))
    return np.concatenate([np.asarray(first), np.asarray(second)])


def take_columns(X: Matrix, columns: np.ndarray) -> Float[np.ndarray, "tok k"]:
    """Some columns, dense."""
    if is_sparse(X):
        return np.asarray(sp.csc_matrix(X)[:, columns].toarray())
    return np.asarray(X)[:, columns]
