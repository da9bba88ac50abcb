"""Mean, variance and row norms of activations, in one pass, and the merging of parts.

Sums of float64 about a row of the data lose no digits to a large mean; parts are merged around their own means
(Chan, Golub and LeVeque 1983), so that it does not matter how a store is cut into shards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

_BLOCK_NUMBERS = 1 << 18
"""Numbers that are looked at together: 2 MiB of float64 stay near the core."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moments:
    """Count, mean and summed squared deviations of each column."""

    count: int
    mean: Float64[Tensor, "d"]
    m2: Float64[Tensor, "d"]

    @property
    def variance(self) -> Float64[Tensor, "d"]:
        """Population variance of each column; zero without rows."""
        return self.m2 / max(self.count, 1)

    @classmethod
    def none(cls, width: int) -> "Moments":
        """Those of no rows."""
        zeros = torch.zeros(width, dtype=torch.float64)
        return cls(count=0, mean=zeros, m2=zeros)

    @classmethod
    def merged(cls, parts: Sequence["Moments"], width: int) -> "Moments":
        """Those of all rows of the parts."""
        total = cls.none(width)
        for part in parts:
            total = total._with(part)
        return total

    def _with(self, other: "Moments") -> "Moments":
        if not other.count:
            return self
        count = self.count + other.count
        apart = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + apart * (other.count / count),
            m2=self.m2 + other.m2 + apart.square() * (self.count * other.count / count),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ActsStatistics:
    """What one pass over activations finds."""

    moments: Moments
    norms: Float64[Tensor, "tok"]
    """Euclidean norm of each row."""

    @property
    def is_finite(self) -> bool:
        """Whether every number is finite: in float64 a norm is, unless a term is not."""
        return bool(self.norms.isfinite().all())


def acts_statistics(acts: Float[Tensor, "tok d"]) -> ActsStatistics:
    """Moments of the columns and norms of the rows, whatever the dtype, in float64."""
    n_rows, width = acts.shape
    total, squares, norms = np.zeros(width), np.zeros(width), np.zeros(n_rows)
    # Half precision has so few digits that float64 sums of its squares are exact; float32 is summed about its first row.
    is_shifted = acts.dtype == torch.float32 and n_rows > 0
    shift = acts[0].double().numpy() if is_shifted else np.zeros(width)
    step = max(16, _BLOCK_NUMBERS // max(width, 1))
    block = torch.empty(min(step, n_rows), width, dtype=torch.float64)
    for start in range(0, n_rows, step):
        part = block[: min(step, n_rows - start)]
        part.copy_(acts[start : start + step])
        _add_block(part.numpy(), shift, is_shifted, total, squares, norms[start : start + step])
    count = max(n_rows, 1)
    # Rows that are not finite are found by their norms.
    with np.errstate(invalid="ignore", over="ignore"):
        moments = Moments(
            count=n_rows,
            mean=torch.from_numpy(shift + total / count),
            m2=torch.from_numpy(squares - total**2 / count).clamp_(min=0),
        )
    return ActsStatistics(moments=moments, norms=torch.from_numpy(norms))


def _add_block(
    block: np.ndarray,
    shift: np.ndarray,
    is_shifted: bool,
    total: np.ndarray,
    squares: np.ndarray,
    norms: np.ndarray,
) -> None:
    """Add a block to the sums, and write its norms; products with ones sum twice as fast as sums do."""
    ones = np.ones(len(block))
    with np.errstate(invalid="ignore", over="ignore"):
        if is_shifted:
            np.sqrt(np.einsum("ij,ij->i", block, block), out=norms)
            block -= shift
        total += ones @ block
        block *= block
        squares += ones @ block
        if not is_shifted:
            np.sqrt(block @ np.ones(block.shape[1]), out=norms)
