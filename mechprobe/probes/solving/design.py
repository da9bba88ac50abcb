"""Rows in blocks: what the solvers need of a matrix, whether it lies in memory or is read again in each pass.

Products stand the long way round, one row a column of the problem: with 2 to 11 columns MKL's `X.T @ R` took four
times as long as with 18 (100 against 27 ms at 8 000 x 2 048), `R.T @ X` never did.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.probes.matrix import Matrix, is_sparse, size_of

BLOCK_BYTES = 1 << 22
"""A block this large stays in the cache between its two products."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """Some consecutive rows."""

    start: int
    stop: int
    X: Tensor | sp.csr_matrix

    def forward(self, weight: Float[Tensor, "column d"]) -> Float[Tensor, "column tok"]:
        """Rows times weights."""
        if isinstance(self.X, Tensor):
            return weight @ self.X.mT
        product: Any = self.X @ weight.mT.contiguous().numpy()
        return torch.from_numpy(product).mT.contiguous()

    def adjoint(self, residual: Float[Tensor, "column tok"]) -> Float[Tensor, "column d"]:
        """Columns times residuals."""
        if isinstance(self.X, Tensor):
            return residual @ self.X
        product: Any = self.X.T @ residual.mT.contiguous().numpy()
        return torch.from_numpy(product).mT


@runtime_checkable
class Rows(Protocol):
    """Rows that can be passed over again and again, in the same order."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        ...

    @property
    def device(self) -> torch.device:
        """Where is computed."""
        ...

    @property
    def is_sparse(self) -> bool:
        """Whether blocks are sparse."""
        ...

    def blocks(self) -> Iterator[Block]:
        """One pass."""
        ...


class Design:
    """A matrix in memory. Half precision is widened, since sums over rows would lose it."""

    def __init__(self, X: Matrix, *, device: str = "cpu") -> None:
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        self.dtype = torch.float64 if dtype is np.float64 else torch.float32
        self.shape = size_of(X)
        self.is_sparse = is_sparse(X)
        # Sparse products are scipy's, on the processor.
        self.device = torch.device("cpu" if self.is_sparse else device)
        n_rows = block_rows(self.shape[1], self.dtype.itemsize) if not self.is_sparse else 16384
        whole: Any = sp.csr_matrix(X, dtype=dtype) if self.is_sparse else self._dense(X, dtype)
        self._blocks = [
            Block(start=at, stop=min(at + n_rows, self.shape[0]), X=whole[at : at + n_rows])
            for at in range(0, self.shape[0], n_rows)
        ]

    def _dense(self, X: Matrix, dtype: type[np.floating[Any]]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.asarray(X), dtype=dtype)).to(self.device)

    def blocks(self) -> Iterator[Block]:
        """One pass."""
        return iter(self._blocks)


def block_rows(width: int, itemsize: int = 4) -> int:
    """How many rows of this width make a block."""
    return max(64, BLOCK_BYTES // (max(1, width) * itemsize))
