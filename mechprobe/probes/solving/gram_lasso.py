"""A small quadratic problem with an L1 penalty, given by its curvature alone."""

import warnings
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import enet_path

_SWEEPS = 100
_SIGN_CHANGES = 15


def lasso_on_gram(
    hessian: np.ndarray, slope: np.ndarray, start: np.ndarray, strength: float
) -> Float[np.ndarray, "feature"]:
    """Minimum of slope' (u - start) + (u - start)' hessian (u - start) / 2 + strength |u|_1.

    Coordinate descent finds the signs; solving for given signs finds the rest.
    """
    n = len(start)
    pull = hessian @ start - slope
    # scikit-learn wants rows: the triangle whose square is the curvature serves as n rows.
    root = scipy.linalg.cholesky(hessian)
    y = scipy.linalg.solve_triangular(root.T, pull, lower=True)
    with warnings.catch_warnings():
        # Signs that are not quite right yet are changed below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        path: Any = enet_path  # its annotations name the defaults' types only
        _, found, _ = path(
            np.asfortranarray(root),
            y,
            l1_ratio=1.0,
            alphas=[strength / n],
            precompute=np.ascontiguousarray(hessian),
            Xy=pull,
            coef_init=start.copy(),  # it is written to
            tol=1e-6,
            max_iter=_SWEEPS,
        )
    return _with_exact_signs(hessian, pull, np.asarray(found)[:, 0], strength)


def _with_exact_signs(
    hessian: np.ndarray, pull: np.ndarray, guess: np.ndarray, strength: float
) -> Float[np.ndarray, "feature"]:
    """The minimum, by guessing signs, solving and correcting them; the first guess if they never settle."""
    sign = np.sign(guess)
    for _ in range(_SIGN_CHANGES):
        used = np.flatnonzero(sign)
        solved = np.zeros_like(guess)
        right = pull[used] - strength * sign[used]
        solved[used] = scipy.linalg.cho_solve(
            scipy.linalg.cho_factor(hessian[np.ix_(used, used)]), right
        )
        slack = pull - hessian @ solved
        corrected = np.where(
            sign != 0,
            np.where(np.sign(solved) == sign, sign, 0),
            np.where(np.abs(slack) > strength * (1 + 1e-9), np.sign(slack), 0),
        )
        if np.array_equal(corrected, sign):
            return solved
        sign = corrected
    return guess
