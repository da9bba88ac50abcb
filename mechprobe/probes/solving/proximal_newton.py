"""The full L1 problem for many logistic columns: proximal Newton steps on working sets, certified over all features.

A step reads all rows twice for all columns together. In between, each column solves a small quadratic problem on the
features that it uses or that want to enter (Yuan, Ho and Lin, JMLR 13, 2012), with curvature from the rows that
matter to it. A column is done when its duality gap, in which every feature counts, is small.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mechprobe.probes.matrix import Matrix, is_sparse, size_of, square
from mechprobe.probes.solving.gram_lasso import lasso_on_gram
from mechprobe.probes.solving.working_sets import sampled, scaled_rows, working_set

_ROWS_PER_FEATURE = 40
"""Rows, for each feature of a working set, that curvature is taken from while far from the optimum; from near it on,
each step takes four times as many as the one before."""
_MIN_ROWS = 4000
_HALVINGS = 20
_DAMPING = 1e-4
"""Added to each feature's curvature, as a share of it."""
_FLOOR = 1e-6
"""Added to each feature's curvature, as a share of the largest that it can have."""
_STRIDE = 5.0
"""How far apart the penalties are on the way to the first one asked for."""
_NEAR = 4.0
"""A gap is worth computing where no slope exceeds the penalty by more than this factor."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SparseSolution:
    """Weights and offsets of the columns, with a bound on how far each is from its optimum."""

    weight: Float[np.ndarray, "d column"]
    bias: Float[np.ndarray, "column"]
    gap: Float[np.ndarray, "column"]
    """Duality gap over the objective: the optimum lies at most this share below."""


def solve_l1(
    X: Matrix,
    sign: Float[np.ndarray, "column tok"],
    size: Float[np.ndarray, "column tok"],
    strengths: Sequence[float],
    *,
    tol: float = 1e-5,
    max_steps: int = 100,
) -> list[SparseSolution]:
    """Minimise summed log loss + strength |w|_1 of every column, for falling strengths; the offset is free.

    Args:
        sign: +1 positive, -1 negative, 0 left out.
        size: how much each row counts.
        strengths: strongest first; each starts where the one before ended.
        tol: duality gap, as a share of the objective, at which a column is done.
    """
    shared = _Products(X)
    columns = [_Column(shared, *both) for both in zip(sign, size, strict=True)]
    for strength in _approach(max(_slopes(shared, columns)), strengths[0]):
        _descend(shared, columns, strength, tol=0.0, max_steps=1)
    found: list[SparseSolution] = []
    for strength in strengths:
        gap = _descend(shared, columns, strength, tol=tol, max_steps=max_steps)
        weight = np.stack([column.weight for column in columns], axis=1)
        bias = np.array([column.bias for column in columns])
        found.append(SparseSolution(weight=weight, bias=bias, gap=gap))
    return found


def _approach(largest: float, strongest: float) -> list[float]:
    """Strengths on the way from where all weights are zero: Newton steps from afar go astray."""
    n_between = int(np.ceil(np.log(max(largest / strongest, 1.0)) / np.log(_STRIDE)))
    return [strongest * _STRIDE**power for power in range(n_between - 1, 0, -1)]


def _slopes(shared: "_Products", columns: Sequence["_Column"]) -> list[float]:
    """Largest slope of the loss of each column."""
    return [float(np.abs(row).max()) for row in shared.adjoint([c.residual() for c in columns])]


def _descend(
    shared: "_Products",
    columns: Sequence["_Column"],
    strength: float,
    *,
    tol: float,
    max_steps: int,
) -> Float[np.ndarray, "column"]:
    """Move every column to its optimum; the duality gaps where they end."""
    gap = np.full(len(columns), np.inf)
    left = list(range(len(columns)))
    for step in range(max_steps + 1):
        slopes = dict(zip(left, shared.adjoint([columns[c].residual() for c in left]), strict=True))
        if tol > 0:
            for c in left:
                gap[c] = columns[c].gap(slopes[c], strength)
        left = [c for c in left if gap[c] > tol]
        if not left or step == max_steps:
            break
        steps = [columns[c].step(slopes[c], strength) for c in left]
        along = shared.forward([change for change, _ in steps])
        moved = [
            columns[c].move(*change, towards, strength)
            for c, change, towards in zip(left, steps, along, strict=True)
        ]
        left = [c for c, did in zip(left, moved, strict=True) if did]
        if not left:
            break
    return gap


class _Products:
    """Products with the matrix, for several columns at once, in float64: slopes are small differences of sums."""

    def __init__(self, X: Matrix) -> None:
        self.X: Any = (
            sp.csr_matrix(X, dtype=np.float64) if is_sparse(X) else np.asarray(X, dtype=np.float64)
        )
        self._XT: Any = sp.csr_matrix(self.X.T) if is_sparse(X) else self.X.T
        self._squares: Any = square(self.X)
        self.length = np.asarray(self._squares.sum(axis=1)).ravel() + 1.0
        """Squared length of each row with its offset."""

    def curvature(self, of_rows: Float[np.ndarray, "tok"]) -> Float[np.ndarray, "d"]:
        """Of every feature by itself."""
        return np.asarray(self._squares.T @ of_rows)

    def forward(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Rows times weights."""
        return list(np.ascontiguousarray((self.X @ np.stack(weights, axis=1)).T))

    def adjoint(self, residuals: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Columns times residuals."""
        return list(np.ascontiguousarray((self._XT @ np.stack(residuals, axis=1)).T))


class _Column:
    """One label's problem and where it stands."""

    def __init__(self, shared: _Products, sign: np.ndarray, size: np.ndarray) -> None:
        self._shared, self._sign = shared, torch.from_numpy(sign).double()
        self._size = torch.from_numpy(size).double() * self._sign.abs()
        positive = float(self._size[self._sign > 0].sum())
        self._positive, self._n_near = positive, 0
        self._steepest = shared.curvature(self._size.numpy()) / 4 + 1e-12
        self.weight = np.zeros(size_of(shared.X)[1])
        self.bias = float(np.log(positive / (float(self._size.sum()) - positive)))
        self._logits: Tensor = torch.full_like(self._sign, self.bias)

    def residual(self) -> Float[np.ndarray, "tok"]:
        """Derivative of the loss by the logits, the heavier class scaled down so that it sums to zero."""
        self._centre()
        share = torch.sigmoid(self._logits)
        residual = self._size * torch.where(self._sign > 0, share - 1, share)
        up = float(residual.clamp(min=0).sum())
        down = up - float(residual.sum())
        lighter = min(up, down)
        residual *= torch.where(self._sign < 0, lighter / up, lighter / down)
        self._residual = residual
        return residual.numpy()

    def gap(self, slope: Float[np.ndarray, "d"], strength: float) -> float:
        """Distance of the objective from that of a feasible dual point, as a share of the objective."""
        largest = float(np.abs(slope).max())
        if largest > _NEAR * strength:
            return np.inf
        share = self._residual.abs() / self._size.clamp(min=1e-300) * min(1.0, strength / largest)
        share.clamp_(max=1.0)
        entropy = torch.special.entr(share) + torch.special.entr(1 - share)
        primal = self._objective(self._logits, self.weight, strength)
        return (primal - float(self._size @ entropy)) / primal

    def step(
        self, slope: Float[np.ndarray, "d"], strength: float
    ) -> tuple[Float[np.ndarray, "d"], float]:
        """Towards the minimum of the quadratic model on the working set: change of the weights and the offset."""
        features = working_set(self.weight, slope, strength)
        if not len(features):
            return np.zeros_like(self.weight), 0.0
        self._n_near = self._n_near + 1 if np.abs(slope).max() < _NEAR * strength else 0
        n_rows = max(_MIN_ROWS, _ROWS_PER_FEATURE * len(features) * 4 ** min(self._n_near, 9))
        hessian, on_offset, offset = self._curvatures(features, n_rows)
        # The offset is free, so it is eliminated.
        reduced = hessian - np.outer(on_offset, on_offset) / offset
        start = self.weight[features]
        change = lasso_on_gram(reduced, slope[features], start, strength) - start
        out = np.zeros_like(self.weight)
        out[features] = change
        return out, -float(on_offset @ change) / offset

    def move(
        self,
        change: Float[np.ndarray, "d"],
        bias_change: float,
        along: Float[np.ndarray, "tok"],
        strength: float,
    ) -> bool:
        """Go along a step, halved while that decreases the objective more; whether it decreases at all."""
        towards = torch.from_numpy(along) + bias_change

        def at(length: float) -> float:
            logits, weight = self._logits + length * towards, self.weight + length * change
            return self._objective(logits, weight, strength)

        before, length, value = at(0.0), 1.0, at(1.0)
        for _ in range(_HALVINGS):
            shorter = at(length / 2)
            # Where the whole step is good, half of it is not better.
            if value < before and value <= shorter:
                break
            length, value = length / 2, shorter
        if value >= before:
            return False
        self._logits = self._logits.add(towards, alpha=length)
        self.weight = self.weight + length * change
        self.bias += length * bias_change
        return True

    def _centre(self) -> None:
        """A Newton step on the offset alone."""
        share = torch.sigmoid(self._logits)
        expected = self._size * share
        slope = float(expected.sum()) - self._positive
        step = slope / max(float(expected @ (1 - share)), 1e-300)
        if abs(step) < 1:
            self._logits = self._logits.sub(step)
            self.bias -= step

    def _objective(self, logits: Tensor, weight: np.ndarray, strength: float) -> float:
        losses = torch.nn.functional.softplus(-self._sign * logits)
        return float(self._size @ losses) + strength * float(np.abs(weight).sum())

    def _curvatures(
        self, features: Integer[np.ndarray, "feature"], n_rows: int
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Curvature between features, of features with the offset, and of the offset, from a sample of rows."""
        share = torch.sigmoid(self._logits)
        curvature = (self._size * share * (1 - share)).numpy()
        rows, factor = sampled(curvature * self._shared.length, n_rows)
        scale = np.sqrt(factor / self._shared.length[rows])
        part: Any = self._shared.X[rows][:, features]
        scaled: Any = scaled_rows(part, scale)
        product: Any = scaled.T.tocsr() @ scaled if sp.issparse(part) else scaled.T @ scaled
        hessian = np.asarray(product.toarray() if sp.issparse(product) else product)
        # A feature that fires on few rows may have none in the sample: its own curvature comes from all rows.
        own = self._shared.curvature(curvature)[features]
        # Where a step went too far the loss is flat, and the way back must not be endless.
        own = np.maximum(own, np.diag(hessian)) * (1 + _DAMPING) + _FLOOR * self._steepest[features]
        np.fill_diagonal(hessian, own)
        return hessian, np.asarray(scaled.T @ scale), float(np.square(scale).sum())
