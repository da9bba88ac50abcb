"""Logistic probes with an L1 penalty on screened features.

On real SAE codes, whose features are correlated, coordinate descent over all features took minutes for one
indicator; here the features of largest class separation are kept and all indicators and penalties descend
together by accelerated proximal gradients (FISTA with restarts: Beck and Teboulle 2009; O'Donoghue and
Candes, arXiv 1204.3982).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.logistic import check_positive, probes_of
from mechprobe.probes.matrix import size_of, take_columns
from mechprobe.probes.moments import class_separation
from mechprobe.probes.rows import LEFT_OUT, POSITIVE, LabelledRows
from mechprobe.probes.standardise import scaling_of

L1_STRENGTHS = (100.0, 10.0, 1.0)
"""Candidates on standardised columns, strongest (sparsest) first."""


def fit_lasso(
    rows: LabelledRows,
    strengths: Sequence[float] = (1.0,),
    *,
    seed: int = 0,
    n_screened: int = 128,
    tol: float = 1e-4,
    max_steps: int = 1000,
) -> list[tuple[LinearProbe, ...]]:
    """For each strength, one probe for each indicator, sparse within its best-separated features.

    Args:
        strengths: L1 strengths relative to the summed log loss (1 / C in scikit-learn).
        seed: unused; the optimum is unique for features in general position.
        n_screened: features that each indicator may use.
        tol: largest violation of the optimality conditions of the mean loss.

    Raises:
        ConfigError: a strength is not positive.
    """
    del seed
    check_positive(strengths, "l1_strength")
    ranked = np.argsort(-np.abs(class_separation(rows)), axis=0, kind="stable")[:n_screened]
    union = np.unique(ranked)
    X = take_columns(rows.X, union)
    scaling = scaling_of(X)
    allowed = np.zeros((len(union), len(rows.indicators)))
    np.put_along_axis(allowed, np.searchsorted(union, ranked), 1.0, axis=0)
    problem = _Proximal(np.asarray(scaling.apply(X)), rows.labels, allowed, strengths)
    theta = problem.solve(tol, max_steps).double().numpy()
    weight, bias = scaling.fold(theta[:-1], theta[-1])
    full = np.zeros((size_of(rows.X)[1], weight.shape[1]))
    full[union] = weight
    return probes_of("lasso", "l1_strength", strengths, full, bias)


class _Proximal:
    """Columns (indicator slowest, strength fastest) of smooth loss plus soft threshold."""

    def __init__(
        self, Z: np.ndarray, labels: np.ndarray, allowed: np.ndarray, strengths: Sequence[float]
    ) -> None:
        self._Z = torch.from_numpy(np.ascontiguousarray(Z))
        dtype = self._Z.dtype

        def spread(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(dtype).repeat_interleave(len(strengths), dim=-1)

        self._used, self._target = spread(labels != LEFT_OUT), spread(labels == POSITIVE)
        self._n_used = self._used.sum(dim=0)
        self._allowed = spread(allowed)
        self._penalty = torch.tensor(strengths, dtype=dtype).repeat(labels.shape[1]) / self._n_used
        # The logistic loss curves at most a quarter as fast as the squares of the design with its offset.
        self._curvature = (_largest_eigenvalue(self._Z) + len(Z)) / 4 / self._n_used

    def solve(self, tol: float, max_steps: int) -> Tensor:
        theta = torch.zeros(len(self._allowed) + 1, len(self._n_used), dtype=self._Z.dtype)
        ahead, momentum = theta, torch.ones_like(self._n_used)
        for _ in range(max_steps):
            new = self._proximal_step(ahead)
            # Restart a column's momentum where it points uphill.
            uphill = ((ahead - new) * (new - theta)).sum(dim=0) > 0
            momentum = torch.where(uphill, 1.0, momentum)
            grown = (1 + torch.sqrt(1 + 4 * momentum.square())) / 2
            # Times the curvature, a proximal step is the violation of the optimality conditions.
            violation = (self._curvature * (new - ahead)).abs().max()
            ahead = new + (momentum - 1) / grown * (new - theta)
            theta, momentum = new, grown
            if violation <= tol:
                break
        return theta

    def _proximal_step(self, theta: Tensor) -> Tensor:
        logits = self._Z @ theta[:-1] + theta[-1]
        residual = (torch.sigmoid(logits) - self._target) * self._used / self._n_used
        weight = (theta[:-1] - self._Z.mT @ residual / self._curvature) * self._allowed
        threshold = self._penalty / self._curvature
        shrunk = weight.sign() * (weight.abs() - threshold).clamp(min=0)
        bias = theta[-1:] - residual.sum(dim=0, keepdim=True) / self._curvature
        return torch.cat([shrunk, bias])


def _largest_eigenvalue(Z: Tensor) -> float:
    """Largest eigenvalue of Z'Z, by power iteration, a little above it to be safe."""
    v = torch.ones(Z.shape[1], dtype=Z.dtype)
    for _ in range(30):
        v = Z.mT @ (Z @ (v / v.norm()))
    return 1.05 * float(v.norm())
