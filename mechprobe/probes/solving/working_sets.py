"""Which features and which rows a step of the L1 solver looks at."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Integer


def scaled_rows(part: Any, scale: Float[np.ndarray, "tok"]) -> Any:
    """Each row times its factor; a sparse matrix is changed in place."""
    if not sp.issparse(part):
        return scale[:, None] * part
    part.data *= np.repeat(scale, np.diff(part.indptr))
    return part


def working_set(
    weight: np.ndarray, gradient: np.ndarray, strength: float
) -> Integer[np.ndarray, "feature"]:
    """Features in use, and as many of those that violate the conditions most, at least 50."""
    used = weight != 0
    excess = np.where(used, -np.inf, np.abs(gradient) - strength)
    entering = np.argsort(-excess, kind="stable")[: max(50, int(used.sum()))]
    return np.flatnonzero(used | np.isin(np.arange(len(weight)), entering[excess[entering] > 0]))


def sampled(
    curvature: Float[np.ndarray, "tok"], n_rows: int
) -> tuple[Integer[np.ndarray, "row"], Float[np.ndarray, "row"]]:
    """Rows drawn evenly along the sum of their curvatures, and the curvature that each stands for."""
    if n_rows >= len(curvature):
        rows = np.flatnonzero(curvature)
        return rows, curvature[rows]
    sums = np.cumsum(curvature)
    marks = (np.arange(n_rows) + 0.5) * (sums[-1] / n_rows)
    rows, counts = np.unique(np.searchsorted(sums, marks), return_counts=True)
    return rows, counts * (sums[-1] / n_rows)
