"""Mean, variance and row norms of activations, in one pass, and the merging of parts.

Sums of float64 about a row of the data lose no digits to a large mean; parts are merged around their own means
(Chan, Golub and LeVeque 1983), so that it does not matter how a store is cut into shards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

_BLOCK_NUMBERS = 1 << 17
"""Numbers that are looked at together: 1 MiB of float64 stays in a core's cache."""


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
    if not n_rows:
        return ActsStatistics(
            moments=Moments.none(width), norms=torch.zeros(0, dtype=torch.float64)
        )
    step = max(16, _BLOCK_NUMBERS // max(width, 1))
    shift = acts[0].double()
    total, squares = (torch.zeros(width, dtype=torch.float64) for _ in range(2))
    norms = torch.empty(n_rows, dtype=torch.float64)
    block = torch.empty(min(step, n_rows), width, dtype=torch.float64)
    for start in range(0, n_rows, step):
        part = block[: len(acts[start : start + step])]
        part.copy_(acts[start : start + step])
        torch.linalg.vector_norm(part, dim=1, out=norms[start : start + len(part)])
        part.sub_(shift)
        total += part.sum(0)
        squares += part.square_().sum(0)
    moments = Moments(
        count=n_rows,
        mean=shift + total / n_rows,
        m2=(squares - total.square() / n_rows).clamp_(min=0),
    )
    return ActsStatistics(moments=moments, norms=norms)
