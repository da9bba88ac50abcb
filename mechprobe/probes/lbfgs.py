"""Many logistic problems over the same rows by one L-BFGS (Nocedal and Wright, Numerical Optimization, chapter 7).

Each problem is a column. A step costs two products with the matrix for all columns together, since the logits along
a search direction follow from one product. Columns that are done leave.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.probes.matrix import Matrix, is_sparse, size_of

_MEMORY = 10
_HALVINGS = 25
_REFRESH = 20
"""Steps after which the logits are computed anew: summed updates drift in float32."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Columns:
    """Independent logistic problems over the same rows: indicators vary slowest, strengths fastest."""

    sign: Float[np.ndarray, "tok indicator"]
    """+1 positive, -1 negative, 0 left out."""
    strengths: Float[np.ndarray, "strength"]
    free: Float[np.ndarray, "d column"] | None = None
    """1 where a weight may differ from zero; None: everywhere."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Solution:
    """Weights and offsets of the columns."""

    weight: Float[np.ndarray, "d column"]
    bias: Float[np.ndarray, "column"]


class Design:
    """A matrix that multiplies and is multiplied: dense in torch, sparse in scipy."""

    def __init__(self, X: Matrix) -> None:
        # Half precision is widened: sums over rows would lose it.
        self.dtype = torch.float64 if X.dtype == np.float64 else torch.float32
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        self.shape = size_of(X)
        if is_sparse(X):
            rows = sp.csr_matrix(X, dtype=dtype)
            self._products = _sparse_products(rows, sp.csr_matrix(rows.T))
        else:
            self._products = _dense_products(torch.from_numpy(np.ascontiguousarray(X, dtype=dtype)))

    def forward(self, weight: Float[Tensor, "d column"]) -> Float[Tensor, "tok column"]:
        """Rows times weights."""
        return self._products[0](weight)

    def adjoint(self, residual: Float[Tensor, "tok column"]) -> Float[Tensor, "d column"]:
        """Columns times residuals."""
        return self._products[1](residual)


def _dense_products(X: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    return X.__matmul__, X.mT.__matmul__


def _sparse_products(
    rows: sp.csr_matrix, columns: sp.csr_matrix
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    return (
        lambda weight: torch.from_numpy(rows @ weight.numpy()),
        lambda residual: torch.from_numpy(columns @ residual.numpy()),
    )


def minimise(design: Design, columns: Columns, *, tol: float, max_steps: int = 500) -> Solution:
    """Minimise mean log loss + l2_strength / (2 n) |w|^2 of every column by L-BFGS with backtracking."""
    problem = _Problem(design, columns)
    theta = torch.zeros(design.shape[1] + 1, problem.n_columns, dtype=design.dtype)
    done = torch.empty_like(theta)
    active = torch.arange(problem.n_columns)
    logits = torch.zeros(design.shape[0], problem.n_columns, dtype=design.dtype)
    history = _History()
    value, gradient = problem.value(theta, logits), problem.gradient(theta, logits)
    for step in range(max_steps):
        unfinished = gradient.abs().amax(dim=0) > tol
        if not unfinished.all():
            done[:, active[~unfinished]] = theta[:, ~unfinished]
            if not unfinished.any():
                break
            keep = torch.nonzero(unfinished).squeeze(1)
            active, theta, logits = active[keep], theta[:, keep], logits[:, keep]
            value, gradient = value[keep], gradient[:, keep]
            problem.keep(keep)
            history.keep(keep)
        direction = history.direction(gradient)
        moved, logits, value, still = problem.search(theta, logits, value, gradient, direction)
        if (step + 1) % _REFRESH == 0:
            logits = problem.logits(moved)
            value = problem.value(moved, logits)
        new_gradient = problem.gradient(moved, logits)
        history.add(moved - theta, new_gradient - gradient)
        # A column that no step improves is at the limit of its precision.
        theta, gradient = moved, torch.where(still, 0.0, new_gradient)
    else:
        done[:, active] = theta
    found = done.numpy().astype(np.float64)
    return Solution(weight=found[:-1], bias=found[-1])


class _Problem:
    """Loss and gradient of the columns that are still being fitted."""

    def __init__(self, design: Design, columns: Columns) -> None:
        self._design = design
        n_strengths = len(columns.strengths)
        sign = torch.from_numpy(columns.sign).to(design.dtype)
        self._sign = sign.repeat_interleave(n_strengths, dim=1)
        self._n_used = (self._sign != 0).sum(dim=0).to(design.dtype)
        strengths = torch.from_numpy(columns.strengths).to(design.dtype)
        self._decay = strengths.repeat(columns.sign.shape[1]) / self._n_used
        self._free = (
            None if columns.free is None else torch.from_numpy(columns.free).to(design.dtype)
        )

    @property
    def n_columns(self) -> int:
        return len(self._n_used)

    def keep(self, columns: Tensor) -> None:
        self._sign = self._sign[:, columns]
        self._n_used, self._decay = self._n_used[columns], self._decay[columns]
        if self._free is not None:
            self._free = self._free[:, columns]

    def logits(self, theta: Tensor) -> Tensor:
        return self._design.forward(theta[:-1]) + theta[-1]

    def value(self, theta: Tensor, logits: Tensor) -> Tensor:
        margins = (self._sign * logits).neg_()
        losses = torch.nn.functional.softplus(margins).mul_(self._sign.abs())
        return losses.sum(dim=0) / self._n_used + self._decay / 2 * theta[:-1].square().sum(dim=0)

    def gradient(self, theta: Tensor, logits: Tensor) -> Tensor:
        residual = (self._sign * logits).neg_().sigmoid_().mul_(self._sign).div_(-self._n_used)
        weight_part = self._design.adjoint(residual) + self._decay * theta[:-1]
        if self._free is not None:
            weight_part = weight_part * self._free
        return torch.cat([weight_part, residual.sum(dim=0, keepdim=True)])

    def search(
        self, theta: Tensor, logits: Tensor, value: Tensor, gradient: Tensor, direction: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Halve each column's step until it decreases the loss enough (Armijo); also who found none."""
        along = self.logits(direction)
        slope = (gradient * direction).sum(dim=0)
        length, failed = torch.ones_like(value), torch.ones_like(value, dtype=torch.bool)
        for _ in range(_HALVINGS):
            moved, new_logits = theta + length * direction, torch.addcmul(logits, length, along)
            new_value = self.value(moved, new_logits)
            failed = ~(new_value <= value + 1e-4 * length * slope)
            if not failed.any():
                return moved, new_logits, new_value, failed
            length = torch.where(failed, length / 2, length)
        length = torch.where(failed, 0.0, length)
        moved, new_logits = theta + length * direction, torch.addcmul(logits, length, along)
        return moved, new_logits, self.value(moved, new_logits), failed


class _History:
    """The last steps and gradient changes of every column, and the direction they imply."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        curvature = (step * change).sum(dim=0)
        inverse = torch.where(curvature > 1e-30, 1 / curvature, 0.0)
        self._pairs = [*self._pairs[-_MEMORY + 1 :], (step, change, inverse)]

    def keep(self, columns: Tensor) -> None:
        self._pairs = [(s[:, columns], y[:, columns], r[columns]) for s, y, r in self._pairs]

    def direction(self, gradient: Tensor) -> Tensor:
        """Two-loop recursion (Nocedal and Wright, Numerical Optimization, algorithm 7.4)."""
        if not self._pairs:
            return -gradient / gradient.abs().sum(dim=0).clamp(min=1.0)
        q = gradient.clone()
        projections: list[Tensor] = []
        for step, change, inverse in reversed(self._pairs):
            projections.append(inverse * (step * q).sum(dim=0))
            q -= projections[-1] * change
        step, change, _ = self._pairs[-1]
        size = change.square().sum(dim=0)
        q *= torch.where(size > 0, (step * change).sum(dim=0) / size, 1.0)
        for (step, change, inverse), projection in zip(
            self._pairs, reversed(projections), strict=True
        ):
            q += (projection - inverse * (change * q).sum(dim=0)) * step
        return -q
