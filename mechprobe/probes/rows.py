"""Rows to fit on: a matrix, and for each row and indicator whether it is positive, negative or left out.

One matrix serves all indicators, so that each pass over it fits all probes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int8, Integer

from mechprobe.errors import LabelError, ShapeError
from mechprobe.probes.matrix import Matrix, is_sparse, size_of, stored_values

POSITIVE, NEGATIVE, LEFT_OUT = 1, 0, -1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOutRows:
    """Rows that a setting is chosen on; an indicator may lack a class there."""

    X: Matrix
    labels: Int8[np.ndarray, "tok indicator"]
    """1 positive, 0 negative, -1 left out."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledRows:
    """Rows with their labels for every indicator.

    Raises:
        ShapeError: the matrix, the labels and the indicators do not fit each other.
        LabelError: a value is not finite, or an indicator has only one class.
    """

    X: Matrix
    labels: Int8[np.ndarray, "tok indicator"]
    """1 positive, 0 negative, -1 left out."""
    indicators: tuple[str, ...]

    def __post_init__(self) -> None:
        n_rows, n_indicators = self.labels.shape
        if size_of(self.X)[0] != n_rows or len(self.indicators) != n_indicators:
            raise ShapeError(
                f"{size_of(self.X)[0]} rows and {len(self.indicators)} indicators come with labels of shape "
                f"{self.labels.shape}; labels need one row a row and one column an indicator."
            )
        check_finite(self.X)
        check_classes(self.labels, self.indicators)

    @property
    def n_pos(self) -> Integer[np.ndarray, "indicator"]:
        """Positive rows of each indicator."""
        return (self.labels == POSITIVE).sum(axis=0)

    @property
    def n_neg(self) -> Integer[np.ndarray, "indicator"]:
        """Negative rows of each indicator."""
        return (self.labels == NEGATIVE).sum(axis=0)

    def dense(self) -> Float[np.ndarray, "tok d"]:
        """The matrix, if it is dense.

        Raises:
            ShapeError: it is sparse.
        """
        if is_sparse(self.X):
            raise ShapeError(
                f"this estimator reads dense activations, got a sparse matrix of shape {size_of(self.X)}; "
                "use k_sparse, logistic or lasso on sparse features."
            )
        return np.asarray(self.X)


def fittable(labels: Int8[np.ndarray, "tok indicator"]) -> Integer[np.ndarray, "kept"]:
    """Columns with at least one positive and one negative row."""
    return np.flatnonzero((labels == POSITIVE).any(axis=0) & (labels == NEGATIVE).any(axis=0))


def check_classes(labels: Int8[np.ndarray, "tok indicator"], indicators: tuple[str, ...]) -> None:
    """Raise LabelError unless every indicator has rows of both classes."""
    counts = [(labels == which).sum(axis=0) for which in (POSITIVE, NEGATIVE)]
    for indicator, n_pos, n_neg in zip(indicators, *counts, strict=True):
        if not n_pos or not n_neg:
            raise LabelError(
                f"indicator {indicator!r} has {n_pos} positive and {n_neg} negative rows; a probe "
                "needs at least one of each: leave the indicator out or label more text."
            )


def check_finite(X: Matrix) -> None:
    """Raise LabelError if a value is NaN or infinite."""
    values = stored_values(X)
    if not np.isfinite(values).all():
        n_bad = int((~np.isfinite(values)).sum())
        raise LabelError(
            f"{n_bad} values of the {size_of(X)[0]} x {size_of(X)[1]} matrix are not finite; look for "
            "overflowing layers (capture in bfloat16 or float32) before fitting probes."
        )
